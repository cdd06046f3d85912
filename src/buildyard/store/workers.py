"""Workers: who they are, what they offer, and when they were last heard."""

from dataclasses import dataclass

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import Moment, ProjectId, Uid, WorkerId
from buildyard.domain.labels import Offer
from buildyard.domain.states import Phase
from buildyard.store import events
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import attempts, workers
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that runs jobs; `session` is that of the process now, or last, behind the name.

    `project` is the only one whose jobs its token lets it have. A `paused` one takes no jobs; a `draining` one
    neither, and leaves when it has none. A removed one is kept for what it ran, and may come back as a new process.
    """

    id: WorkerId
    uid: Uid
    name: str
    session: str
    state_id: str
    offer: Offer
    slots: int
    version: str
    protocol: int
    host: str
    address: str
    paused: bool
    pause_reason: str
    draining: bool
    project: ProjectId | None
    connected: bool
    created_at: Moment
    seen_at: Moment
    removed_at: Moment | None

    @property
    def takes_jobs(self) -> bool:
        """Whether it may be given any."""
        return not (self.paused or self.draining or self.removed_at is not None)


_WORKER = (
    workers.c.id,
    workers.c.uid,
    workers.c.name,
    workers.c.session,
    workers.c.state_id,
    workers.c.labels,
    workers.c.executors,
    workers.c.system,
    workers.c.slots,
    workers.c.version,
    workers.c.protocol,
    workers.c.host,
    workers.c.address,
    workers.c.paused,
    workers.c.pause_reason,
    workers.c.draining,
    workers.c.project,
    workers.c.connected,
    workers.c.created_at,
    workers.c.seen_at,
    workers.c.removed_at,
)
BY_ID = Statement(select(*_WORKER).where(workers.c.id == given("key")))
BY_NAME = Statement(select(*_WORKER).where(workers.c.name == given("called")))
BY_SESSION = Statement(select(*_WORKER).where(workers.c.session == given("of_session")))
BY_NAME_LOCKED = Statement(select(*_WORKER).where(workers.c.name == given("called")).with_for_update())
ALL = Statement(select(*_WORKER).where(workers.c.removed_at.is_(None)).order_by(workers.c.id))
ADD = Statement(insert(workers).values({c.name: given(c.name) for c in workers.columns}).on_conflict_do_nothing())
UPDATE = Statement(
    update(workers)
    .where(workers.c.id == given("key"))
    .values(
        session=given("session"),
        state_id=given("state_id"),
        labels=given("labels"),
        executors=given("executors"),
        system=given("system"),
        slots=given("slots"),
        version=given("version"),
        protocol=given("protocol"),
        host=given("host"),
        address=given("address"),
        project=given("project"),
        paused=given("paused"),
        draining=given("draining"),
        connected=1,
        seen_at=given("at"),
        removed_at=None,
    )
)
SEEN = Statement(
    update(workers).where(workers.c.id == given("key")).values(seen_at=given("at"), connected=1).returning(*_WORKER)
)
LEAVE = Statement(
    update(workers)
    .where(workers.c.id == given("key"))
    .values(
        session="",
        connected=0,
        seen_at=given("at"),
        paused=case((workers.c.draining == 1, 1), else_=workers.c.paused),
        draining=0,
    )
)
DIRECT = Statement(
    update(workers)
    .where(workers.c.id == given("key"))
    .values(
        paused=given("paused"),
        pause_reason=given("reason"),
        draining=given("draining"),
        connected=given("connected"),
        removed_at=given("removed_at"),
    )
)
HOLDING = Statement(
    select(attempts.c.worker, func.count())
    .where(attempts.c.phase < int(Phase.FINISHED))
    .group_by(attempts.c.worker)
    .order_by(attempts.c.worker)
)
GONE = Statement(
    update(workers)
    .where(workers.c.connected == 1, workers.c.seen_at < given("before"))
    .values(connected=0)
    .returning(workers.c.id)
)


def _worker(row: Row) -> Worker:
    return Worker(
        id=row[0],
        uid=row[1],
        name=row[2],
        session=row[3],
        state_id=row[4],
        offer=Offer(frozenset(row[5].split()), frozenset(row[6].split()), row[7]),
        slots=row[8],
        version=row[9],
        protocol=row[10],
        host=row[11],
        address=row[12],
        paused=bool(row[13]),
        pause_reason=row[14],
        draining=bool(row[15]),
        project=row[16],
        connected=bool(row[17]),
        created_at=row[18],
        seen_at=row[19],
        removed_at=row[20],
    )


async def get(tx: Transaction, key: WorkerId) -> Worker:
    """The worker with this id."""
    row = await tx.fetch_one(BY_ID, key=key)
    if row is None:
        raise NotFound("worker not found")
    return _worker(row)


async def find(tx: Transaction, name: str, *, lock: bool = False) -> Worker | None:
    """The worker of this name, also a removed one."""
    row = await tx.fetch_one(BY_NAME_LOCKED if lock else BY_NAME, called=name)
    return _worker(row) if row else None


async def find_by_session(tx: Transaction, session: str) -> Worker | None:
    """The worker whose process has this session."""
    row = await tx.fetch_one(BY_SESSION, of_session=session)
    return _worker(row) if row else None


async def search(tx: Transaction) -> list[Worker]:
    """All workers but removed ones."""
    return [_worker(row) for row in await tx.fetch(ALL)]


async def find_or_add(tx: Transaction, name: str) -> Worker:
    """The worker of this name, made if there is none."""
    (key,) = await tx.allocate("workers")
    await tx.execute(
        ADD,
        id=key,
        uid=tx.fresh_uid(),
        name=name,
        session="",
        state_id="",
        labels="",
        executors="",
        system="",
        slots=0,
        version="",
        protocol=0,
        host="",
        address="",
        paused=0,
        pause_reason="",
        draining=0,
        project=None,
        connected=0,
        created_at=tx.now,
        seen_at=tx.now,
        removed_at=None,
    )
    worker = await find(tx, name, lock=True)
    assert worker is not None
    return worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a worker says of itself; `project` is its token's."""

    session: str
    state_id: str
    offer: Offer
    slots: int
    version: str
    protocol: int
    host: str
    address: str
    project: ProjectId | None


