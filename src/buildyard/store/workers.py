"""Workers: who they are, what they offer, and when they were last heard."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import Moment, Uid, WorkerId
from buildyard.domain.labels import Offer
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import workers
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that runs jobs; `session` is that of the process now, or last, behind the name."""

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
    paused: bool
    connected: bool
    created_at: Moment
    seen_at: Moment


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
    workers.c.paused,
    workers.c.connected,
    workers.c.created_at,
    workers.c.seen_at,
)
BY_ID = Statement(select(*_WORKER).where(workers.c.id == given("key")))
BY_NAME = Statement(select(*_WORKER).where(workers.c.name == given("called")))
BY_SESSION = Statement(select(*_WORKER).where(workers.c.session == given("of_session")))
ALL = Statement(select(*_WORKER).order_by(workers.c.id))
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
        connected=1,
        seen_at=given("at"),
    )
)
SEEN = Statement(update(workers).where(workers.c.id == given("key")).values(seen_at=given("at"), connected=1))
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
        paused=bool(row[12]),
        connected=bool(row[13]),
        created_at=row[14],
        seen_at=row[15],
    )


async def get(tx: Transaction, key: WorkerId) -> Worker:
    """The worker with this id."""
    row = await tx.fetch_one(BY_ID, key=key)
    if row is None:
        raise NotFound("worker not found")
    return _worker(row)


async def find(tx: Transaction, name: str) -> Worker | None:
    """The worker of this name."""
    row = await tx.fetch_one(BY_NAME, called=name)
    return _worker(row) if row else None


async def find_by_session(tx: Transaction, session: str) -> Worker | None:
    """The worker whose process has this session."""
    row = await tx.fetch_one(BY_SESSION, of_session=session)
    return _worker(row) if row else None


async def search(tx: Transaction) -> list[Worker]:
    """All workers."""
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
        connected=0,
        created_at=tx.now,
        seen_at=tx.now,
    )
    worker = await find(tx, name)
    assert worker is not None
    return worker


async def introduce(
    tx: Transaction,
    key: WorkerId,
    *,
    session: str,
    state_id: str,
    offer: Offer,
    slots: int,
    version: str,
    protocol: int,
    host: str,
    address: str,
) -> None:
    """Note what a worker says of itself."""
    await tx.execute(
        UPDATE,
        key=key,
        session=session,
        state_id=state_id,
        labels=" ".join(sorted(offer.labels)),
        executors=" ".join(sorted(offer.executors)),
        system=offer.system,
        slots=slots,
        version=version,
        protocol=protocol,
        host=host,
        address=address,
        at=tx.now,
    )


async def seen(tx: Transaction, key: WorkerId) -> None:
    """Note that a worker was heard."""
    await tx.execute(SEEN, key=key, at=tx.now)


async def mark_gone(tx: Transaction, before: Moment) -> list[WorkerId]:
    """Mark workers not heard since `before` as not connected; gives them."""
    return [WorkerId(row[0]) for row in await tx.fetch(GONE, before=before)]
