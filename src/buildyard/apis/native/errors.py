"""One table from our errors to statuses, and one body."""

from collections.abc import Mapping

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from buildyard.apis.http import challenge_of, retry_after_of, status_of
from buildyard.client import messages
from buildyard.domain.errors import Invalid


def on_engine_error(_request: HTTPConnection, exc: Exception) -> Response:
    """The answer to an error of the engine."""
    status = status_of(exc)
    faults = exc.faults if isinstance(exc, Invalid) else ()
    shown = [messages.Fault(path=f.path, message=f.message, code=f.code) for f in faults]
    return _answer(status, str(exc), shown, retry_after_of(exc))


def on_http_error(_request: Request, exc: Exception) -> Response:
    """The answer to unknown paths and wrong methods."""
    return _answer(getattr(exc, "status_code", 500), getattr(exc, "detail", "error"), [])


def _answer(status: int, text: str, faults: list[messages.Fault], further: Mapping[str, str] | None = None) -> Response:
    headers = {**(further or {}), **challenge_of(status)}
    body = msgspec.json.encode(messages.Failure(error=text, faults=faults))
    return Response(body, status, headers, media_type="application/json")
