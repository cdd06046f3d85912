"""Errors in Build Server's format: `{"error": "…", "details": [{"path", "message", "code"}]}`."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.build_server.schemas import Error, Fault
from buildyard.apis.http import status_of
from buildyard.domain.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Gone,
    Incompatible,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

STATUS: dict[type[EngineError], int] = {
    Gone: 410,
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
_HEADERS: dict[int, dict[str, str]] = {
    401: {"www-authenticate": 'Bearer realm="buildyard"'},
    503: {"retry-after": "5"},
    507: {"retry-after": "60"},
}
MOST_DETAILS = 1000
"""More faults than these are counted, not listed."""


def failure(
    status: int, text: str, details: list[Fault] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An answer that is not 2xx."""
    body = msgspec.json.encode(Error(error=text, details=details or []))
    return Response(body, status, {**_HEADERS.get(status, {}), **(headers or {})}, media_type="application/json")


def on_engine_error(_request: Request, exc: Exception) -> Response:
    """The answer to an error of the engine."""
    status = status_of(exc, STATUS)
    faults = exc.faults if isinstance(exc, Invalid) else ()
    details = [Fault(path=one.path, message=one.message, code=one.code) for one in faults[:MOST_DETAILS]]
    if len(faults) > MOST_DETAILS:
        details.append(Fault(path="", message=f"and {len(faults) - MOST_DETAILS} more", code="more"))
    return failure(status, str(exc), details)


def on_http_error(_request: Request, exc: Exception) -> Response:
    """The answer to unknown paths and wrong methods."""
    status: int = getattr(exc, "status_code", 500)
    words = {404: "there is nothing at this address", 405: "this method is not allowed here"}
    headers = {name.lower(): value for name, value in (getattr(exc, "headers", None) or {}).items()}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    return failure(status, words.get(status, str(getattr(exc, "detail", "error"))), headers=headers)


def on_unforeseen(_request: Request, _exc: Exception) -> Response:
    """The answer to what nobody foresaw; its traceback is in the server's log."""
    return failure(500, "internal server error")
