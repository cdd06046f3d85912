"""Repositories with manifests: what made a trigger fire is read from the commit, and becomes builds.

A firing leaves a row. One server takes it under a lease, reads the files (which may take long, and fail), and makes
the builds in the transaction that removes the row: so each firing is read once, wherever a server dies. Firings of a
pipeline are read in their order.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import EngineError, LimitReached
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.manifest_files import FoundManifests
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Cause, Result
from buildyard.domain.transitions import finished
from buildyard.domain.triggers import Poll, Push
from buildyard.engine.engine import Engine
from buildyard.engine.firing import Firing, read_firing, source_of
from buildyard.engine.manifest_files import PlannedFile, Wanted, plan_files
from buildyard.engine.repository_builds import Place, add_build_of, add_ended, note_of, pipeline_of, stop_superseded
from buildyard.engine.surviving import survived
from buildyard.store import events, manifest_readings, pipelines, projects
from buildyard.store import triggers as trigger_rows
from buildyard.store.manifest_readings import Reading
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

LEASE_S = 30
RENEW_S = 10.0
AT_ONCE = 4
MOST_TRIES = 6
FIRST_PAUSE_S = 5
FULL_S = 30
"""When a firing that found no room in the queue is read again."""

LONGEST_SLEEP_S = 60.0
ReadManifests = Callable[[GitSource], Awaitable[FoundManifests]]
"""Reads the manifests that lie at a place in a repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A server's turn to read, under a lease that it renews: from `config`, for what is `built`."""

    reading: Reading
    firing: Firing
    repository: str
    config: GitSource
    built: GitSource
    pushed: str


