"""Writes what a transaction noted while it ran: what follows and is to be told, events, counters and queue lengths."""

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert

from buildyard.store import telling, triggers
from buildyard.store.counters import BUMP
from buildyard.store.events import ADD
from buildyard.store.statements import Statement, Value, given
from buildyard.store.tables import lanes, usage
from buildyard.store.transactions import Transaction

COUNT_LANE = Statement(update(lanes).where(lanes.c.id == given("key")).values(queued=lanes.c.queued + given("by")))

_USED = insert(usage).values({name: given(name) for name in ("pipeline", "hour", "micros", "jobs")})
ADD_USAGE = Statement(
    _USED.on_conflict_do_update(
        index_elements=["pipeline", "hour"],
        set_={"micros": usage.c.micros + _USED.excluded.micros, "jobs": usage.c.jobs + _USED.excluded.jobs},
    )
)
HOUR = 3_600_000_000
"""Microseconds in an hour: usage is kept by the hour."""


async def flush(tx: Transaction) -> None:
    """Write everything noted; the database calls it at the end of every transaction."""
    await tx.write_changes()
    if tx.pending_news:
        await triggers.note_ends(tx)
        await telling.write(tx)
    if tx.pending_updates:
        await telling.write_updates(tx)
    if tx.pending_events:
        await tx.execute_many(ADD, tx.pending_events)
    changed: list[dict[str, Value]] = [{"key": lane, "by": by} for lane, by in sorted(tx.pending_lanes.items()) if by]
    if changed:
        await tx.execute_many(COUNT_LANE, changed)
    if tx.pending_usage:
        hour = tx.now // HOUR
        pipelines = sorted({pipeline for pipeline, _ in tx.pending_usage})
        used: list[dict[str, Value]] = [
            {
                "pipeline": pipeline,
                "hour": hour,
                "micros": tx.pending_usage[pipeline, "micros"],
                "jobs": tx.pending_usage[pipeline, "jobs"],
            }
            for pipeline in pipelines
        ]
        await tx.execute_many(ADD_USAGE, used)
    counts: list[dict[str, Value]] = [
        {"kind": kind, "owner": owner, "name": name, "value": value}
        for (kind, owner, name), value in sorted(tx.pending_counts.items())
    ]
    if counts:
        await tx.execute_many(BUMP, counts)
