"""Routes for the queue, and for answers that waiting work needs."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native import mapping
from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import decoded, whole
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.engine import approvals, watching
from buildyard.engine.engine import Engine
from buildyard.engine.queue import show_queue
from buildyard.engine.sign_in import PasswordGate


class QueueRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def get_queue(self, request: Request) -> Response:
        """What runs, what is queued, and what waits."""
        actor = await actor_of(request, self._engine, self._gate)
        limit = whole(request, "limit", 100, low=1, high=1000)
        slug = request.query_params.get("project", "")
        found = await self._engine.read(show_queue, actor, project_slug=slug, limit=limit)
        return _answer(mapping.queue(found))

    async def answer_approval(self, request: Request) -> Response:
        """Approve or reject."""
        actor = await actor_of(request, self._engine, self._gate)
        wanted = await decoded(request, messages.Verdict, limit=self._body_bytes)
        found = await watching.find_build(self._engine, actor, request.path_params["build"])
        answered = await self._engine.run(
            approvals.answer_approval,
            actor,
            found.build.uid,
            job=wanted.job,
            granted=wanted.granted,
            reason=wanted.reason,
        )
        return _answer(mapping.answered(answered))


def _answer(message: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(message), 200, {"cache-control": "no-store"}, media_type="application/json")


def queue_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes below `/-/api/v1`."""
    routes = QueueRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/queue", routes.get_queue, methods=["GET"]),
        Route(f"{BASE}/builds/{{build}}/approval", routes.answer_approval, methods=["POST"]),
    ]
