"""Routes for what is kept: rules, keep marks, and collecting garbage."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native import mapping
from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import decoded
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.errors import Fault, Invalid, NotFound
from buildyard.domain.retention import Bounds, What
from buildyard.engine import garbage, retention, watching
from buildyard.engine.engine import Engine
from buildyard.engine.projects import find_project
from buildyard.engine.sign_in import PasswordGate

MOST = {"days": 36_500, "count": 10_000_000, "size": 2**50}


class RetentionRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def _rules(self, actor: Actor, slug: str, pipeline: str) -> Response:
        rules = await self._engine.read(
            retention.list_rules,
            actor,
            await self._project_uid(actor, slug) if slug else "",
            pipeline,
            policy=self._engine.policy,
        )
        return _answer(messages.Rules(rules=[_rule(one) for one in rules]))

    async def _project_uid(self, actor: Actor, slug: str) -> str:
        project = await self._engine.read(find_project, actor, slug)
        if project is None:
            raise NotFound(f"project {slug} not found")
        return project.uid

    async def list_rules(self, request: Request) -> Response:
        """What holds on the server, in a project, or for a pipeline."""
        query = request.query_params
        return await self._rules(await self._actor(request), query.get("project", ""), query.get("pipeline", ""))

    async def set_rule(self, request: Request) -> Response:
        """Say what holds in a project or for a pipeline."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.NewRule, limit=self._body_bytes)
        slug = request.query_params.get("project", "")
        uid = await self._project_uid(actor, slug)
        what, bounds = _what(wanted.what), _bounds(wanted.bounds)
        await self._engine.run(retention.set_rule, actor, uid, wanted.pipeline, what, bounds)
        return await self._rules(actor, slug, wanted.pipeline)

    async def keep_build(self, request: Request) -> Response:
        """Set a build's keep mark, or take it away."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.Keep, limit=self._body_bytes)
        found = await watching.find_build(self._engine, actor, request.path_params["build"])
        view = await self._engine.run(
            retention.keep_build, actor, found.build.uid, keep=wanted.keep, reason=wanted.reason
        )
        return _answer(mapping.build(view))

    async def collect(self, request: Request) -> Response:
        """Collect garbage for about a second."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.Collect, limit=self._body_bytes)
        done = await garbage.collect_garbage(self._engine, actor, wanted.cursor, dry=wanted.dry_run)
        return _answer(messages.Collected(counts=done.counts, sizes=done.sizes, cursor=done.cursor))


def _answer(message: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(message), 200, {"cache-control": "no-store"}, media_type="application/json")


def _rule(view: retention.RuleView) -> messages.Rule:
    return messages.Rule(what=view.what, holds=_shown(view.holds), said=_shown(view.said))


def _shown(bounds: Bounds) -> messages.Bounds:
    return messages.Bounds(days=bounds.days, count=bounds.count, size=bounds.size)


def _what(word: str) -> What:
    try:
        return What(word)
    except ValueError:
        raise _invalid("what", f"must be one of {', '.join(What)}") from None


def _bounds(given: messages.Bounds) -> Bounds:
    values = {"days": given.days, "count": given.count, "size": given.size}
    for name, value in values.items():
        if value is not None and not 0 <= value <= MOST[name]:
            raise _invalid(f"bounds.{name}", f"must lie between 0 and {MOST[name]}")
    return Bounds(given.days, given.count, given.size)


def _invalid(path: str, message: str) -> Invalid:
    return Invalid(f"{path} {message}", (Fault(path, message, "bounds"),))


def retention_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes of this module."""
    routes = RetentionRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/retention", routes.list_rules, methods=["GET"]),
        Route(f"{BASE}/retention", routes.set_rule, methods=["PUT"]),
        Route(f"{BASE}/builds/{{build}}/keep", routes.keep_build, methods=["PUT"]),
        Route(f"{BASE}/gc", routes.collect, methods=["POST"]),
    ]
