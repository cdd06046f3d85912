"""Logs on the local disk: growing ones in files of their own, sealed ones in files or, if short, in packs."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.files import Handle, discard, open_handle, sync_folder
from buildyard.adapters.logs.cache import Cache
from buildyard.adapters.logs.chunked import BLOCKS, ChunkedLogs
from buildyard.adapters.logs.files import shard
from buildyard.adapters.logs.live import BlockCache, Live
from buildyard.adapters.logs.packs import MOST, Packs
from buildyard.adapters.logs.sealed import Sealed, open_sealed, sealed_pieces
from buildyard.domain.errors import Unavailable
from buildyard.domain.ids import LogId

_SHORT = 1024 * 1024
_BATCH = 64


class LocalLogStore(ChunkedLogs):
    """Logs below `folder`: `000/012/345.log` and `.idx` while log 12345 grows, then `000/012/345.zst` or a pack."""

    def __init__(self, folder: Path) -> None:
        blocks: BlockCache = Cache(BLOCKS)
        super().__init__(folder, FolderShelf(folder, blocks), blocks)


@dataclass(slots=True)
class _Task:
    """One log on its way to the shelf."""

    log: LogId
    path: str
    live: Live | None
    done: asyncio.Future[None]
    handle: Handle | None = None
    error: Exception | None = None


class FolderShelf:
    """Sealed logs as files. Short logs that are sealed while others are being synced share the next sync."""

    def __init__(self, folder: Path, blocks: BlockCache) -> None:
        self._folder = str(folder)
        self._blocks = blocks
        self._waiting: list[_Task] = []
        self._worker: asyncio.Task[None] | None = None
        self._known_folders: set[str] = set()
        self._packs = Packs(folder)

    async def find(self, log: LogId) -> Sealed | None:
        """See Shelf."""
        packed = self._packs.find(log)
        if packed is not None:
            return await _open_packed(packed, self._blocks)
        try:
            handle = open_handle(f"{self._path(log)}.zst", os.O_RDONLY)
        except FileNotFoundError:
            return None

        async def fetch(start: int, stop: int) -> bytes:
            return await asyncio.to_thread(handle.read, start, stop)

        return await open_sealed(fetch, handle.size, self._blocks)

    async def keep(self, log: LogId, live: Live | None) -> None:
        """See Shelf."""
        task = _Task(log, self._path(log), live, asyncio.get_running_loop().create_future())
        if live and live.end.size > _SHORT:
            await self._store([task])
        else:
            self._waiting.append(task)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work())
        await task.done

    async def remove(self, log: LogId) -> None:
        """See Shelf."""
        await asyncio.to_thread(self._packs.remove, log)
        try:
            os.unlink(f"{self._path(log)}.zst")
        except FileNotFoundError:
            return

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            await asyncio.gather(self._store(batch), return_exceptions=True)

    async def _store(self, batch: Sequence[_Task]) -> None:
        try:
            await asyncio.to_thread(self._write_all, batch)
        except Exception as exc:
            for task in batch:
                task.error = task.error or exc
            raise
        finally:
            for task in batch:
                _answer(task)

    def close(self) -> None:
        """See Shelf."""
        self._packs.close()

    def _write_all(self, batch: Sequence[_Task]) -> None:
        """Write all, then sync all, then give all their names, then sync the folders: the disk merges what it can."""
        batch = self._pack(batch)
        for step in (_write, _sync, _rename):
            for task in batch:
                _attempt(step, task)
        for folder in {os.path.dirname(task.path) for task in batch}:
            self._sync_folders(folder, [task for task in batch if os.path.dirname(task.path) == folder])
        for task in batch:
            task.handle = None
            if task.error:
                discard(f"{task.path}.tmp")

    def _pack(self, batch: Sequence[_Task]) -> list[_Task]:
        """Put the short ones of these logs into packs; gives those that need files."""
        short = [task for task in batch if task.live is None or task.live.end.size <= MOST]
        packed: dict[LogId, tuple[_Task, bytes]] = {}
        for task in short:
            _attempt(_packer(packed), task)
        try:
            self._packs.add([(log, data) for log, (_, data) in packed.items()])
        except OSError as exc:
            for task, _ in packed.values():
                task.error = exc
        return [task for task in batch if task.log not in packed and task.error is None]

    def _sync_folders(self, folder: str, batch: Sequence[_Task]) -> None:
        """Make the names in a folder durable, and the first time those of the folders above."""
        try:
            sync_folder(folder)
            parent = folder
            while folder not in self._known_folders and parent != self._folder:
                parent = os.path.dirname(parent)
                sync_folder(parent)
            self._known_folders.add(folder)
        except OSError as exc:
            for task in batch:
                task.error = task.error or exc

    def _path(self, log: LogId) -> str:
        return f"{self._folder}/{shard(log)}"


def _answer(task: _Task) -> None:
    """Tell who waits, if anyone still does."""
    if task.done.done():
        return
    if task.error is None:
        task.done.set_result(None)
    else:
        task.done.set_exception(task.error)


def _attempt(step: Callable[[_Task], None], task: _Task) -> None:
    """Do a step unless an earlier one failed, and note if it fails."""
    if task.error is None:
        try:
            step(task)
        except (OSError, Unavailable) as exc:
            task.error = exc


def _packer(packed: dict[LogId, tuple[_Task, bytes]]) -> Callable[[_Task], None]:
    """A step that adds a log's sealed object to `packed`, unless it is too long."""

    def pack(task: _Task) -> None:
        data = b"".join(sealed_pieces(task.live))
        if len(data) <= MOST:
            packed[task.log] = (task, data)

    return pack


async def _open_packed(data: bytes, blocks: BlockCache) -> Sealed:
    async def fetch(start: int, stop: int) -> bytes:
        return data[start:stop]

    return await open_sealed(fetch, len(data), blocks, data)


def _write(task: _Task) -> None:
    task.handle = write_sealed(f"{task.path}.tmp", task.live)
    os.posix_fadvise(task.handle.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(task: _Task) -> None:
    if task.handle:
        os.fsync(task.handle.fd)


def _rename(task: _Task) -> None:
    os.rename(f"{task.path}.tmp", f"{task.path}.zst")


def write_sealed(path: str, live: Live | None) -> Handle:
    """Write a log's sealed form to a file, not yet synced."""
    handle = open_handle(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    position = 0
    for piece in sealed_pieces(live):
        handle.write(piece, position)
        position += len(piece)
    return handle
