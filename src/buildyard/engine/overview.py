"""What is going on now, for whoever looks on: as much of it as they may see."""

from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission, may
from buildyard.domain.ids import Moment
from buildyard.domain.labels import requirement_of
from buildyard.engine.build_access import listed_builds
from buildyard.engine.fitting import why_queued
from buildyard.engine.projects import is_listed
from buildyard.engine.workers import require_signed_in
from buildyard.store import overview, projects, workers
from buildyard.store.overview import Queued, Running
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs that wait for a worker, and what for in words."""

    queued: Queued
    waits_for: str


@dataclass(frozen=True, slots=True)
class Overview:
    """What runs, longest first, and the queues, longest first; of the projects that the actor sees."""

    now: Moment
    running: tuple[Running, ...]
    queues: tuple[Queue, ...]


async def read_overview(tx: Transaction, actor: Actor) -> Overview:
    """What is going on now."""
    require_signed_in(actor)
    seen = {
        project.id
        for project in await projects.search(tx, None)
        if may(actor, Permission.READ, project.owner) and is_listed(actor, project.owner)
    }
    known = await workers.search(tx)
    queues = [
        Queue(one, why_queued(one.project, requirement_of(one.requirement_key), known))
        for one in await overview.queued(tx)
        if one.project in seen
    ]
    running = [one for one in await overview.running(tx) if one.project in seen]
    shown = await listed_builds(tx, actor, [one.build for one in running])
    running = [one for one in running if one.build in shown]
    return Overview(
        tx.now,
        tuple(sorted(running, key=lambda one: one.leased_at)),
        tuple(sorted(queues, key=lambda queue: -queue.queued.count)),
    )
