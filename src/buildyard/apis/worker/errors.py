"""Errors as workers get them: a Failure in MessagePack."""

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from buildyard.apis.http import status_of
from buildyard.domain.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Incompatible,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from buildyard.protocol import Failure

STATUS: dict[type[EngineError], int] = {
    NotFound: 404,
    Unauthenticated: 401,
    Forbidden: 403,
    Conflict: 409,
    Invalid: 400,
    Incompatible: 426,
    TooLarge: 413,
    LimitReached: 507,
    Unavailable: 503,
}


def failure(status: int, text: str) -> Response:
    """An answer that is not 2xx."""
    return Response(msgspec.msgpack.encode(Failure(error=text)), status, media_type="application/msgpack")


def on_engine_error(_request: HTTPConnection, exc: Exception) -> Response:
    """The answer to an error of the engine."""
    status = status_of(exc, STATUS)
    return failure(status, str(exc))


def on_http_error(_request: Request, exc: Exception) -> Response:
    """The answer to unknown paths and wrong methods."""
    return failure(getattr(exc, "status_code", 500), getattr(exc, "detail", "error"))
