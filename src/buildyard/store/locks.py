"""Locks and who holds them. A lock's row is locked before its line or its holders are looked at to be changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.blocking import Blocker, Held
from buildyard.domain.ids import BuildId, JobId, WorkerId
from buildyard.store.statements import Statement, Value, given, insertion
from buildyard.store.tables import blockers, lock_holders, locks
from buildyard.store.transactions import Moved, Transaction

FIND = Statement(select(locks.c.id).where(locks.c.key == given("called")))
ADD = Statement(insert(locks).values({c.name: given(c.name) for c in locks.columns}).on_conflict_do_nothing())
HOLD_ROW = Statement(select(locks.c.id).where(locks.c.id == given("key")).with_for_update(key_share=True))
ADD_HOLDER = insertion(lock_holders)
HELD = Statement(
    select(func.count(), func.min(lock_holders.c.most))
    .select_from(lock_holders)
    .where(lock_holders.c.lock == given("of"))
)
HELD_ON_WORKER = Statement(
    select(lock_holders.c.name, func.count(), func.min(lock_holders.c.most))
    .where(lock_holders.c.worker == given("of"))
    .group_by(lock_holders.c.name)
)
HOLDERS = Statement(
    select(lock_holders.c.build, lock_holders.c.job).where(lock_holders.c.lock == given("of")).limit(given("most_rows"))
)
BUILDS_IN_LINE = Statement(select(blockers.c.build).where(blockers.c.lock == given("of")))
BUILDS_THAT_HOLD = Statement(select(lock_holders.c.build).where(lock_holders.c.lock == given("of")))
KEY = Statement(select(locks.c.key).where(locks.c.id == given("key")))
DROP_OF_JOB = Statement(delete(lock_holders).where(lock_holders.c.job == given("of")).returning(lock_holders.c.lock))
DROP_WORKER_LOCKS = Statement(
    delete(lock_holders).where(lock_holders.c.job == given("of"), lock_holders.c.worker.is_not(None))
)
DROP_OF_BUILD = Statement(
    delete(lock_holders)
    .where(lock_holders.c.build == given("of"), lock_holders.c.job.is_(None))
    .returning(lock_holders.c.lock)
)
LINES_OF_BUILD = Statement(select(blockers.c.lock).where(blockers.c.build == given("of"), blockers.c.lock.is_not(None)))
HELD_BY_BUILD = Statement(
    select(lock_holders.c.lock).where(lock_holders.c.build == given("of"), lock_holders.c.lock.is_not(None))
)


@dataclass(frozen=True, slots=True)
class WorkerLock:
    """A lock of one worker that a job holds while it runs there."""

    worker: WorkerId
    name: str
    most: int


async def find_or_add(tx: Transaction, key: str) -> int:
    """The lock with this key, made if there is none."""
    row = await tx.fetch_one(FIND, called=key)
    if row is None:
        (made,) = await tx.allocate("locks")
        await tx.execute(ADD, id=made, key=key, created_at=tx.now)
        row = await tx.fetch_one(FIND, called=key)
    if row is None:
        raise Moved(f"lock {key}: removed meanwhile")
    return int(row[0])


async def hold_rows(tx: Transaction, keys: Iterable[int]) -> None:
    """Keep others from changing the lines and holders of these locks until the transaction ends, by id."""
    wanted = sorted(set(keys))
    found = await tx.fetch_many(HOLD_ROW, [{"key": key} for key in wanted])
    if len(found) != len(wanted):
        raise Moved("a lock was removed meanwhile")


async def hold_rows_of_build(tx: Transaction, build: BuildId) -> None:
    """The same for all locks that a build or its jobs hold or wait for."""
    rows = [*await tx.fetch(LINES_OF_BUILD, of=build), *await tx.fetch(HELD_BY_BUILD, of=build)]
    await hold_rows(tx, {row[0] for row in rows})


async def held(tx: Transaction, lock: int) -> Held:
    """How many hold a lock, and what they allow."""
    row = await tx.fetch_one(HELD, of=lock)
    assert row is not None
    return Held(row[0], row[1]) if row[0] else Held()


async def held_on_worker(tx: Transaction, worker: WorkerId) -> dict[str, Held]:
    """The locks of a worker that are held, by name."""
    return {name: Held(count, least) for name, count, least in await tx.fetch(HELD_ON_WORKER, of=worker)}


async def holders(tx: Transaction, lock: int, count: int) -> list[tuple[BuildId, JobId | None]]:
    """Some of those who hold a lock."""
    return [(row[0], row[1]) for row in await tx.fetch(HOLDERS, of=lock, most_rows=count)]


async def builds_of(tx: Transaction, lock: int) -> set[BuildId]:
    """The builds that hold a lock or wait for it."""
    rows = [*await tx.fetch(BUILDS_IN_LINE, of=lock), *await tx.fetch(BUILDS_THAT_HOLD, of=lock)]
    return {row[0] for row in rows}


async def group_of(tx: Transaction, lock: int) -> str:
    """The name of the concurrency group whose lock this is."""
    row = await tx.fetch_one(KEY, key=lock)
    assert row is not None
    return str(row[0]).split(":", 2)[2]


async def give(tx: Transaction, places: Sequence[Blocker]) -> None:
    """Let those who stand at the head of these lines hold the locks."""
    keys = await tx.allocate("lock_holders", len(places))
    rows: list[dict[str, Value]] = [
        {
            "id": key,
            "lock": place.lock,
            "worker": None,
            "name": place.name,
            "build": place.build,
            "job": place.job,
            "most": place.most,
            "since": tx.now,
        }
        for key, place in zip(keys, places, strict=True)
    ]
    await tx.execute_many(ADD_HOLDER, rows)


async def give_on_worker(tx: Transaction, taken: Sequence[tuple[BuildId, JobId, WorkerLock]]) -> None:
    """Let jobs hold locks of their worker."""
    keys = await tx.allocate("lock_holders", len(taken))
    rows: list[dict[str, Value]] = [
        {
            "id": key,
            "lock": None,
            "worker": lock.worker,
            "name": lock.name,
            "build": build,
            "job": job,
            "most": lock.most,
            "since": tx.now,
        }
        for key, (build, job, lock) in zip(keys, taken, strict=True)
    ]
    await tx.execute_many(ADD_HOLDER, rows)


async def free_of_job(tx: Transaction, job: JobId) -> set[int]:
    """Take all locks from a job; gives those that are not a worker's."""
    return {row[0] for row in await tx.fetch(DROP_OF_JOB, of=job) if row[0] is not None}


async def free_worker_locks(tx: Transaction, job: JobId) -> None:
    """Take the locks of its worker from a job."""
    await tx.execute(DROP_WORKER_LOCKS, of=job)
    tx.wake("work")


async def free_of_build(tx: Transaction, build: BuildId) -> set[int]:
    """Take its concurrency group from a build as a whole."""
    return {row[0] for row in await tx.fetch(DROP_OF_BUILD, of=build) if row[0] is not None}
