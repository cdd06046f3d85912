"""Blobs in an object store, S3 or compatible."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import obstore
from obstore.store import ObjectStore

from buildyard.adapters.blobs.intake import BATCH, batches, blob_path, is_digest, missing
from buildyard.adapters.files import Handle
from buildyard.adapters.object_store import object_errors
from buildyard.domain.errors import Unavailable
from buildyard.domain.ids import SECOND, Moment, Sha256
from buildyard.ports import BlobInfo, StoredBlob

_PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_PIECE = 4 * 1024 * 1024


class ObjectBlobStore:
    """A BlobStore in an object store; objects are named `<prefix>ab/cdef…` by their digest, `prefix` ends with a slash.

    The name is known only at the end, so a stream over 1 MiB goes through a nameless file in `scratch`, which vanishes
    with the process, and then up in parts.
    """

    def __init__(self, store: ObjectStore, scratch: Path, *, prefix: str = "blobs/") -> None:
        self._store = store
        self._scratch = scratch
        self._prefix = prefix

    async def open(self) -> None:
        """Make the scratch folder."""
        self._scratch.mkdir(parents=True, exist_ok=True)

    async def put(self, data: AsyncIterable[bytes], *, limit: int | None = None) -> BlobInfo:
        """See BlobStore."""
        spool = _Spool(self._scratch)
        async for batch in batches(data, limit):
            if spool.size or len(batch) >= BATCH:
                await asyncio.to_thread(spool.write, batch)
            else:
                spool.hold(batch)
        sha256 = Sha256(spool.digest.hexdigest())
        with object_errors(sha256):
            await obstore.put_async(
                self._store, self._key(sha256), spool.source(), chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE
            )
        return BlobInfo(sha256, spool.size)

    async def size(self, sha256: Sha256) -> int:
        """See BlobStore."""
        key = self._key(sha256)
        try:
            with object_errors(sha256):
                return (await obstore.head_async(self._store, key))["size"]
        except FileNotFoundError as exc:
            raise missing(sha256) from exc

    async def read(self, sha256: Sha256, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See BlobStore. One request for each piece of at most 4 MiB; the first step raises NotFound."""
        size = await self.size(sha256)
        position, stop = max(0, start), size if stop is None else min(stop, size)
        while position < stop:
            end = min(stop, position + _PIECE)
            try:
                with object_errors(sha256):
                    piece = await obstore.get_range_async(self._store, self._key(sha256), start=position, end=end)
            except FileNotFoundError as exc:
                raise missing(sha256) from exc
            yield bytes(piece)
            position = end

    async def remove(self, sha256: Sha256) -> None:
        """See BlobStore."""
        key = self._key(sha256)
        try:
            with object_errors(sha256):
                await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return

    async def stored(self, after: str, count: int) -> list[StoredBlob]:
        """See BlobStore. A request for each thousand."""
        found: list[StoredBlob] = []
        offset = f"{self._prefix}{after[:2]}/{after[2:]}" if after else None
        with object_errors("its list"):
            async for chunk in obstore.list(self._store, self._prefix, offset=offset, chunk_size=min(count, 1000)):
                for one in chunk:
                    name = one["path"].removeprefix(self._prefix).replace("/", "")
                    if is_digest(name) and name > after:
                        at = Moment(int(one["last_modified"].timestamp() * SECOND))
                        found.append(StoredBlob(Sha256(name), one["size"], at))
                if len(found) >= count:
                    break
        return found[:count]

    def _key(self, sha256: Sha256) -> str:
        return f"{self._prefix}{blob_path(sha256)}"


class _Spool:
    """A stream's bytes until their digest is known: in memory if there is one short batch, else in a nameless file."""

    def __init__(self, folder: Path) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._held = b""
        self._folder = folder
        self._file: Handle | None = None

    def hold(self, batch: bytes) -> None:
        """Keep the only batch in memory."""
        self._held = batch
        self.size = len(batch)
        self.digest.update(batch)

    def write(self, batch: bytes) -> None:
        """Add a batch to the file."""
        self.digest.update(batch)
        try:
            if self._file is None:
                with tempfile.TemporaryFile(dir=self._folder) as file:
                    self._file = Handle(os.dup(file.fileno()))
            self._file.write(batch, self.size)
        except OSError as exc:
            raise Unavailable(f"there is no room to take in a blob: {exc.strerror or exc}") from exc
        self.size += len(batch)

    def source(self) -> bytes | Path:
        """Where to read all of it from, for as long as this object lives."""
        return Path(f"/proc/self/fd/{self._file.fd}") if self._file else self._held