async def keep_reading(engine: Engine, read: ReadManifests) -> None:
    """Read what is to be read, until cancelled; a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)
    running: set[int] = set()
    async with engine.bus.subscribe("manifests") as news, asyncio.TaskGroup() as group:
        while True:
            sleep_s = LONGEST_SLEEP_S
            with survived("loop_failed", loop="manifests"):
                due, sleep_s = await engine.read(find_due, SYSTEM, 4 * AT_ONCE)
                for key in due:
                    if key not in running:
                        running.add(key)
                        group.create_task(_turn(engine, read, key, room, running))
            await news.wait(timeout=sleep_s)


async def _turn(engine: Engine, read: ReadManifests, key: int, room: asyncio.Semaphore, running: set[int]) -> None:
    async with room:
        try:
            with survived("manifests_unread", reading=key):
                await read_one(engine, read, key)
        finally:
            running.discard(key)


async def read_one(engine: Engine, read: ReadManifests, key: int) -> int:
    """Take a turn if it is due, read, and make the builds; how many."""
    turn = await engine.run(take_turn, SYSTEM, key)
    if turn is None:
        return 0
    try:
        found = await _held(engine, turn, read)
        wanted = _wanted(turn, found)
        planned = await asyncio.to_thread(
            plan_files, found, wanted, engine.manifests, allow_local=engine.policy.allow_local_sources
        )
        made = await engine.run(record_reading, SYSTEM, turn, found, planned, queue_limit=engine.policy.queue_limit)
    except LimitReached as exc:
        log.warning("manifests_wait", reading=key, error=str(exc))
        await engine.run(put_off, SYSTEM, turn, "")
        return 0
    except EngineError as exc:
        log.warning("manifests_unread", reading=key, error=str(exc))
        await engine.run(put_off, SYSTEM, turn, str(exc))
        return 0
    log.info("manifests_read", reading=key, commit=wanted.built.commit, files=len(found.files), builds=made)
    return made


async def _held(engine: Engine, turn: Turn, read: ReadManifests) -> FoundManifests:
    """Read, and hold on to the turn meanwhile."""

    async def hold() -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with survived("manifests_not_held", reading=turn.reading.id):
                await engine.run(hold_turn, SYSTEM, turn.reading.id)

    holding = asyncio.create_task(hold())
    try:
        return await read(turn.config)
    finally:
        holding.cancel()


def _wanted(turn: Turn, found: FoundManifests) -> Wanted:
    """What the files are read for; a branch that nobody named a commit of stands where it was found."""
    built = turn.built if turn.built.commit else replace(turn.built, commit=found.commit)
    return Wanted(repository=turn.repository, built=built, pushed=turn.pushed, trusted=turn.firing.trusted)


# --- use-cases of the clockwork ------------------------------------------------------------------


async def find_due(tx: Transaction, _actor: Actor, count: int) -> tuple[list[int], float]:
    """What may be read now, and in how many seconds there will be more."""
    following = await manifest_readings.next_due(tx)
    sleep_s = LONGEST_SLEEP_S if following is None else min(LONGEST_SLEEP_S, (following - tx.now) / SECOND)
    return await manifest_readings.due(tx, count), max(0.1, sleep_s)


async def take_turn(tx: Transaction, _actor: Actor, key: int) -> Turn | None:
    """Take a reading, unless another server has it, or its pipeline reads nothing any more."""
    reading = await manifest_readings.find(tx, key)
    if reading is None or reading.next_at > tx.now:
        return None
    pipeline = await pipelines.get(tx, reading.pipeline)
    trigger = await trigger_rows.get(tx, reading.trigger)
    firing = read_firing(reading.firing)
    built = source_of(pipeline.source, firing)
    if pipeline.source is None or built is None or not pipeline.manifests or pipeline.disabled_at is not None:
        await _drop(tx, reading)
        return None
    lease = Moment(tx.now + LEASE_S * SECOND)
    await manifest_readings.delay(tx, reading, lease, tries=reading.tries + 1)
    return Turn(
        reading=replace(reading, next_at=lease, tries=reading.tries + 1),
        firing=firing,
        repository=pipeline.source.url,
        config=built if firing.trusted else replace(pipeline.source, branch=firing.base_branch, commit=""),
        built=built,
        pushed=_full_name(firing.branch) if isinstance(trigger.spec, Push | Poll) else "",
    )


async def hold_turn(tx: Transaction, _actor: Actor, key: int) -> None:
    """Renew the lease of a reading that still goes on."""
    reading = await manifest_readings.find(tx, key)
    if reading is not None:
        await manifest_readings.delay(tx, reading, Moment(tx.now + LEASE_S * SECOND), tries=reading.tries)


def _full_name(branch: str) -> str:
    return branch if branch.startswith("refs/") else f"refs/heads/{branch}"


async def record_reading(
    tx: Transaction,
    _actor: Actor,
    turn: Turn,
    found: FoundManifests,
    planned: tuple[PlannedFile, ...],
    *,
    queue_limit: int,
) -> int:
    """Make a build of each file, unless that was done; LimitReached: the queue has no room for all."""
    place = await _place(tx, turn, found)
    if place is None:
        return 0
    await _drop(tx, turn.reading)
    targets = [(await pipeline_of(tx, place, one.file), one) for one in planned]
    await stop_superseded(tx, turn.firing, [pipeline for pipeline, _ in targets])
    for pipeline, one in targets:
        await add_build_of(tx, place, pipeline, one, queue_limit=queue_limit)
    words = f"{turn.firing.reason}: {len(planned)} manifests at {place.built.commit}"
    events.add(tx, "read", "trigger", place.trigger, project=place.project.id, build=None, data=words)
    return len(planned)


async def put_off(tx: Transaction, _actor: Actor, turn: Turn, problem: str) -> None:
    """Read later; what failed too often becomes a build that says so. Without a `problem` the try does not count."""
    reading = await manifest_readings.find(tx, turn.reading.id)
    if reading is None:
        return
    if not problem:
        await manifest_readings.delay(tx, reading, Moment(tx.now + FULL_S * SECOND), tries=reading.tries - 1)
        return
    if reading.tries < MOST_TRIES:
        pause = FIRST_PAUSE_S * 2**reading.tries
        await manifest_readings.delay(tx, reading, Moment(tx.now + pause * SECOND), tries=reading.tries)
        return
    place = await _place(tx, turn, FoundManifests(commit=turn.built.commit))
    if place is not None:
        await _drop(tx, reading)
        end = finished(Result.ERROR, Cause.SOURCE, f"its manifests could not be read: {problem}"[:1000])
        await add_ended(tx, place, place.pipeline, end)


async def _drop(tx: Transaction, reading: Reading) -> None:
    await manifest_readings.drop(tx, reading.id)
    tx.wake("manifests")


async def _place(tx: Transaction, turn: Turn, found: FoundManifests) -> Place | None:
    """Where the builds go; None if another server was first, whose turn it had become."""
    reading = await manifest_readings.find(tx, turn.reading.id)
    if reading is None:
        return None
    trigger = await trigger_rows.get(tx, turn.reading.trigger)
    pipeline = await pipelines.get(tx, turn.reading.pipeline)
    return Place(
        firing=turn.firing,
        trigger=trigger.id,
        changes=reading.changes,
        project=await projects.get(tx, pipeline.project),
        pipeline=pipeline,
        note=note_of(turn.firing, found),
        built=replace(turn.built, commit=turn.built.commit or found.commit),
        message=found.message if turn.firing.trusted else "",
        author=found.author if turn.firing.trusted else "",
    )
