"""One table from our errors to statuses, and one body."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from buildyard.client import messages
from buildyard.domain.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

STATUS: dict[type[EngineError], int] = {
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


def on_engine_error(_request: Request, exc: Exception) -> Response:
    """The answer to an error of the engine."""
    status = next(STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS)
    faults = exc.faults if isinstance(exc, Invalid) else ()
    return _answer(status, str(exc), [messages.Fault(path=f.path, message=f.message, code=f.code) for f in faults])


def on_http_error(_request: Request, exc: Exception) -> Response:
    """The answer to unknown paths and wrong methods."""
    return _answer(getattr(exc, "status_code", 500), getattr(exc, "detail", "error"), [])


def _answer(status: int, text: str, faults: list[messages.Fault]) -> Response:
    headers = {"www-authenticate": 'Bearer realm="buildyard"'} if status == 401 else None
    body = msgspec.json.encode(messages.Failure(error=text, faults=faults))
    return Response(body, status, headers, media_type="application/json")
