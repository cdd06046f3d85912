"""What the machine did: one row for every change of a state, written in the transaction that changed it."""

from sqlalchemy import select

from buildyard.store.statements import Statement, given, insertion
from buildyard.store.tables import events
from buildyard.store.transactions import Transaction

ADD = insertion(events, "seq")
SINCE = Statement(
    select(events.c.seq, events.c.at, events.c.kind, events.c.entity, events.c.entity_id, events.c.data)
    .where(events.c.build == given("of"), events.c.seq > given("after"))
    .order_by(events.c.seq)
    .limit(given("most"))
)


def add(
    tx: Transaction, kind: str, entity: str, entity_id: int, *, project: int | None, build: int | None, data: str = ""
) -> None:
    """Note an event (`finished` of `build` 7); it is written with the transaction."""
    tx.pending_events.append(
        {
            "at": tx.now,
            "kind": kind,
            "entity": entity,
            "entity_id": entity_id,
            "project": project,
            "build": build,
            "data": data,
        }
    )
    if build is not None:
        tx.wake(f"build:{build}")


async def flush(tx: Transaction) -> None:
    """Write the events noted so far; the database calls it at the end of every transaction."""
    if tx.pending_events:
        await tx.execute_many(ADD, tx.pending_events)
        tx.pending_events = []
