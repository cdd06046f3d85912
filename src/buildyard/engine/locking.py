"""Locks and concurrency groups: who asks stands in a line, and the head of a line goes first.

Whoever ends or leaves hands the lock on in the same transaction. Rows are locked in the order builds, jobs, locks (by
id), then what the lock lets go on, which waited and so is held by nobody else. Who waits for several locks takes all
of them at once or none, when it heads all their lines; lines are ordered by build and job, alike for all, so that
the oldest of all waits for holders only, and nobody waits for ever.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from buildyard.domain import transitions
from buildyard.domain.blocking import Blocker, BlockerKind, Gate, has_room
from buildyard.domain.builds import Build, Job
from buildyard.domain.ids import BuildId, ProjectId
from buildyard.domain.specs import Concurrency, LockScope, LockSpec
from buildyard.domain.states import Phase
from buildyard.store import blockers, builds, jobs, locks, pipelines
from buildyard.store.jobs import Asker, Ended
from buildyard.store.transactions import Transaction


async def ask_for_locks(tx: Transaction, askers: Sequence[Asker]) -> None:
    """Let jobs that wait for nothing else stand in the lines for their locks, or have them at once."""
    if not askers:
        return
    wanted = [(asker, (await pipelines.job_spec(tx, asker.spec)).locks) for asker in askers]
    keys = {_key(asker.project, lock) for asker, its in wanted for lock in its}
    rows = {key: await locks.find_or_add(tx, key) for key in sorted(keys)}
    await locks.hold_rows(tx, rows.values())
    for asker, its in wanted:
        for lock in its:
            await blockers.add(
                tx,
                BlockerKind.LOCK,
                project=asker.project,
                build=asker.build,
                job=asker.job,
                name=lock.name,
                lock=rows[_key(asker.project, lock)],
                most=lock.most,
            )
    await hand_out(tx, rows.values())


def _key(project: ProjectId, lock: LockSpec) -> str:
    return f"server:{lock.name}" if lock.scope is LockScope.SERVER else f"project:{project}:{lock.name}"


async def group_lock(tx: Transaction, project: ProjectId, name: str) -> int:
    """The lock of a project's concurrency group."""
    return await locks.find_or_add(tx, f"group:{project}:{name}")


async def ask_for_group(tx: Transaction, build: Build, concurrency: Concurrency, name: str) -> None:
    """Let a build that waits for nothing else stand in the line for its group, or go on at once."""
    assert build.concurrency is not None
    await locks.hold_rows(tx, [build.concurrency])
    await blockers.add(
        tx,
        BlockerKind.GROUP,
        project=build.project,
        build=build.id,
        name=name,
        lock=build.concurrency,
        most=concurrency.limit,
    )
    await hand_out(tx, [build.concurrency])


async def hand_out(tx: Transaction, changed: Iterable[int]) -> None:
    """Give these locks, whose rows are held, to those who head the lines as far as there is room."""
    left = deque(sorted(set(changed)))
    while left:
        head = await blockers.head(tx, left.popleft())
        if head is None:
            continue
        places = [head] if head.job is None else await blockers.of_job(tx, head.job)
        await locks.hold_rows(tx, [place.lock for place in places if place.lock is not None])
        if all([await _may_pass(tx, place) for place in places]):
            await _pass(tx, head, places)
            left.extend(place.lock for place in places if place.lock is not None)


async def _may_pass(tx: Transaction, place: Blocker) -> bool:
    assert place.lock is not None
    first = await blockers.head(tx, place.lock)
    return first is not None and first.id == place.id and has_room(await locks.held(tx, place.lock), place.most)


async def _pass(tx: Transaction, head: Blocker, places: Sequence[Blocker]) -> None:
    await locks.give(tx, places)
    if head.job is None:
        await blockers.drop(tx, head.id)
        await open_build(tx, head.build)
    else:
        await blockers.drop_of_job(tx, head.job)
        await jobs.unblock_one(tx, head.job, project=head.project)


async def open_build(tx: Transaction, key: BuildId) -> None:
    """A build that waited as a whole goes on: its first jobs have one blocker less."""
    build = await builds.get(tx, key, lock=True)
    await builds.save(tx, build, transitions.advance_build(build, Phase.QUEUED, at=tx.now))
    await ask_for_locks(tx, await jobs.unblock_first(tx, build.id, project=build.project))


async def free_locks(tx: Transaction, before: Job, after: Job) -> None:
    """Take from a job what its move ends: all locks with its last attempt, those of the worker with each."""
    if after.state.phase is Phase.FINISHED and before.gates & (Gate.LOCKS | Gate.WORKER_LOCKS):
        await free_jobs(tx, [Ended(after.id, after.build, transitions.counts_as(after), after.gates)])
    elif before.gates & Gate.WORKER_LOCKS and after.state.phase is Phase.QUEUED:
        await locks.free_worker_locks(tx, after.id)


async def free_jobs(tx: Transaction, ended: Iterable[Ended]) -> None:
    """Take all locks from finished jobs, and hand them on."""
    freed: set[int] = set()
    for one in ended:
        if one.gates & (Gate.LOCKS | Gate.WORKER_LOCKS):
            freed |= await locks.free_of_job(tx, one.job)
        if one.gates & Gate.WORKER_LOCKS:
            tx.wake("work")
    if freed:
        await locks.hold_rows(tx, freed)
        await hand_out(tx, freed)


async def leave_group(tx: Transaction, build: Build) -> None:
    """A finished build waits for nothing, and hands its place in its group, or in the line for it, on."""
    if build.concurrency is not None:
        await locks.hold_rows(tx, [build.concurrency])
        await locks.free_of_build(tx, build.id)
    left = await blockers.drop_of_build(tx, build.id)
    await hand_out(tx, left if build.concurrency is None else {*left, build.concurrency})
