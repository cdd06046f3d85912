"""Writes what a transaction noted while it ran: events, counters and queue lengths."""

from sqlalchemy import update

from buildyard.store.counters import BUMP
from buildyard.store.events import ADD
from buildyard.store.statements import Statement, Value, given
from buildyard.store.tables import lanes
from buildyard.store.transactions import Transaction

COUNT_LANE = Statement(update(lanes).where(lanes.c.id == given("key")).values(queued=lanes.c.queued + given("by")))


async def flush(tx: Transaction) -> None:
    """Write everything noted; the database calls it at the end of every transaction."""
    if tx.pending_events:
        await tx.execute_many(ADD, tx.pending_events)
    changed: list[dict[str, Value]] = [{"key": lane, "by": by} for lane, by in sorted(tx.pending_lanes.items()) if by]
    if changed:
        await tx.execute_many(COUNT_LANE, changed)
    counts: list[dict[str, Value]] = [
        {"kind": kind, "owner": owner, "name": name, "value": value}
        for (kind, owner, name), value in sorted(tx.pending_counts.items())
    ]
    if counts:
        await tx.execute_many(BUMP, counts)
