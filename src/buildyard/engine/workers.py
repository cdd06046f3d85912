"""Who works for this server, and what people wish of it: pause, resume, drain, remove."""

from dataclasses import dataclass, replace

from buildyard.domain.access import Actor, ActorKind, Permission, may_on_server, require_global
from buildyard.domain.errors import Conflict, Forbidden, NotFound, Unauthenticated
from buildyard.domain.ids import AttemptId
from buildyard.engine.engine import Engine
from buildyard.engine.leasing import lose_attempts
from buildyard.engine.loops import seal_logs_of
from buildyard.store import attempts, audit, projects, workers
from buildyard.store.transactions import Transaction
from buildyard.store.workers import Worker


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker, how many attempts it holds, the slug of its only project, and whether its place may be told."""

    worker: Worker
    held: int
    project: str
    with_place: bool


def require_signed_in(actor: Actor) -> None:
    """Raise unless `actor` is somebody who may read what they see."""
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated("sign in to see workers")
    if Permission.READ not in actor.allowed:
        raise Forbidden(f"{actor.name} may not read with this token")


async def list_workers(tx: Transaction, actor: Actor) -> list[WorkerView]:
    """All workers; for a token of one project those that may serve it. Where they are is for administrators."""
    require_signed_in(actor)
    held = await workers.holding(tx)
    with_place = may_on_server(actor, Permission.MANAGE_SERVER)
    slugs = {project.id: project.slug for project in await projects.search(tx, None)}
    return [
        WorkerView(worker, held.get(worker.id, 0), slugs.get(worker.project, "") if worker.project else "", with_place)
        for worker in await workers.search(tx)
        if actor.only_project is None or worker.project in (None, actor.only_project)
    ]


async def pause_worker(tx: Transaction, actor: Actor, name: str, *, reason: str) -> WorkerView:
    """Let a worker take no more jobs; it goes on with those it has. Again: only the reason changes."""
    worker = await _to_direct(tx, actor, name)
    return await _direct(tx, actor, worker, replace(worker, paused=True, pause_reason=reason), "pause", reason)


async def resume_worker(tx: Transaction, actor: Actor, name: str) -> WorkerView:
    """Let a paused or draining worker take jobs; one that has left already comes back when it is started."""
    worker = await _to_direct(tx, actor, name)
    return await _direct(
        tx, actor, worker, replace(worker, paused=False, draining=False, pause_reason=""), "resume", ""
    )


async def drain_worker(tx: Transaction, actor: Actor, name: str, *, reason: str) -> WorkerView:
    """Let a worker finish what it has, take nothing, and leave. Its next process is paused until resumed.

    One that is not connected has nothing to finish and is paused at once.
    """
    worker = await _to_direct(tx, actor, name)
    wished = replace(worker, paused=worker.paused or not worker.connected, draining=worker.connected)
    return await _direct(tx, actor, worker, replace(wished, pause_reason=reason), "drain", reason)


@dataclass(frozen=True, slots=True)
class Removal:
    """A removed worker and the attempts that were lost with it."""

    view: WorkerView
    lost: tuple[AttemptId, ...]


async def forget_worker(tx: Transaction, actor: Actor, name: str, *, force: bool, reason: str) -> Removal:
    """Take a worker off the list: one that is connected or holds work only by `force`, and its attempts are lost.

    Its process is refused from then on; a new one of the same name is a worker again.
    """
    worker = await _to_direct(tx, actor, name)
    held = [attempt.id for attempt in await attempts.open_of_worker(tx, worker.id)]
    if (worker.connected or held) and not force:
        state = f"holds {len(held)} jobs" if held else "is connected"
        raise Conflict(f"worker {name} {state}: drain it first, or remove it by force, which loses what it runs")
    gone = replace(worker, paused=False, draining=False, connected=False, pause_reason="", removed_at=tx.now)
    view = await _direct(tx, actor, worker, gone, "remove", reason)
    await lose_attempts(tx, actor, held, "its worker was removed")
    return Removal(replace(view, held=0), tuple(held))


async def remove_worker(engine: Engine, actor: Actor, name: str, *, force: bool, reason: str) -> Removal:
    """Remove a worker, and seal the logs of what was lost with it."""
    removal = await engine.run(forget_worker, actor, name, force=force, reason=reason)
    await seal_logs_of(engine, removal.lost)
    return removal


async def _to_direct(tx: Transaction, actor: Actor, name: str) -> Worker:
    require_global(actor, Permission.MANAGE_SERVER, "manage workers")
    worker = await workers.find(tx, name, lock=True)
    if worker is None or worker.removed_at is not None:
        raise NotFound(f"worker {name} not found")
    return worker


async def _direct(tx: Transaction, actor: Actor, before: Worker, after: Worker, act: str, reason: str) -> WorkerView:
    """Write the wish and who had it; wished again, nothing changes."""
    if after != before:
        await workers.direct(tx, before, after, act)
        await audit.add(tx, actor, f"worker.{act}", before.name, reason=reason)
    project = await projects.find(tx, after.project) if after.project is not None else None
    held = len(await attempts.open_of_worker(tx, after.id))
    return WorkerView(after, held, project.slug if project else "", with_place=True)
