"""Making room: caches beyond their limits, unused blobs, bytes of removed logs, bytes that no row knows.

Each function does a bounded part, may run on several servers at once, and may be killed anywhere: rows say first what
will go, then the bytes go, then the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import SECOND, LogId, Moment, ProjectId, Sha256
from buildyard.domain.retention import DAY, Bounds, What, narrowed
from buildyard.engine.engine import Engine
from buildyard.ports import StoredBlob
from buildyard.store import kept, removing, retention, settings
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

ROUND = 200
SWEPT = 500
"""How many stored blobs are compared with the books at a time."""

SHORT_GRACE = 300.0
"""Seconds after which the blob of a cache that went for lack of space may go, instead of the usual grace."""

ORPHANS_AFTER = "orphans_after"
"""Under this name the server remembers up to which digest it has compared."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round took away, or would; `more`: there may be more."""

    count: int = 0
    size: int = 0
    more: bool = False


async def evict_caches(engine: Engine, *, dry: bool = False) -> Taken:
    """Drop caches beyond the rules, longest unused first; on a disk that runs low as many more as it takes."""
    return await engine.run(
        drop_caches,
        SYSTEM,
        limit=engine.policy.cache_bytes,
        bounds=engine.policy.bounds(What.CACHES),
        missing=_missing_bytes(engine),
        grace=engine.policy.blob_grace_seconds,
        dry=dry,
    )


def _missing_bytes(engine: Engine) -> int:
    """How much more room the disk shall have, as far as dropping caches can make any."""
    free = engine.free_bytes() if engine.blobs_on_disk else None
    wanted = max(engine.policy.tidy_disk_bytes, engine.policy.low_disk_bytes)
    return 0 if free is None else max(0, wanted - free)


async def drop_caches(
    tx: Transaction,
    _actor: Actor,
    *,
    limit: int,
    bounds: Bounds,
    missing: int = 0,
    grace: float = 0.0,
    dry: bool = False,
) -> Taken:
    """Forget caches beyond each project's bounds, beyond `limit` bytes of all, and `missing` bytes more.

    What unused blobs hold counts as room to come.
    """
    dropping = _Dropping(tx, dry)
    totals = await kept.cache_totals(tx)
    for total in totals:
        rules = await retention.rules_of(tx, total.project)
        own = narrowed(bounds, rules.get((retention.ALL_PIPELINES, What.CACHES)))
        before = Moment(tx.now - own.days * DAY) if own.days else None
        too_many = total.count - own.count if own.count else 0
        too_much = total.size - own.size if own.size else 0
        await dropping.drop(total.project, tx.now, before=before, count=too_many, size=too_much)
    excess = sum(total.size for total in totals) - dropping.size - limit
    if excess > 0:
        await dropping.drop(None, tx.now, size=excess)
    if missing > 0:
        coming = (await kept.unreferenced_bytes(tx, tx.now))[1]
        soon = Moment(tx.now - int(max(0.0, grace - SHORT_GRACE) * SECOND))
        await dropping.drop(None, soon, size=missing - coming)
    return Taken(dropping.count, dropping.size)


class _Dropping:
    """Drops the caches used longest ago, a round of each kind at most; a `dry` one only counts."""

    def __init__(self, tx: Transaction, dry: bool) -> None:
        self._tx = tx
        self._dry = dry
        self.count = 0
        self.size = 0

    async def drop(
        self, project: ProjectId | None, at: Moment, *, before: Moment | None = None, count: int = 0, size: int = 0
    ) -> None:
        """Drop what was used `before`, `count` caches, and `size` bytes; their blobs count as used `at`."""
        for cache in await kept.oldest_caches(self._tx, ROUND, project):
            if (before is None or cache.used_at >= before) and count <= 0 and size <= 0:
                return
            if not self._dry:
                await kept.drop_cache(self._tx, cache, at)
                removing.count_freed(self._tx, "caches", 1, cache.size)
            self.count, self.size = self.count + 1, self.size + cache.size
            count, size = count - 1, size - cache.size


async def collect_blobs(engine: Engine) -> Taken:
    """Delete a round of blobs that nothing refers to; one that was touched within the grace time is kept."""
    grace = engine.policy.blob_grace_seconds
    unused = await engine.read(unreferenced_blobs, SYSTEM, grace=grace)
    collected = [(sha256, size) for sha256, size in unused if await _collect(engine, sha256, size, grace)]
    return Taken(len(collected), sum(size for _, size in collected), len(unused) == ROUND)