async def introduce(tx: Transaction, worker: Worker, said: Introduction) -> None:
    """Note what a worker says of itself. A new process of a draining worker is a paused one: it may be resumed.

    A removed one is there again.
    """
    has_left = worker.draining and worker.session != said.session
    await tx.execute(
        UPDATE,
        key=worker.id,
        session=said.session,
        state_id=said.state_id,
        labels=" ".join(sorted(said.offer.labels)),
        executors=" ".join(sorted(said.offer.executors)),
        system=said.offer.system,
        slots=said.slots,
        version=said.version,
        protocol=said.protocol,
        host=said.host,
        address=said.address,
        project=said.project,
        paused=int(worker.paused or has_left),
        draining=int(worker.draining and not has_left),
        at=tx.now,
    )
    if not worker.connected or worker.removed_at is not None:
        _tell(tx, "connected", worker)


async def seen(tx: Transaction, before: Worker) -> Worker:
    """Note that a worker was heard; how it is now. Holds its row."""
    (row,) = await tx.fetch(SEEN, key=before.id, at=tx.now)
    if not before.connected:
        _tell(tx, "connected", before)
    return _worker(row)


async def leave(tx: Transaction, worker: Worker) -> None:
    """Note that a worker's process ends: its session is over. One that drained is paused from now on."""
    await tx.execute(LEAVE, key=worker.id, at=tx.now)
    _tell(tx, "disconnected", worker)


async def direct(tx: Transaction, before: Worker, after: Worker, what: str) -> Worker:
    """Write whether a worker is paused, draining, connected or removed, and the event `what`; wakes its poll."""
    await tx.execute(
        DIRECT,
        key=after.id,
        paused=int(after.paused),
        reason=after.pause_reason,
        draining=int(after.draining),
        connected=int(after.connected),
        removed_at=after.removed_at,
    )
    _tell(tx, what, before)
    tx.wake("work")
    return after


def _tell(tx: Transaction, what: str, worker: Worker) -> None:
    events.add(tx, what, "worker", worker.id, project=None, build=None)


async def holding(tx: Transaction) -> dict[WorkerId, int]:
    """How many attempts each worker holds, of those that hold any."""
    return {WorkerId(row[0]): row[1] for row in await tx.fetch(HOLDING)}


async def mark_gone(tx: Transaction, before: Moment) -> list[WorkerId]:
    """Mark workers not heard since `before` as not connected; gives them."""
    gone = [WorkerId(row[0]) for row in await tx.fetch(GONE, before=before)]
    for key in gone:
        events.add(tx, "disconnected", "worker", key, project=None, build=None)
    return gone
