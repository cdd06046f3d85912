"""What all APIs share of HTTP: who asks, and bodies within limits."""

from collections.abc import AsyncIterator, Mapping

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from buildyard.domain.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Gone,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MIB = 1024 * 1024

STATUS: dict[type[EngineError], int] = {
    Gone: 410,
    NotFound: 404,
    Unauthenticated: 401,
    Forbidden: 403,
    Conflict: 409,
    Invalid: 400,
    TooLarge: 413,
    LimitReached: 429,
    Unavailable: 503,
    EngineError: 500,
}
"""The usual status of each error; an API says where its own differ."""


def client_of(request: HTTPConnection) -> tuple[str, str]:
    """The address and the agent of who asks, as the audit log keeps them."""
    host = request.client.host if request.client else ""
    return host, request.headers.get("user-agent", "")[:200]


def retry_after_of(exc: Exception) -> dict[str, str]:
    """The header that says in how many seconds to try again, if an error tells."""
    return {"retry-after": str(exc.retry_after)} if isinstance(exc, LimitReached) and exc.retry_after else {}


def status_of(exc: Exception, own: Mapping[type[EngineError], int] = STATUS) -> int:
    """The status of an error of the engine: that of the nearest of its kinds in the table."""
    return next(own[kind] for kind in type(exc).__mro__ if kind in own)


def challenge_of(status: int) -> dict[str, str]:
    """The header that goes with a 401."""
    return {"www-authenticate": 'Bearer realm="buildyard"'} if status == 401 else {}


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
