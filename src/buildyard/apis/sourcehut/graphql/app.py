"""`POST /query`: who asks, bodies that are no request, and the page to try queries on, if it is switched on."""

from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from buildyard.apis.http import body_of, client_of
from buildyard.apis.sourcehut.graphql.execution import MISSING, GraphqlConfig, execute_query, is_installed
from buildyard.domain.access import ANONYMOUS, Actor
from buildyard.domain.errors import EngineError, Invalid, TooLarge, Unauthenticated
from buildyard.engine import identity
from buildyard.engine.engine import Engine

JSON_TYPES = ("application/json", "application/graphql+json")
SCHEMES = ("bearer", "token")
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "referrer-policy": "no-referrer",
}


class Query(msgspec.Struct, forbid_unknown_fields=False):
    """The body of a request."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = msgspec.field(name="operationName", default=None)


def graphql_app(engine: Engine, config: GraphqlConfig) -> Starlette:
    """The application at `/query`."""
    app = Starlette(
        routes=[
            Route("/query", partial(_post, engine, config), methods=["POST"]),
            Route("/query", partial(_get, config), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _on_http_error, Exception: _on_unforeseen},
    )
    app.router.redirect_slashes = False
    return app


async def _post(engine: Engine, config: GraphqlConfig, request: Request) -> Response:
    """One query. What is wrong with it is in its answer, with status 200; what is no query at all is refused."""
    if not is_installed():
        return _refusal(501, MISSING)
    words = request.headers.get("authorization", "").split(" ", 1)
    if words == [""]:
        told = "Authorization header is required. Expected 'Authorization: Bearer [token]'"
        return _refusal(401, f"Authentication error: {told}")
    if len(words) != 2 or words[0].lower() not in SCHEMES:
        return _refusal(400, "Authentication error: Invalid Authorization header")
    try:
        actor = await _actor(engine, request, words[1].strip())
    except Unauthenticated:
        return _refusal(403, "Authentication error: Invalid or expired OAuth 2.0 bearer token")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON_TYPES:
        return _refusal(400, "transport not supported: send application/json")
    try:
        asked = _decoded(await body_of(request, config.body_bytes))
        found = await execute_query(
            engine, actor, asked.query, variables=asked.variables, operation=asked.operation_name, config=config
        )
    except TooLarge as exc:
        return _refusal(413, str(exc))
    except EngineError as exc:
        return _refusal(400, str(exc))
    return _json(found)


async def _actor(engine: Engine, request: Request, token: str) -> Actor:
    ip, agent = client_of(request)
    return replace(await engine.read(identity.actor_of_token, ANONYMOUS, token), ip=ip, agent=agent)


def _decoded(body: bytes) -> Query:
    try:
        return msgspec.json.decode(body, type=Query)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid(f"json request body could not be decoded: {exc}") from None


async def _get(config: GraphqlConfig, _request: Request) -> Response:
    if not config.playground:
        return _refusal(405, "queries are sent with POST", allow="POST")
    page = files("buildyard.apis.sourcehut.graphql").joinpath("playground.html").read_text(encoding="utf-8")
    return HTMLResponse(page, headers=PAGE_HEADERS)


def _refusal(status: int, message: str, **headers: str) -> Response:
    return _json({"errors": [{"message": message}], "data": None}, status, headers)


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    given = {"cache-control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status, given, media_type="application/json")


async def _on_http_error(_request: Request, exc: Exception) -> Response:
    status: int = getattr(exc, "status_code", 500)
    return _refusal(status, str(getattr(exc, "detail", "error")), **(getattr(exc, "headers", None) or {}))


async def _on_unforeseen(_request: Request, _exc: Exception) -> Response:
    return _refusal(500, "internal server error")
