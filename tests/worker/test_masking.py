"""Masking: whatever the chunks, the same text comes out, and no secret is in it."""

import base64
import random
from collections.abc import Iterable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildyard.worker.masking import LONGEST_NEEDLE, Mask, MaskedStream

KEY = (
    b"-----BEGIN KEY-----\n"
    + b"\n".join(base64.b64encode(bytes([n]) * 51) for n in range(20))
    + b"\n-----END KEY-----\n"
)
"""A text of many lines, longer than any needle."""

letters = st.sampled_from(b"aabbc")
values = st.lists(st.lists(letters, min_size=4, max_size=90).map(bytes), min_size=1, max_size=4)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Values, and chunks of output made of them and of what looks like parts of them."""
    secrets = draw(values)
    parts = draw(
        st.lists(
            st.one_of(
                st.sampled_from(secrets),
                st.sampled_from(secrets).map(lambda value: value[: len(value) // 2]),
                st.sampled_from(secrets).map(base64.b64encode),
                st.lists(letters, max_size=6).map(bytes),
                st.binary(max_size=5).map(lambda data: data.replace(b"*", b"")),
            ),
            max_size=8,
        )
    )
    text = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return secrets, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def masked(mask: Mask, chunks: Iterable[bytes]) -> bytes:
    """What comes out of a stream."""
    stream = MaskedStream(mask)
    return b"".join([*(stream.feed(chunk) for chunk in chunks), stream.end()])


@pytest.mark.covers("logs.masking", "secrets.masking-chunks")
@settings(max_examples=300, deadline=None)
@given(outputs())
def test_any_chunks_give_the_same_text_and_no_secret_survives(case: tuple[list[bytes], list[bytes]]) -> None:
    secrets, chunks = case
    mask = Mask(secrets)
    whole = b"".join(chunks)

    out = masked(mask, chunks)

    assert out == masked(mask, [whole]) == masked(mask, [bytes([byte]) for byte in whole])
    assert not any(secret in out for secret in secrets)


@settings(max_examples=200, deadline=None)
@given(outputs())
def test_what_is_no_secret_comes_out_as_it_went_in(case: tuple[list[bytes], list[bytes]]) -> None:
    _, chunks = case

    assert masked(Mask([b"\x00\x01 quite another \x02"]), chunks) == b"".join(chunks)


@settings(max_examples=200, deadline=None)
@given(outputs(), st.data())
def test_after_quiet_moments_too_no_secret_survives_whole_and_nothing_is_lost(
    case: tuple[list[bytes], list[bytes]], data: st.DataObject
) -> None:
    secrets, chunks = case
    stream = MaskedStream(Mask(secrets))
    out = b""
    for chunk in chunks:
        out += stream.feed(chunk)
        if data.draw(st.booleans()):
            out += stream.rest()
    out += stream.end()

    assert not any(secret in out for secret in secrets)
    pieces = [piece for piece in out.split(b"***") if piece]
    assert all(piece in b"".join(chunks) for piece in pieces)


@pytest.mark.covers("secrets.masking-lines")
def test_each_line_of_a_value_is_masked_by_itself() -> None:
    out = masked(Mask([KEY]), [b"first " + line + b"\n" for line in KEY.splitlines()])

    assert out == b"first ***\n" * len(KEY.splitlines())
    assert masked(Mask([KEY]), [KEY]) == b"***\n"


@pytest.mark.covers("secrets.masking-encodings")
@pytest.mark.parametrize("before", ["", "x", "xy", "user:"])
@pytest.mark.parametrize("after", ["", "z", "zz", "@host"])
def test_a_value_inside_something_encoded_in_base64_is_masked(before: str, after: str) -> None:
    secret = "correct horse battery?"
    encoded = base64.b64encode(f"{before}{secret}{after}".encode())

    out = masked(Mask([secret.encode()]), [b"Authorization: Basic ", encoded])

    assert b"***" in out
    for rest in out.removeprefix(b"Authorization: Basic ").split(b"***"):
        for start in range(4):
            bare = rest[start:].rstrip(b"=")
            decoded = base64.b64decode(bare[: len(bare) // 4 * 4])
            assert not any(secret[at : at + 4].encode() in decoded for at in range(len(secret) - 3))


@pytest.mark.covers("secrets.masking-encodings")
@pytest.mark.parametrize(
    "encode",
    [
        base64.urlsafe_b64encode,
        lambda data: quote(data, safe="").encode(),
        lambda data: quote(data, safe="").lower().encode(),
        lambda data: quote(data).encode(),
        lambda data: data.replace(b'"', b'\\"'),
        lambda data: base64.encodebytes(data),
    ],
)
def test_encoded_values_are_masked(encode: object) -> None:
    secret = b'p\xc3\xa4ss/w?rd"+&=~~' * 6
    secret = secret.lower()

    out = masked(Mask([secret]), [b"<", encode(secret), b">"])  # type: ignore[operator]

    assert out.replace(b"\n", b"").replace(b"***", b"") == b"<>"


def test_only_the_possible_beginning_of_a_secret_is_held_back_and_a_short_one_not_for_long() -> None:
    stream = MaskedStream(Mask([b"secret-word"]))

    assert stream.feed(b"a line\nmy se") == b"a line\nmy "
    assert stream.is_holding
    assert stream.rest() == b"se"
    assert stream.feed(b"cret-word!") == b"***!"
    assert stream.feed(b"the secret-w") == b"the "
    assert not stream.is_holding
    assert stream.rest() == b""
    assert stream.feed(b"ay") == b"secret-way"


def test_however_long_a_value_is_little_is_held_back() -> None:
    value = base64.b64encode(random.Random(1).randbytes(20_000))
    stream = MaskedStream(Mask([value]))

    assert stream.feed(b"<" + value[:10_000]) == b"<***"
    assert len(stream.end()) < LONGEST_NEEDLE


def test_texts_are_masked_with_whatever_bytes_they_hold() -> None:
    assert Mask([b"hunter2"]).text("cannot open /tmp/hunter2/\udcff: no") == "cannot open /tmp/***/\udcff: no"
    assert Mask([]).text("as it is") == "as it is"
