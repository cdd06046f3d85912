"""Blobs as files in a local folder."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from buildyard.adapters.blobs.intake import batches, blob_path, is_digest, missing
from buildyard.adapters.files import Handle, discard, open_handle, sync_folder
from buildyard.domain.errors import Unavailable
from buildyard.domain.ids import Moment, Sha256
from buildyard.ports import BlobInfo, StoredBlob

_PIECE = 256 * 1024


class LocalBlobStore:
    """A BlobStore in `folder`: files named by digest (`ab/cdef…`), and unfinished ones below `incoming`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"

    async def open(self) -> None:
        """Remove what puts that were killed left behind; files that any living process still writes are spared."""
        with _disk_errors("its folder"):
            await asyncio.to_thread(_sweep, self._incoming)

    async def put(self, data: AsyncIterable[bytes], *, limit: int | None = None) -> BlobInfo:
        """See BlobStore."""
        with _disk_errors("a new blob"):
            incoming = await asyncio.to_thread(_Incoming, self._incoming)
        try:
            async for batch in batches(data, limit):
                with _disk_errors("a new blob"):
                    await asyncio.to_thread(incoming.write, batch)
            with _disk_errors("a new blob"):
                return await asyncio.to_thread(incoming.keep, self._folder)
        finally:
            incoming.discard()

    async def size(self, sha256: Sha256) -> int:
        """See BlobStore."""
        return self._open(sha256).size

    async def read(self, sha256: Sha256, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See BlobStore. Pieces have at most 256 KiB; NotFound is raised by the first step of the iteration.

        A blob that is removed meanwhile is still read to its end.
        """
        handle = self._open(sha256)
        position, stop = max(0, start), handle.size if stop is None else min(stop, handle.size)
        while position < stop:
            with _disk_errors(sha256):
                piece = await asyncio.to_thread(handle.read, position, min(stop, position + _PIECE))
            if not piece:
                raise Unavailable(f"blob {sha256} was cut short on disk")
            yield piece
            position += len(piece)

    async def remove(self, sha256: Sha256) -> None:
        """See BlobStore."""
        with _disk_errors(sha256):
            (self._folder / blob_path(sha256)).unlink(missing_ok=True)

    async def stored(self, after: str, count: int) -> list[StoredBlob]:
        """See BlobStore."""
        with _disk_errors("its folder"):
            return await asyncio.to_thread(_stored, self._folder, after, count)

    def _open(self, sha256: Sha256) -> Handle:
        path = self._folder / blob_path(sha256)
        with _disk_errors(sha256):
            try:
                return open_handle(path, os.O_RDONLY)
            except FileNotFoundError as exc:
                raise missing(sha256) from exc


class _Incoming:
    """A blob on its way in. A lock on its file, dropped with the process, tells `_sweep` that it is wanted.

    Its methods run in threads, one at a time; `discard` may come while one still runs whose caller was cancelled.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / uuid4().hex
        self._handle = open_handle(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        fcntl.flock(self._handle.fd, fcntl.LOCK_EX)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, batch: bytes) -> None:
        self._digest.update(batch)
        self._handle.write(batch, self._size)
        self._size += len(batch)

    def keep(self, folder: Path) -> BlobInfo:
        """Make the bytes durable, then visible, then their name durable."""
        sha256 = Sha256(self._digest.hexdigest())
        path = folder / blob_path(sha256)
        os.fsync(self._handle.fd)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(folder)
        os.rename(self._path, path)
        sync_folder(path.parent)
        return BlobInfo(sha256, self._size)

    def discard(self) -> None:
        discard(self._path)


def _stored(folder: Path, after: str, count: int) -> list[StoredBlob]:
    """Blobs by name, folder by folder; what vanishes meanwhile is left out."""
    found: list[StoredBlob] = []
    for first in range(int(after[:2] or "0", 16), 256):
        shard = folder / f"{first:02x}"
        names = sorted(os.listdir(shard)) if shard.is_dir() else []
        for name in names:
            digest = f"{first:02x}{name}"
            if digest <= after or not is_digest(digest):
                continue
            try:
                state = os.stat(shard / name)
            except FileNotFoundError:
                continue
            found.append(StoredBlob(Sha256(digest), state.st_size, Moment(state.st_mtime_ns // 1000)))
            if len(found) == count:
                return found
    return found


def _sweep(folder: Path) -> None:
    """Remove files that nobody holds a lock on."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        handle = open_handle(path, os.O_WRONLY)
        try:
            fcntl.flock(handle.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        path.unlink(missing_ok=True)


@contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(f"the blob store failed on {what}: {exc.strerror or exc}") from exc
