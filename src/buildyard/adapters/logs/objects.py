"""Logs that grow on the local disk and are kept, once sealed, in an object store."""

import asyncio
from pathlib import Path

import obstore
from obstore.store import ObjectStore

from buildyard.adapters.files import discard
from buildyard.adapters.logs.cache import Cache
from buildyard.adapters.logs.chunked import BLOCKS, ChunkedLogs
from buildyard.adapters.logs.files import shard
from buildyard.adapters.logs.live import BlockCache, Live
from buildyard.adapters.logs.local import write_sealed
from buildyard.adapters.logs.sealed import TAIL, Sealed, open_sealed, sealed_pieces
from buildyard.adapters.object_store import object_errors
from buildyard.domain.ids import LogId

_SHORT = 1024 * 1024
_PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_REQUESTS_AT_ONCE = 32


class S3LogStore(ChunkedLogs):
    """Logs below `folder` while they grow, then objects `<prefix>000/012/345.zst` that every server can read.

    A log grows on the one server that its appends go to. `prefix` ends with a slash.
    """

    def __init__(self, folder: Path, store: ObjectStore, *, prefix: str = "logs/") -> None:
        blocks: BlockCache = Cache(BLOCKS)
        super().__init__(folder, ObjectShelf(folder, store, prefix, blocks), blocks)


class ObjectShelf:
    """Sealed logs as objects; long ones are written to a file beside the growing log first, then sent in parts."""

    def __init__(self, folder: Path, store: ObjectStore, prefix: str, blocks: BlockCache) -> None:
        self._folder = folder
        self._store = store
        self._prefix = prefix
        self._blocks = blocks
        self._turn = asyncio.Semaphore(_REQUESTS_AT_ONCE)

    async def find(self, log: LogId) -> Sealed | None:
        """See Shelf. One request tells whether it is there, and reads the table of most logs."""
        key = self._key(log)
        try:
            with object_errors(key):
                async with self._turn:
                    result = await obstore.get_async(self._store, key, options={"range": {"suffix": TAIL}})
                    tail = bytes(await result.bytes_async())
        except FileNotFoundError:
            return None

        async def fetch(start: int, stop: int) -> bytes:
            with object_errors(key):
                async with self._turn:
                    return bytes(await obstore.get_range_async(self._store, key, start=start, end=stop))

        return await open_sealed(fetch, result.meta["size"], self._blocks, tail)

    async def keep(self, log: LogId, live: Live | None) -> None:
        """See Shelf."""
        async with self._turn:
            await self._send(log, self._key(log), live)

    async def remove(self, log: LogId) -> None:
        """See Shelf."""
        key = self._key(log)
        try:
            with object_errors(key):
                async with self._turn:
                    await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return

    def close(self) -> None:
        """See Shelf. Requests are not held open."""

    async def _send(self, log: LogId, key: str, live: Live | None) -> None:
        if not live or live.end.size <= _SHORT:
            data = await asyncio.to_thread(lambda: b"".join(sealed_pieces(live)))
            with object_errors(key):
                await obstore.put_async(self._store, key, data, use_multipart=False)
            return
        path = self._folder / f"{shard(log)}.tmp"
        try:
            await asyncio.to_thread(write_sealed, str(path), live)
            with object_errors(key):
                await obstore.put_async(self._store, key, path, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)
        finally:
            discard(path)

    def _key(self, log: LogId) -> str:
        return f"{self._prefix}{shard(log)}.zst"
