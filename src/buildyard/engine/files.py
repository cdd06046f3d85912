"""Bytes that come and go: uploads into the blob store, caches to restore, logs to read."""

from collections.abc import AsyncIterable

from buildyard.domain.access import Actor, require_worker, serves
from buildyard.domain.errors import NotFound, Stale, Unavailable
from buildyard.domain.ids import SECOND, AttemptId, Moment, Sha256
from buildyard.domain.states import Phase
from buildyard.domain.trust import is_trusted
from buildyard.engine.engine import Engine
from buildyard.engine.leasing import fencing_digest
from buildyard.ports import BlobInfo
from buildyard.protocol import CacheFound, FindCache
from buildyard.store import attempts, builds, jobs, kept
from buildyard.store.transactions import Transaction


async def store_blob(engine: Engine, actor: Actor, data: AsyncIterable[bytes], *, limit: int = 0) -> BlobInfo:
    """Store a stream, and note it, so that it stays for the grace time and longer if something refers to it.

    Raises TooLarge past `limit` bytes (0: the largest artifact or cache).
    """
    engine.require_space()
    info = await engine.blobs.put(data, limit=limit or engine.policy.blob_bytes)
    if not await engine.run(touch_blob, actor, info):
        try:
            await engine.blobs.size(info.sha256)
        except NotFound as exc:
            raise Unavailable("the same bytes were being removed: send them again") from exc
        await engine.run(confirm_blob, actor, info)
    return info


async def touch_blob(tx: Transaction, _actor: Actor, info: BlobInfo) -> bool:
    """Note a stored blob without a reference to it; False if it is new and must be confirmed."""
    return await kept.enter_blob(tx, info.sha256, info.size)


async def confirm_blob(tx: Transaction, _actor: Actor, info: BlobInfo) -> None:
    """Say that the bytes of a new blob were seen to be there after it was noted."""
    await kept.confirm_blob(tx, info.sha256)


async def knows_blob(tx: Transaction, actor: Actor, sha256: Sha256) -> bool:
    """Whether a worker may have these bytes.

    A worker of one project knows what that project keeps and what its jobs run on now.
    """
    require_worker(actor)
    if actor.only_project is not None and not await kept.is_of_project(tx, sha256, actor.only_project):
        return False
    return await kept.knows_blob(tx, sha256)


async def will_stay(tx: Transaction, actor: Actor, sha256: Sha256, *, seconds: float) -> bool:
    """Whether a worker that has these bytes need not send them: they stay for `seconds` even if nothing refers to them.

    Bytes that are about to be collected are sent again, which lets them stay.
    """
    require_worker(actor)
    return await kept.is_fresh_blob(tx, sha256, Moment(tx.now - int(seconds * SECOND)))


async def find_cache(tx: Transaction, actor: Actor, wanted: FindCache) -> CacheFound:
    """Which blob to restore for a cache of a held attempt's job; marks it as used."""
    require_worker(actor)
    attempt = await attempts.get(tx, AttemptId(wanted.attempt))
    if attempt.token_hash != fencing_digest(wanted.token) or attempt.state.phase is Phase.FINISHED:
        raise Stale("the attempt is no longer this worker's")
    job = await jobs.get(tx, attempt.job)
    build = await builds.get(tx, job.build)
    if not serves(actor, build.project):
        raise Stale("the attempt is no longer this worker's")
    cache = await kept.find_cache(
        tx, build.project, scope=job.name, path=wanted.path, key=wanted.key, trusted=is_trusted(build)
    )
    if cache is None:
        return CacheFound()
    await kept.touch_cache(tx, cache)
    return CacheFound(sha256=cache.sha256, size=cache.size)