async def _collect(engine: Engine, sha256: Sha256, size: int, grace: float) -> bool:
    if not await engine.run(doom_blob, SYSTEM, sha256, grace=grace):
        return False
    await engine.blobs.remove(sha256)
    await engine.run(forget_blob, SYSTEM, sha256, size)
    return True


async def unreferenced_blobs(tx: Transaction, _actor: Actor, *, grace: float) -> list[tuple[Sha256, int]]:
    """Blobs without references, untouched for `grace` seconds, and their sizes."""
    return await kept.unreferenced(tx, Moment(tx.now - int(grace * SECOND)), ROUND)


async def count_unreferenced(tx: Transaction, _actor: Actor, *, grace: float) -> Taken:
    """What collecting blobs would take away now."""
    return Taken(*await kept.unreferenced_bytes(tx, Moment(tx.now - int(grace * SECOND))))


async def doom_blob(tx: Transaction, _actor: Actor, sha256: Sha256, *, grace: float) -> bool:
    """Make a blob unknown before its bytes are removed, if it is still unused."""
    return await kept.doom_blob(tx, sha256, Moment(tx.now - int(grace * SECOND)))


async def forget_blob(tx: Transaction, _actor: Actor, sha256: Sha256, size: int) -> None:
    """Take a removed blob out of the books."""
    await kept.drop_blob(tx, sha256)
    removing.count_freed(tx, "blobs", 1, size)


async def remove_log_bytes(engine: Engine) -> Taken:
    """Delete the bytes of a round of logs that were removed."""
    gone = await engine.read(removed_logs, SYSTEM)
    for key in gone:
        await engine.logs.remove(key)
    if gone:
        await engine.run(forget_logs, SYSTEM, gone)
    return Taken(len(gone), 0, len(gone) == ROUND)


async def removed_logs(tx: Transaction, _actor: Actor) -> list[LogId]:
    """Logs whose bytes must go."""
    return await removing.removed_logs(tx, ROUND)


async def forget_logs(tx: Transaction, _actor: Actor, gone: Sequence[LogId]) -> None:
    """Note that their bytes are gone."""
    await removing.forget_logs(tx, gone)


async def remove_orphans(engine: Engine) -> Taken:
    """Compare a part of the blob store with the books and delete what they do not know: uploads that a crash cut off.

    What came within the grace time is left alone: its row may be about to be written.
    """
    after = await engine.read(swept_up_to, SYSTEM)
    stored = await engine.blobs.stored(after, SWEPT)
    orphans = await engine.read(unknown_blobs, SYSTEM, stored, grace=engine.policy.blob_grace_seconds)
    count = size = 0
    for one in orphans:
        if await engine.run(adopt_blob, SYSTEM, one):
            await engine.blobs.remove(one.sha256)
            await engine.run(forget_blob, SYSTEM, one.sha256, one.size)
            count, size = count + 1, size + one.size
    is_end = len(stored) < SWEPT
    await engine.run(note_swept, SYSTEM, "" if is_end else stored[-1].sha256)
    if count:
        log.info("orphans_removed", blobs=count, bytes=size)
    return Taken(count, size, not is_end)


async def swept_up_to(tx: Transaction, _actor: Actor) -> str:
    """Up to which digest the blob store was compared with the books."""
    return await settings.find(tx, ORPHANS_AFTER) or ""


async def note_swept(tx: Transaction, _actor: Actor, after: str) -> None:
    """Remember up to where the comparison came."""
    await settings.put(tx, ORPHANS_AFTER, after)


async def unknown_blobs(
    tx: Transaction, _actor: Actor, stored: Sequence[StoredBlob], *, grace: float
) -> list[StoredBlob]:
    """Those that no row knows and that have lain there for `grace` seconds."""
    old = [one for one in stored if one.stored_at < tx.now - grace * SECOND]
    known = await kept.known_blobs(tx, [one.sha256 for one in old])
    return [one for one in old if one.sha256 not in known]


async def adopt_blob(tx: Transaction, _actor: Actor, one: StoredBlob) -> bool:
    """Enter unknown bytes as doomed, so that who stores the same meanwhile is told to send them again."""
    return await kept.adopt_blob(tx, one.sha256, one.size)
