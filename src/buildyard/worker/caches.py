"""Folders kept between runs: which entry is wanted, restoring it before the steps, packing and storing it after."""

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from buildyard.client.http import PIECE
from buildyard.domain.errors import EngineError, Invalid, LimitReached, NotFound
from buildyard.domain.paths import normal
from buildyard.domain.specs import CacheSpec
from buildyard.protocol import FindCache, SavedCache
from buildyard.worker.archives import pack
from buildyard.worker.bench import Bench
from buildyard.worker.collecting import collect, read_file
from buildyard.worker.held import HeldAttempt
from buildyard.worker.step_log import StepLog, size_words
from buildyard.worker.unpacking import unpack


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cache of an attempt: its entry's key, and the digest of what was restored, if anything was."""

    path: str
    key: str
    restored: str = ""


async def restore_caches(bench: Bench, held: HeldAttempt, folder: Path, log: StepLog) -> list[Wanted]:
    """Lay in what is stored. A cache that cannot be had is said in the log and is no failure, but a full disk is."""
    return [await _restore(bench, held, folder, log, spec) for spec in held.grant.spec.caches]


async def save_caches(bench: Bench, folder: Path, log: StepLog, caches: list[Wanted]) -> list[SavedCache]:
    """Pack and store what has changed. A cache that cannot be saved is said in the log and is no failure."""
    saved = [await _save(bench, folder, log, wanted) for wanted in caches]
    return [cache for cache in saved if cache is not None]


async def cache_key(folder: Path, spec: CacheSpec) -> str:
    """The digest over the names and contents of the key files; empty if the cache has none."""
    if not spec.key_files:
        return ""
    digest = hashlib.sha256()
    for file in (await collect(folder, spec.key_files)).files:
        digest.update(f"{len(file.path.encode(errors='surrogateescape'))} {file.size} ".encode())
        digest.update(file.path.encode(errors="surrogateescape"))
        async for piece in read_file(folder, file.stored_at):
            digest.update(piece)
    return digest.hexdigest()


async def _restore(bench: Bench, held: HeldAttempt, folder: Path, log: StepLog, spec: CacheSpec) -> Wanted:
    begun = time.monotonic()
    path = normal(spec.path)
    wanted = Wanted(path, "")
    try:
        wanted = Wanted(path, await cache_key(folder, spec))
        asked = FindCache(attempt=held.grant.attempt, token=held.reel.token, path=path, key=wanted.key)
        found = await bench.patiently(lambda: bench.client.find_cache(asked))
        if not found.sha256:
            log.say(f"cache {path}: nothing is stored yet")
            return wanted
        await bench.patiently(lambda: _unpack(bench, found.sha256, folder))
    except LimitReached:
        raise
    except EngineError as exc:
        log.say(f"cache {path}: not restored: {exc}")
        _clear(folder, path)
        return wanted
    log.say(f"cache {path}: restored {size_words(found.size)} in {time.monotonic() - begun:.1f} s")
    return Wanted(path, wanted.key, found.sha256)


async def _unpack(bench: Bench, sha256: str, folder: Path) -> None:
    digest = hashlib.sha256()
    async with aclosing(bench.client.read_blob(sha256)) as pieces:
        await unpack(_digested(pieces, digest), folder, outside_links=True)
    if digest.hexdigest() != sha256:
        raise Invalid("its archive is damaged")


async def _digested(pieces: AsyncIterator[bytes], digest: "hashlib._Hash") -> AsyncIterator[bytes]:
    async for piece in pieces:
        digest.update(piece)
        yield piece


def _clear(folder: Path, path: str) -> None:
    """Remove a folder that may be there in part; not if a link lies on the way to it."""
    with suppress(OSError, RuntimeError):
        parent = (folder / path).parent
        if parent.resolve(strict=True) == folder.resolve() / parent.relative_to(folder):
            shutil.rmtree(folder / path)


async def _save(bench: Bench, folder: Path, log: StepLog, wanted: Wanted) -> SavedCache | None:
    begun = time.monotonic()
    packed = bench.folder.scratch / f"cache-{os.urandom(8).hex()}"
    receipt = ""
    try:
        sha256, size = await _pack(folder, wanted.path, packed)
        if sha256 == wanted.restored:
            log.say(f"cache {wanted.path}: unchanged")
            return None
        if not await bench.patiently(lambda: bench.client.has_blob(sha256)):
            stored = await bench.patiently(lambda: bench.client.put_blob(lambda: _read(packed), size=size))
            receipt = stored.receipt
    except (EngineError, OSError) as exc:
        log.say(f"cache {wanted.path}: not saved: {exc}")
        return None
    finally:
        packed.unlink(missing_ok=True)
    log.say(f"cache {wanted.path}: saved {size_words(size)} in {time.monotonic() - begun:.1f} s")
    return SavedCache(path=wanted.path, key=wanted.key, sha256=sha256, size=size, receipt=receipt)


async def _pack(folder: Path, path: str, packed: Path) -> tuple[str, int]:
    """Write the archive of a folder to a file: its digest and size."""
    if not await asyncio.to_thread(os.path.lexists, folder / path):
        raise NotFound("it is not there")
    digest = hashlib.sha256()
    size = 0
    with packed.open("xb") as file:
        async for piece in pack(folder, [path]):
            await asyncio.to_thread(file.write, piece)
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


async def _read(file: Path) -> AsyncGenerator[bytes]:
    with file.open("rb") as stream:
        while data := await asyncio.to_thread(stream.read, PIECE):
            yield data
