"""Firings whose manifests are still to be read from a repository."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import delete, exists, select, update

from buildyard.domain.ids import ChangeId, Moment, PipelineId, TriggerId
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import manifest_readings
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One of them. `firing` is for the engine to understand; nobody may take it before `next_at`."""

    id: int
    pipeline: PipelineId
    trigger: TriggerId
    firing: str
    changes: tuple[ChangeId, ...]
    tries: int
    next_at: Moment


_COLUMNS = (
    manifest_readings.c.id,
    manifest_readings.c.pipeline,
    manifest_readings.c.trigger,
    manifest_readings.c.firing,
    manifest_readings.c.changes,
    manifest_readings.c.tries,
    manifest_readings.c.next_at,
)
_EARLIER = manifest_readings.alias("earlier")
ADD = insertion(manifest_readings)
SET_CHANGES = Statement(
    update(manifest_readings).where(manifest_readings.c.id == given("key")).values(changes=given("started_by"))
)
DUE = Statement(
    select(manifest_readings.c.id)
    .where(
        manifest_readings.c.next_at <= given("now"),
        ~exists().where(
            _EARLIER.c.pipeline == manifest_readings.c.pipeline,
            _EARLIER.c.id < manifest_readings.c.id,
        ),
    )
    .order_by(manifest_readings.c.next_at)
    .limit(given("most"))
)
NEXT = Statement(
    select(manifest_readings.c.next_at)
    .where(manifest_readings.c.next_at > given("now"))
    .order_by(manifest_readings.c.next_at)
    .limit(1)
)
BY_ID = Statement(select(*_COLUMNS).where(manifest_readings.c.id == given("key")).with_for_update())
DELAY = Statement(
    update(manifest_readings)
    .where(manifest_readings.c.id == given("key"))
    .values(next_at=given("later"), tries=given("tries"))
)
DROP = Statement(delete(manifest_readings).where(manifest_readings.c.id == given("key")))

_ids = msgspec.json.Decoder(tuple[int, ...]).decode


def _reading(row: Row) -> Reading:
    key, pipeline, trigger, firing, changes, tries, next_at = row
    return Reading(
        id=key,
        pipeline=pipeline,
        trigger=trigger,
        firing=firing,
        changes=tuple(ChangeId(one) for one in _ids(changes)),
        tries=tries,
        next_at=next_at,
    )


async def add(tx: Transaction, pipeline: PipelineId, trigger: TriggerId, firing: str) -> int:
    """Have manifests read, after those that were asked for before."""
    (key,) = await tx.allocate("manifest_readings")
    await tx.execute(
        ADD,
        id=key,
        pipeline=pipeline,
        trigger=trigger,
        firing=firing,
        changes="[]",
        tries=0,
        created_at=tx.now,
        next_at=tx.now,
    )
    tx.wake("manifests")
    return int(key)


async def set_changes(tx: Transaction, key: int, started_by: Sequence[ChangeId]) -> None:
    """Say which changes started what is read."""
    await tx.execute(SET_CHANGES, key=key, started_by=msgspec.json.encode(list(started_by)).decode())


async def due(tx: Transaction, most: int) -> list[int]:
    """What may be read now, longest due first; of each pipeline only the first."""
    return [int(row[0]) for row in await tx.fetch(DUE, now=tx.now, most=most)]


async def next_due(tx: Transaction) -> Moment | None:
    """When the next one is due."""
    row = await tx.fetch_one(NEXT, now=tx.now)
    return row[0] if row else None


async def find(tx: Transaction, key: int) -> Reading | None:
    """The reading with this id, kept from others until the transaction ends."""
    row = await tx.fetch_one(BY_ID, key=key)
    return _reading(row) if row else None


async def delay(tx: Transaction, reading: Reading, later: Moment, *, tries: int) -> None:
    """Leave it alone until then."""
    await tx.execute(DELAY, key=reading.id, later=later, tries=tries)


async def drop(tx: Transaction, key: int) -> None:
    """It was read."""
    await tx.execute(DROP, key=key)
