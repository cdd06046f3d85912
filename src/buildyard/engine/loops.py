"""What happens by the clock: lost leases, workers gone, old events, cache limits, unused blobs.

Every loop is safe to run on several servers at once, and a missed round only delays.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence

import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import EngineError
from buildyard.domain.ids import SECOND, AttemptId, LogId, Moment, ProjectId, Sha256
from buildyard.engine import leasing, progress
from buildyard.engine.engine import Engine
from buildyard.engine.fitting import end_unsupported
from buildyard.store import events, kept, workers
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

ROUND = 200


async def keep_time(engine: Engine) -> None:
    """Run all loops until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_every(1.0, "leases", lambda: lose_expired_leases(engine)))
        group.create_task(_every(5.0, "workers", lambda: engine.run(mark_workers_gone, SYSTEM)))
        group.create_task(_every(5.0, "unsupported", lambda: end_unsupported(engine)))
        group.create_task(_every(60.0, "caches", lambda: evict_caches(engine)))
        group.create_task(_every(60.0, "blobs", lambda: collect_blobs(engine)))
        group.create_task(
            _every(60.0, "events", lambda: engine.run(drop_old_events, SYSTEM, keep=_kept_events(engine)))
        )


def _kept_events(engine: Engine) -> float:
    return engine.policy.event_retention_seconds


async def _every(seconds: float, what: str, act: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await act()
        except EngineError as exc:
            log.warning("loop_failed", loop=what, error=str(exc))
        except Exception:
            log.exception("loop_failed", loop=what)


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


async def evict_caches(engine: Engine) -> int:
    """Drop the caches used longest ago until each project's and all fit into their limits, or the disk has room."""
    policy = engine.policy
    short = _is_low(engine)
    return await engine.run(
        drop_caches, SYSTEM, limit=policy.cache_bytes, project_limit=policy.project_cache_bytes, short=short
    )


async def drop_caches(tx: Transaction, _actor: Actor, *, limit: int, project_limit: int, short: bool) -> int:
    """Forget caches beyond the limits (bytes), or a round of the oldest where disk space is `short`."""
    dropped = 0
    for project, total in await kept.projects_over(tx, project_limit):
        dropped += await _drop_oldest(tx, total - project_limit, project)
    excess = await kept.cache_bytes(tx) - limit
    if short:
        return dropped + await _drop_oldest(tx, None, None)
    return dropped + (await _drop_oldest(tx, excess, None) if excess > 0 else 0)


async def _drop_oldest(tx: Transaction, excess: int | None, project: ProjectId | None) -> int:
    """Drop a round of the oldest, until `excess` bytes are gone."""
    dropped = 0
    for cache in await kept.oldest_caches(tx, ROUND, project):
        if excess is not None and excess <= 0:
            break
        await kept.drop_cache(tx, cache)
        dropped += 1
        if excess is not None:
            excess -= cache.size
    return dropped


async def collect_blobs(engine: Engine) -> int:
    """Delete blobs that nothing refers to; one that was touched within the grace time is kept."""
    grace = engine.policy.blob_grace_seconds
    unused = await engine.read(unreferenced_blobs, SYSTEM, grace=grace)
    collected = 0
    for sha256 in unused:
        if await engine.run(doom_blob, SYSTEM, sha256, grace=grace):
            await engine.blobs.remove(sha256)
            await engine.run(forget_blob, SYSTEM, sha256)
            collected += 1
    return collected


async def unreferenced_blobs(tx: Transaction, _actor: Actor, *, grace: float) -> list[Sha256]:
    """Blobs without references, untouched for `grace` seconds."""
    return await kept.unreferenced(tx, Moment(tx.now - int(grace * SECOND)), ROUND)


async def doom_blob(tx: Transaction, _actor: Actor, sha256: Sha256, *, grace: float) -> bool:
    """Make a blob unknown before its bytes are removed, if it is still unused."""
    return await kept.doom_blob(tx, sha256, Moment(tx.now - int(grace * SECOND)))


async def forget_blob(tx: Transaction, _actor: Actor, sha256: Sha256) -> None:
    """Take a removed blob out of the books."""
    await kept.drop_blob(tx, sha256)


def _is_low(engine: Engine) -> bool:
    return bool(engine.stored_in) and shutil.disk_usage(engine.stored_in).free < engine.policy.low_disk_bytes
