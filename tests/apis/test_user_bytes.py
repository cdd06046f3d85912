"""Bytes of users by range: what comes back is exactly what the headers say it is, whatever was asked for."""

import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from buildyard.apis.user_bytes import TEXT, Beyond, Stored, serve_bytes
from buildyard.domain.ids import SECOND, Moment

AT = Moment(1_800_000_000 * SECOND + 5)
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


def stored(data: bytes, **more: object) -> Stored:
    """These bytes, read in pieces of three."""

    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        for position in range(start, stop, 3):
            yield data[position : min(stop, position + 3)]

    return Stored(size=len(data), read=read, **{"key": "k", **more})  # type: ignore[arg-type]


def asked(method: str = "GET", **headers: str) -> Request:
    """A request with these headers."""
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "path": "/", "headers": raw, "query_string": b""})


async def body_of(response: Response) -> bytes:
    """What it sends."""
    if not isinstance(response, StreamingResponse):
        return bytes(response.body)
    return b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[arg-type]


def check(response: Response, body: bytes, data: bytes) -> None:
    """The statuses and headers agree with each other and with the bytes."""
    if response.status_code == 416:
        assert (body, response.headers["content-range"]) == (b"", f"bytes */{len(data)}")
        return
    assert response.headers["content-length"] == str(len(body))
    if response.status_code == 200:
        assert body == data
        assert "content-range" not in response.headers
        return
    assert response.status_code == 206
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers["content-range"])
    assert match is not None
    start, last, total = int(match[1]), int(match[2]), match[3]
    assert total in ("*", str(len(data)))
    if body:
        assert body == data[start : last + 1]
    else:
        assert (start, last, total) == (len(data), len(data), "*")


NUMBERS = st.one_of(st.just(""), st.integers(0, 30).map(str), st.integers(10**17, 10**25).map(str))
RANGES = st.one_of(
    st.builds("bytes={}-{}".format, NUMBERS, NUMBERS),
    st.builds("{}={}-{},{}-{}".format, st.sampled_from(["bytes", "lines"]), NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12),
)


@settings(max_examples=400, deadline=None)
@given(
    data=st.binary(max_size=20),
    header=RANGES,
    beyond=st.sampled_from(Beyond),
    growing=st.booleans(),
    method=st.sampled_from(["GET", "HEAD"]),
)
async def test_any_range_is_answered_as_its_headers_say(
    data: bytes, header: str, beyond: Beyond, growing: bool, method: str
) -> None:
    whole = stored(data, appended=True, growing=growing)
    response = serve_bytes(asked(method, range=header), whole, beyond=beyond)

    if method == "HEAD":
        assert (response.status_code, response.headers["content-length"]) == (200, str(len(data)))
        assert await body_of(response) == b""
    else:
        check(response, await body_of(response), data)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6), etags=st.booleans())
async def test_who_asks_a_growing_log_again_from_where_he_stopped_has_all_of_it(
    data: bytes, cuts: list[int], etags: bool
) -> None:
    got, etag = b"", ""
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        headers = {"range": f"bytes={len(got)}-"} | ({"if_range": etag} if etag and etags else {})
        response = serve_bytes(asked(**headers), stored(data[:cut], appended=True, growing=True), beyond=Beyond.NOTHING)
        assert response.status_code == 206
        etag = response.headers["etag"]
        got += await body_of(response)
    assert got == data


@pytest.mark.covers("sourcehut.logs.range")
@pytest.mark.parametrize("header", ["bytes=0-", "bytes=5-", "bytes=0-0", "bytes=-1", "bytes=-0"])
async def test_an_empty_log_answers_any_range_with_206_and_no_body(header: str) -> None:
    response = serve_bytes(asked(range=header), stored(b"", appended=True, growing=True), beyond=Beyond.NOTHING)

    assert (response.status_code, response.headers["content-range"]) == (206, "bytes 0-0/*")
    assert (response.headers["content-length"], await body_of(response)) == ("0", b"")


async def test_what_the_asker_has_already_is_not_sent_again() -> None:
    whole = stored(b"hello", modified_at=AT)

    for header in ({"if_none_match": 'W/"x", "k"'}, {"if_none_match": "*"}, {"if_modified_since": DATE}):
        assert serve_bytes(asked(**header), whole).status_code == 304
    for header in (
        {"if_none_match": '"x"', "if_modified_since": DATE},
        {"if_modified_since": "Fri, 15 Jan 2027 07:59:59 GMT"},
        {"if_modified_since": "Fri, 15 Jan 99999 08:00:00 +9999999999"},
    ):
        assert serve_bytes(asked(**header), whole).status_code == 200


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"k"', 206), (DATE, 206), ('"other"', 200), ('W/"k"', 200), ("Fri, 15 Jan 2027 07:59:59 GMT", 200)],
)
async def test_a_range_for_a_file_that_changed_gets_the_whole(condition: str, status: int) -> None:
    whole = stored(b"hello", modified_at=AT)

    response = serve_bytes(asked(range="bytes=1-2", if_range=condition), whole)

    assert (response.status_code, await body_of(response)) == (status, b"el" if status == 206 else b"hello")


@pytest.mark.parametrize(("condition", "status"), [('"k-3"', 206), ('"k-5"', 206), ('"k-6"', 200), ('"x-3"', 200)])
async def test_what_a_log_was_before_still_counts_since_it_only_grows(condition: str, status: int) -> None:
    log = stored(b"hello", appended=True, growing=True)

    assert serve_bytes(asked(range="bytes=3-", if_range=condition), log).status_code == status


def test_files_are_saved_and_text_is_shown_without_rights() -> None:
    file = serve_bytes(asked(), stored(b"<script>", filename='a "b"\r\n/ü.html')).headers
    text = serve_bytes(asked(), stored(b"<script>", media=TEXT)).headers

    assert file["content-type"] == "application/octet-stream"
    plain = "a__b_____.html"
    assert (
        file["content-disposition"]
        == f"attachment; filename=\"{plain}\"; filename*=UTF-8''a%20%22b%22%0D%0A%2F%C3%BC.html"
    )
    assert (text["content-type"], "content-disposition" in text) == (TEXT, False)
    for headers in (file, text):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("sandbox")
        assert "no-transform" in headers["cache-control"]
