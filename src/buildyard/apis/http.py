"""What all APIs share of HTTP: who asks, bodies within limits, bytes of users, ranges."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from buildyard.domain.errors import Invalid, LimitReached, TooLarge

MIB = 1024 * 1024
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
USER_BYTES = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer whose bytes a user chose."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes `start` to `stop` (exclusive) of a whole of `size` bytes."""

    start: int
    stop: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of `Content-Range` (RFC 9110, section 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def client_of(request: Request) -> tuple[str, str]:
    """The address and the agent of who asks, as the audit log keeps them."""
    host = request.client.host if request.client else ""
    return host, request.headers.get("user-agent", "")[:200]


def retry_after_of(exc: Exception) -> dict[str, str]:
    """The header that says in how many seconds to try again, if an error tells."""
    return {"retry-after": str(exc.retry_after)} if isinstance(exc, LimitReached) and exc.retry_after else {}


async def body_of(request: Request, limit: int) -> bytes:
    """The whole body; raises TooLarge past `limit` bytes, without reading further."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge(f"the body is over the limit of {_size(limit)}")
    pieces: list[bytes] = []
    total = 0
    try:
        async for piece in request.stream():
            total += len(piece)
            if total > limit:
                raise TooLarge(f"the body is over the limit of {_size(limit)}")
            pieces.append(piece)
    except ClientDisconnect:
        raise Invalid("the body ended early") from None
    return b"".join(pieces)


async def stream_of(request: Request) -> AsyncIterator[bytes]:
    """The body piece by piece; a body that ends early raises Invalid, so that nothing partial is kept."""
    announced = request.headers.get("content-length", "")
    total = 0
    try:
        async for piece in request.stream():
            total += len(piece)
            yield piece
    except ClientDisconnect:
        raise Invalid("the body ended early") from None
    if announced.isdecimal() and total != int(announced):
        raise Invalid("the body ended early")


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB and count % MIB == 0 else f"{count} bytes"


def range_of(header: str | None, size: int) -> ByteRange | None:
    """The one satisfiable range that a `Range` header asks for; None means: send the whole (RFC 9110, section 14.2)."""
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        stop = min(size, int(match[2]) + 1) if match[2] else size
    return ByteRange(start, stop, size) if start < stop else None


def attachment(filename: str) -> str:
    """A `Content-Disposition` that saves the answer under a name (RFC 6266; other characters as RFC 8187 has them)."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", filename)
    encoded = "".join(_percent(filename))
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _percent(text: str) -> Iterator[str]:
    for byte in text.encode("utf-8", "surrogateescape"):
        character = chr(byte)
        yield character if character.isascii() and (character.isalnum() or character in "._-") else f"%{byte:02X}"


def user_bytes(
    pieces: AsyncIterator[bytes], *, size: int, filename: str, part: ByteRange | None = None, media: str = ""
) -> Response:
    """Stream bytes that a user chose so that no browser takes them for a page of ours."""
    headers = {**USER_BYTES, "content-disposition": attachment(filename), "accept-ranges": "bytes"}
    headers["content-length"] = str(part.stop - part.start if part else size)
    if part is not None:
        headers["content-range"] = part.content_range
    return StreamingResponse(pieces, 206 if part else 200, headers, media_type=media or "application/octet-stream")
