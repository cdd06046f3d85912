"""Forms as curl sends them, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.apis.sourcehut.forms import MULTIPART, URLENCODED, read_form
from buildyard.domain.errors import Invalid

pytestmark = pytest.mark.covers("sourcehut.rest.forms")
PARTS = f"{MULTIPART}; boundary=x"


def test_fields_keep_their_order_and_repeated_ones_all_their_values() -> None:
    assert read_form(URLENCODED, b"a=1&b=&a=%C3%BC+2") == {"a": ["1", "\u00fc 2"], "b": [""]}
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\n2\r\n\r\n--x\r\n'
    body += b'Content-Type: text/plain\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n--x--\r\n'
    assert read_form(PARTS, body) == {"a": ["1\n2\r\n", ""]}
    assert read_form("text/plain", b"a=1") == {}


@pytest.mark.parametrize(
    ("media", "body"),
    [
        (URLENCODED, b"a=%ff"),
        (URLENCODED, b"\xff=1"),
        (URLENCODED, b"&".join(b"a=1" for _ in range(1001))),
        (PARTS, b""),
        (PARTS, b"--y\r\n\xff"),
        (PARTS, b"--x\r\n\r\nvalue\r\n--x--"),
        (PARTS, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1'),
        (PARTS, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--'),
        (PARTS, b'--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n1\r\n--x--'),
        (MULTIPART, b"--x--"),
    ],
)
def test_what_is_no_form_is_refused(media: str, body: bytes) -> None:
    with pytest.raises(Invalid):
        read_form(media, body)


@given(st.binary(max_size=300), st.sampled_from([URLENCODED, PARTS, "", "text/plain"]))
def test_any_bytes_are_fields_or_refused(body: bytes, media: str) -> None:
    try:
        found = read_form(media, body)
    except Invalid:
        return
    assert all(values for values in found.values())
