"""Routes for what is going on now, and for what people did."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import whole
from buildyard.apis.native.workers import answer, worker
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.ids import iso
from buildyard.domain.labels import requirement_of
from buildyard.engine import audit, overview, workers
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate
from buildyard.version import VERSION

if TYPE_CHECKING:
    from buildyard.engine.overview import Queue
    from buildyard.store.audit import Entry
    from buildyard.store.overview import Running

MOST_SHOWN = 300
HIGHEST = 2**31 - 1


def act(entry: "Entry") -> messages.Act:
    """An entry of the audit log."""
    return messages.Act(
        id=entry.id,
        uid=entry.uid,
        at=iso(entry.at),
        actor=entry.actor,
        action=entry.action,
        resource=entry.resource_id,
        project=entry.project_slug,
        reason=entry.reason,
        ip=entry.ip,
        agent=entry.agent,
        details=entry.details,
    )


def running(one: "Running") -> messages.RunningJob:
    """A job that runs."""
    return messages.RunningJob(
        build=one.build,
        project=one.project_slug,
        pipeline=one.pipeline,
        number=one.number,
        jobs_left=one.jobs_left,
        jobs_total=one.jobs_total,
        job=one.job,
        attempt=one.attempt,
        worker=one.worker,
        since=iso(one.leased_at),
        step=one.step,
    )


def queued(queue: "Queue") -> messages.QueuedJobs:
    """Jobs that wait."""
    wanted = requirement_of(queue.queued.requirement_key)
    return messages.QueuedJobs(
        project=queue.queued.project_slug,
        pipeline=queue.queued.pipeline,
        count=queue.queued.count,
        labels=list(wanted.labels),
        executor=wanted.executor,
        system=wanted.system,
        waits_for=queue.waits_for,
    )


class OverviewRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate) -> None:
        self._engine = engine
        self._gate = gate

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def get_overview(self, request: Request) -> Response:
        """What is going on now."""
        actor = await self._actor(request)
        found = await self._engine.read(overview.read_overview, actor)
        views = await self._engine.read(workers.list_workers, actor)
        return answer(
            messages.Overview(
                now=iso(found.now),
                version=VERSION,
                running_total=len(found.running),
                queued_total=sum(queue.queued.count for queue in found.queues),
                running=[running(one) for one in found.running[:MOST_SHOWN]],
                queued=[queued(queue) for queue in found.queues[:MOST_SHOWN]],
                workers=[worker(view) for view in views],
            )
        )

    async def list_acts(self, request: Request) -> Response:
        """A page of the audit log."""
        actor, query = await self._actor(request), request.query_params
        limit = whole(request, "limit", 50, low=1, high=1000)
        found = await self._engine.read(
            audit.read_audit,
            actor,
            project=query.get("project", ""),
            action=query.get("action", ""),
            user=query.get("user", ""),
            before=whole(request, "before", HIGHEST, low=1, high=HIGHEST),
            limit=limit,
        )
        acts = [act(entry) for entry in found]
        return answer(messages.Acts(acts=acts, before=acts[-1].id if len(acts) == limit else None))


def overview_routes(engine: Engine, gate: PasswordGate) -> list[Route]:
    """The routes of this module."""
    routes = OverviewRoutes(engine, gate)
    return [
        Route(f"{BASE}/overview", routes.get_overview, methods=["GET"]),
        Route(f"{BASE}/audit", routes.list_acts, methods=["GET"]),
    ]
