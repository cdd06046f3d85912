"""What happens by the clock: lost leases, workers gone, old events, and making room (`collecting`, `garbage`).

Every loop is safe to run on several servers at once, and a missed round only delays.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import SECOND, AttemptId, LogId, Moment
from buildyard.engine import collecting, delivering, garbage, leasing, progress
from buildyard.engine.clockwork import keep_appointments
from buildyard.engine.engine import Engine
from buildyard.engine.fitting import end_unsupported
from buildyard.engine.receiving import forget_deliveries
from buildyard.engine.surviving import survived
from buildyard.engine.ticking import keep_triggers
from buildyard.store import events, workers
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

ROUND = 200


async def keep_time(engine: Engine) -> None:
    """Run all loops until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_every(1.0, "leases", lambda: lose_expired_leases(engine)))
        group.create_task(keep_appointments(engine))
        group.create_task(_every(5.0, "workers", lambda: engine.run(mark_workers_gone, SYSTEM)))
        group.create_task(_every(5.0, "unsupported", lambda: end_unsupported(engine)))
        group.create_task(keep_triggers(engine))
        group.create_task(_every(60.0, "caches", lambda: collecting.evict_caches(engine)))
        group.create_task(_every(60.0, "bytes", lambda: garbage.remove_bytes(engine)))
        group.create_task(_every(60.0, "orphans", lambda: collecting.remove_orphans(engine)))
        group.create_task(_every(600.0, "retention", lambda: garbage.carry_out_rules(engine)))
        group.create_task(_every(3600.0, "hooks", lambda: engine.run(forget_deliveries, SYSTEM)))
        group.create_task(_every(5.0, "disk", garbage.Tidier(engine).look))
        group.create_task(delivering.send_deliveries(engine))
        group.create_task(
            _every(600.0, "old deliveries", lambda: engine.run(delivering.drop_old, SYSTEM, keep=delivering.KEEP))
        )
        group.create_task(
            _every(60.0, "events", lambda: engine.run(drop_old_events, SYSTEM, keep=_kept_events(engine)))
        )


def _kept_events(engine: Engine) -> float:
    return engine.policy.event_retention_seconds


async def _every(seconds: float, what: str, act: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with survived("loop_failed", loop=what):
            await act()


async def lose_expired_leases(engine: Engine) -> list[AttemptId]:
    """End attempts whose lease ran out, and seal their logs."""
    late = await engine.read(leasing.expired_attempts, SYSTEM, ROUND)
    if not late:
        return []
    lost = await engine.run(leasing.lose_expired, SYSTEM, late)
    await seal_logs_of(engine, lost)
    for attempt in lost:
        log.info("lease_lost", attempt=attempt)
    return lost


async def seal_logs_of(engine: Engine, attempts: Sequence[AttemptId]) -> None:
    """Seal the logs of ended attempts as far as they were written."""
    for attempt in attempts:
        open_logs = await engine.read(leasing.open_logs, SYSTEM, attempt)
        states = {key: await engine.logs.seal(LogId(key)) for key in open_logs}
        await engine.run(progress.record_sealed, SYSTEM, attempt, states)


async def mark_workers_gone(tx: Transaction, _actor: Actor) -> int:
    """Workers not heard for a minute are no longer connected."""
    return len(await workers.mark_gone(tx, Moment(tx.now - 60 * SECOND)))


async def drop_old_events(tx: Transaction, _actor: Actor, *, keep: float) -> int:
    """Delete a round of events older than `keep` seconds."""
    return await events.drop_before(tx, Moment(tx.now - int(keep * SECOND)), 5000)
