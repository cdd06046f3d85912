"""Routes for triggers: which there are, and firing one by hand."""

from typing import TYPE_CHECKING

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
from buildyard.domain.ids import Moment, iso
from buildyard.engine import triggers
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate

if TYPE_CHECKING:
    from buildyard.engine.triggers import TriggerView


def trigger(view: "TriggerView") -> messages.Trigger:
    """A trigger as its wire type."""
    found, state = view.trigger, view.state
    return messages.Trigger(
        name=found.name,
        kind=found.kind,
        project=view.project.slug,
        pipelines=list(view.pipelines),
        enabled=found.enabled,
        spec=msgspec.to_builtins(found.spec),
        defined_by=found.defined_by,
        checked_at=_time(state.checked_at),
        next_at=_time(state.next_at),
        error=state.error,
        error_at=_time(state.error_at),
    )


def _time(moment: Moment | None) -> str | None:
    return None if moment is None else iso(moment)


def answer(message: msgspec.Struct, status: int = 200) -> Response:
    """A message as JSON, not to be kept by anybody."""
    return Response(msgspec.json.encode(message), status, {"cache-control": "no-store"}, media_type="application/json")


class TriggerRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def list_triggers(self, request: Request) -> Response:
        """All triggers, or those of a project."""
        actor, slug = await self._actor(request), request.query_params.get("project", "")
        views = await self._engine.read(triggers.list_triggers, actor, slug)
        return answer(messages.Triggers(triggers=[trigger(view) for view in views]))

    async def get_trigger(self, request: Request) -> Response:
        """One trigger."""
        actor = await self._actor(request)
        return answer(trigger(await self._engine.read(triggers.get_trigger, actor, request.path_params["trigger"])))

    async def fire_trigger(self, request: Request) -> Response:
        """Start its builds."""
        actor = await self._actor(request)
        wish = await decoded(request, messages.Wish, limit=self._body_bytes)
        self._engine.require_space()
        views = await self._engine.run(
            triggers.fire_trigger,
            actor,
            request.path_params["trigger"],
            triggers.Wish(parameters=wish.parameters, branch=wish.branch, commit=wish.commit, note=wish.note),
            queue_limit=self._engine.policy.queue_limit,
        )
        return answer(messages.Builds(builds=[mapping.build(view) for view in views]), 201)


def trigger_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes of this module."""
    routes = TriggerRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/triggers", routes.list_triggers, methods=["GET"]),
        Route(f"{BASE}/triggers/{{trigger}}", routes.get_trigger, methods=["GET"]),
        Route(f"{BASE}/triggers/{{trigger}}/fire", routes.fire_trigger, methods=["POST"]),
    ]
