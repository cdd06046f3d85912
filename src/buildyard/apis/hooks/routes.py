"""`POST /-/hooks/{forge}/{name}`: verify, read, start what it is a reason for, answer in a sentence."""

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.hooks import bitbucket, bitbucket_server, github, gitlab, signatures
from buildyard.apis.hooks.fields import Ignored, Told
from buildyard.apis.http import body_of, retry_after_of, status_of
from buildyard.domain.access import Actor, ActorKind
from buildyard.domain.errors import (
    EngineError,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from buildyard.domain.hooks import Forge, Hook
from buildyard.domain.ids import Moment
from buildyard.engine.engine import Engine, system_clock
from buildyard.engine.receiving import Delivery, Received, receive_delivery

PATH = "/-/hooks"
MOST_BODY = 25 * 1024 * 1024
"""The largest delivery that a forge sends (GitHub's limit)."""

INLINE = 256 * 1024
"""Larger bodies are verified and read in a thread."""

HookBook = Callable[[], Mapping[str, Hook]]
"""Gives the hooks of now by name."""

STATUS: dict[type[EngineError], int] = {
    NotFound: 404,
    Unauthenticated: 401,
    Forbidden: 403,
    Invalid: 400,
    TooLarge: 413,
    LimitReached: 429,
    Unavailable: 503,
    EngineError: 500,
}
EVENT_HEADERS: dict[Forge, tuple[str, ...]] = {
    Forge.GITHUB: ("x-github-event",),
    Forge.GITEA: ("x-gitea-event", "x-github-event"),
    Forge.FORGEJO: ("x-forgejo-event", "x-gitea-event", "x-github-event"),
    Forge.GITLAB: ("x-gitlab-event",),
    Forge.BITBUCKET: ("x-event-key",),
    Forge.BITBUCKET_SERVER: ("x-event-key",),
}
READERS: dict[Forge, Callable[[str, bytes], Told]] = {
    Forge.GITHUB: github.read,
    Forge.GITEA: github.read,
    Forge.FORGEJO: github.read,
    Forge.GITLAB: gitlab.read,
    Forge.BITBUCKET: bitbucket.read,
    Forge.BITBUCKET_SERVER: bitbucket_server.read,
}


class Answer(msgspec.Struct, omit_defaults=True):
    """What a forge shows to those who look at its deliveries."""

    message: str
    builds: tuple[str, ...] = ()
    repeated: bool = False


class HookRoutes:
    """The handler, with the engine that it works on and the hooks that it knows."""

    def __init__(self, engine: Engine, book: HookBook, most_body: int, clock: Callable[[], Moment]) -> None:
        self._engine = engine
        self._book = book
        self._most_body = most_body
        self._clock = clock

    async def receive(self, request: Request) -> Response:
        """Take one delivery."""
        hook = self._hook(request.path_params["forge"], request.path_params["name"])
        body = await body_of(request, self._most_body)
        delivery = signatures.Request(_headers(request), body, self._clock())
        key, event, told = await _off_loop(len(body), lambda: _read(hook, delivery))
        if isinstance(told, Ignored):
            return _answer(Answer(told.why), 200 if told.is_ping else 202)
        received = await self._receive(hook, key, event, told)
        return _answer(Answer(received.message, received.builds, received.repeated), 200)

    async def _receive(self, hook: Hook, key: str, event: str, told: Told) -> Received:
        assert not isinstance(told, Ignored)
        self._engine.require_space()
        actor = Actor(kind=ActorKind.SYSTEM, name=f"hook {hook.name}")
        taken = Delivery(hook=hook.name, key=key, event=event, projects=hook.projects)
        return await self._engine.run(receive_delivery, actor, taken, told, queue_limit=self._engine.policy.queue_limit)

    def _hook(self, forge: str, name: str) -> Hook:
        hook = self._book().get(name)
        if hook is None or hook.forge != forge:
            raise NotFound(f"there is no hook {name!r} for {forge!r}; hooks are declared in the yard file")
        return hook


def _read(hook: Hook, request: signatures.Request) -> tuple[str, str, Told]:
    """Verify first, and only then look at what it says."""
    key = signatures.verified(hook.forge, request, hook.secrets)
    names = EVENT_HEADERS[hook.forge]
    event = next((request.headers[name] for name in names if request.headers.get(name)), "")[:100]
    if not event:
        raise Invalid(f"the header {names[0]} is missing")
    return key, event, READERS[hook.forge](event, _payload(request))


def _payload(request: signatures.Request) -> bytes:
    """The JSON document: the body itself, or the field `payload` of a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return request.body
    try:
        found = parse_qs(request.body.decode("ascii"), max_num_fields=100).get("payload", [])
    except ValueError:
        raise Invalid("the body is not a form") from None
    if len(found) != 1:
        raise Invalid("a form must have the field payload, once")
    return found[0].encode("utf-8", "replace")


async def _off_loop(size: int, act: Callable[[], tuple[str, str, Told]]) -> tuple[str, str, Told]:
    return act() if size <= INLINE else await asyncio.to_thread(act)


def _headers(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _answer(answer: Answer, status: int) -> Response:
    return Response(msgspec.json.encode(answer), status, {"cache-control": "no-store"}, media_type="application/json")


def _on_engine_error(_request: Request, exc: Exception) -> Response:
    status = status_of(exc, STATUS)
    response = _answer(Answer(str(exc)), status)
    response.headers.update(retry_after_of(exc))
    return response


def _on_http_error(_request: Request, exc: Exception) -> Response:
    status = getattr(exc, "status_code", 500)
    response = _answer(Answer(str(getattr(exc, "detail", "error"))), status)
    response.headers.update(getattr(exc, "headers", None) or {})
    return response


def hooks_app(
    engine: Engine, book: HookBook, *, body_bytes: int = MOST_BODY, clock: Callable[[], Moment] = system_clock
) -> Starlette:
    """The sub-application for `/-/hooks`; a body may have `body_bytes`, and MOST_BODY at most."""
    routes = HookRoutes(engine, book, min(body_bytes, MOST_BODY), clock)
    return Starlette(
        routes=[Route(f"{PATH}/{{forge}}/{{name}}", routes.receive, methods=["POST"])],
        exception_handlers={EngineError: _on_engine_error, HTTPException: _on_http_error},
    )
