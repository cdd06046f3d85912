"""Routes for workers: who they are, and what people wish of them."""

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import decoded
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.ids import iso
from buildyard.engine import workers
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate

if TYPE_CHECKING:
    from buildyard.engine.workers import WorkerView


def worker(view: "WorkerView") -> messages.Worker:
    """A worker as its wire type; where it is only for those who may know."""
    found = view.worker
    return messages.Worker(
        id=found.id,
        name=found.name,
        connected=found.connected,
        paused=found.paused,
        draining=found.draining,
        reason=found.pause_reason,
        slots=found.slots,
        busy=view.held,
        labels=sorted(found.offer.labels),
        executors=sorted(found.offer.executors),
        system=found.offer.system,
        project=view.project,
        version=found.version,
        protocol=found.protocol,
        host=found.host if view.with_place else "",
        address=found.address if view.with_place else "",
        created_at=iso(found.created_at),
        seen_at=iso(found.seen_at),
    )


def answer(message: msgspec.Struct) -> Response:
    """A message as JSON, not to be kept by anybody."""
    return Response(msgspec.json.encode(message), 200, {"cache-control": "no-store"}, media_type="application/json")


class WorkerRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def list_workers(self, request: Request) -> Response:
        """All workers."""
        views = await self._engine.read(workers.list_workers, await self._actor(request))
        return answer(messages.Workers(workers=[worker(view) for view in views]))

    async def pause_worker(self, request: Request) -> Response:
        """Take no more jobs."""
        actor, name = await self._actor(request), request.path_params["worker"]
        reason = (await decoded(request, messages.Reason, limit=self._body_bytes)).reason
        return answer(worker(await self._engine.run(workers.pause_worker, actor, name, reason=reason)))

    async def resume_worker(self, request: Request) -> Response:
        """Take jobs again."""
        actor, name = await self._actor(request), request.path_params["worker"]
        await decoded(request, messages.Reason, limit=self._body_bytes)
        return answer(worker(await self._engine.run(workers.resume_worker, actor, name)))

    async def drain_worker(self, request: Request) -> Response:
        """Finish and leave."""
        actor, name = await self._actor(request), request.path_params["worker"]
        reason = (await decoded(request, messages.Reason, limit=self._body_bytes)).reason
        return answer(worker(await self._engine.run(workers.drain_worker, actor, name, reason=reason)))

    async def remove_worker(self, request: Request) -> Response:
        """Be off the list."""
        actor, name = await self._actor(request), request.path_params["worker"]
        wish = await decoded(request, messages.Removal, limit=self._body_bytes)
        gone = await workers.remove_worker(self._engine, actor, name, force=wish.force, reason=wish.reason)
        return answer(messages.Removed(name=name, lost=len(gone.lost)))


def worker_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes of this module."""
    routes = WorkerRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/workers", routes.list_workers, methods=["GET"]),
        Route(f"{BASE}/workers/{{worker}}/pause", routes.pause_worker, methods=["POST"]),
        Route(f"{BASE}/workers/{{worker}}/resume", routes.resume_worker, methods=["POST"]),
        Route(f"{BASE}/workers/{{worker}}/drain", routes.drain_worker, methods=["POST"]),
        Route(f"{BASE}/workers/{{worker}}/remove", routes.remove_worker, methods=["POST"]),
    ]
