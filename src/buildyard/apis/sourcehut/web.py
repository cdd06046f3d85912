"""What this API shows outside of `/api` and `/query`: logs, artifacts, badges, feeds, pages. Errors are plain text."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from buildyard.apis.http import challenge_of, retry_after_of, status_of
from buildyard.apis.sourcehut.files import FileRoutes
from buildyard.apis.sourcehut.people import PeopleRoutes
from buildyard.domain.errors import EngineError
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate

PATHS = ("/logs", "/~*")
"""What this application owns, for the dispatcher."""


def on_engine_error(_request: Request, exc: Exception) -> Response:
    """The answer to an error of the engine."""
    status = status_of(exc)
    return _said(status, str(exc), {**retry_after_of(exc), **challenge_of(status)})


def on_http_error(_request: Request, exc: Exception) -> Response:
    """The answer to unknown addresses and wrong methods."""
    status: int = getattr(exc, "status_code", 500)
    words = {404: "there is nothing at this address", 405: "this method is not allowed here"}
    return _said(status, words.get(status, "error"), dict(getattr(exc, "headers", None) or {}))


def _said(status: int, text: str, headers: dict[str, str]) -> Response:
    return PlainTextResponse(f"{text}\n", status, {**headers, "cache-control": "no-store"})


def web_app(engine: Engine, gate: PasswordGate) -> Starlette:
    """The sub-application for PATHS."""
    app = Starlette(
        routes=[*FileRoutes(engine, gate).routes(), *PeopleRoutes(engine, gate).routes()],
        exception_handlers={EngineError: on_engine_error, 404: on_http_error, 405: on_http_error},
    )
    app.router.redirect_slashes = False
    return app
