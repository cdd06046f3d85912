"""The log store: growing logs in local files, finished ones on a shelf (a local folder or an object store)."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from buildyard.adapters.logs.cache import Cache
from buildyard.adapters.logs.feed import Feeds
from buildyard.adapters.logs.files import disk_errors, shard
from buildyard.adapters.logs.index import Block, pieces
from buildyard.adapters.logs.lines import read_lines
from buildyard.adapters.logs.live import BlockCache, Live
from buildyard.adapters.logs.sealed import Sealed
from buildyard.adapters.logs.spares import Spares
from buildyard.domain.errors import Conflict, NotFound
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, Line, LogState

T = TypeVar("T")

_INLINE = 64 * 1024
_GROWING = 128
_SHELVED = 16 * 1024 * 1024
_LEAST_WEIGHT = 64 * 1024
_NOTHING = Chunk(Stream.HEADER, Moment(0), b"")
BLOCKS = 16 * 1024 * 1024
"""Bytes of blocks that a store keeps in memory, for all its readers."""


class Shelf(Protocol):
    """Where sealed logs are kept."""

    async def find(self, log: LogId) -> Sealed | None:
        """Open a sealed log, if there is one."""
        ...

    async def keep(self, log: LogId, live: Live | None) -> None:
        """Store a log (None: an empty one) as sealed, whole or not at all, durably."""
        ...

    async def remove(self, log: LogId) -> None:
        """Delete a sealed log, known or not."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class ChunkedLogs:
    """A LogStore. Open files (at most 256 growing, 256 sealed) and memory (about 48 MiB) are bounded.

    One object in one process at a time may append to a folder; several may read it. `close` when done.
    """

    def __init__(self, folder: Path, shelf: Shelf, blocks: BlockCache) -> None:
        self._folder = str(folder)
        self._shelf = shelf
        self._blocks = blocks
        self._feeds = Feeds()
        self._live: Cache[LogId, Live] = Cache(_GROWING)
        self._sealed: Cache[LogId, Sealed] = Cache(_SHELVED)
        self._locks: WeakValueDictionary[LogId, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spares = Spares(folder / "spare")
        self._closed = False

    async def close(self) -> None:
        """Finish what is under way, end all followers, close all files. The logs stay as they are."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._closed = True
        self._feeds.wake_all()
        self._live.clear()
        self._spares.close()
        self._sealed.clear()
        self._shelf.close()
        self._blocks.clear()

    async def append(self, log: LogId, offset: int, chunks: Sequence[Chunk]) -> LogState:
        """See LogStore. Up to 64 KiB are written at once, more in a thread."""
        if sum(len(chunk.data) for chunk in chunks) > _INLINE:
            return await self._uninterrupted(self._append(log, offset, chunks, in_thread=True))
        return await self._append(log, offset, chunks, in_thread=False)

    async def seal(self, log: LogId) -> LogState:
        """See LogStore. Seals that meet share their syncs."""
        return await self._uninterrupted(self._seal(log))

    async def state(self, log: LogId) -> LogState:
        """See LogStore."""
        return (await self._get(log)).state

    async def read(self, log: LogId, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See LogStore. Pieces have at most 128 KiB; NotFound is raised by the first step of the iteration."""
        size = (await self._get(log)).state.size
        position, stop = max(0, start), size if stop is None else min(stop, size)
        while position < stop:
            block = await self._block(log, position)
            yield block.data[position - block.start : stop - block.start]
            position = block.stop
            await asyncio.sleep(0)

    async def lines(self, log: LogId, first: int, count: int) -> list[Line]:
        """See LogStore. Of a line over 1 MiB it returns the first MiB, and it stops early after 8 MiB of text."""
        with disk_errors(log):
            return await read_lines(await self._get(log), first, count)

    async def follow(self, log: LogId, start: int = 0, *, quiet_s: float | None = None) -> AsyncGenerator[Chunk, None]:
        """See LogStore. Ends also when the store is closed; raises NotFound when the log is removed."""
        position = max(0, start)
        with self._feeds.join(log) as feed:
            while not self._closed:
                changed = feed.changed
                if feed.removed:
                    raise NotFound(f"log {log} was removed")
                chunk = feed.at(position)
                if chunk is not None:
                    position += len(chunk.data)
                    yield chunk
                    continue
                found = await self._look(log)
                state = found.state if found else None
                if state and position < state.size:
                    block = await self._block(log, position)
                    for number in range(block.record_of_byte(position), len(block.records)):
                        record = block.records[number]
                        yield block.chunk(record, position - record.offset)
                        position = record.stop
                    await asyncio.sleep(0)
                elif state and state.sealed:
                    return
                elif not await _within(quiet_s, changed):
                    yield _NOTHING

    async def remove(self, log: LogId) -> None:
        """See LogStore. Followers of the log get NotFound."""
        await self._uninterrupted(self._remove(log))

    async def _append(self, log: LogId, offset: int, chunks: Sequence[Chunk], *, in_thread: bool) -> LogState:
        async with self._lock(log):
            found = await self._find(log)
            size = found.state.size if found else 0
            if offset > size:
                raise Conflict(f"log {log} ends at byte {size}, not at {offset}")
            added = list(pieces(chunks, size - offset))
            if found and not added:
                return found.state
            if isinstance(found, Sealed):
                raise Conflict(f"log {log} is sealed")
            self._live.discard(log)
            with disk_errors(log):
                live = await self._write(log, found, added, in_thread=in_thread)
            self._live.put(log, live)
            feed = self._feeds.find(log)
            if feed:
                feed.publish(size, added)
            return live.state

    async def _write(self, log: LogId, found: Live | None, added: Sequence[Chunk], *, in_thread: bool) -> Live:
        """Begin the log if need be and append. After an OSError the files are opened anew, or were not there before."""
        try:
            live = found or Live.begin(self._path(log), self._blocks, self._spares)
            if in_thread:
                await asyncio.to_thread(live.append, added)
            elif added:
                live.append(added)
        except OSError:
            if found is None:
                self._unlink(log)
            raise
        return live

    async def _seal(self, log: LogId) -> LogState:
        async with self._lock(log):
            found = await self._find(log)
            if isinstance(found, Sealed):
                return found.state
            with disk_errors(log):
                await self._shelf.keep(log, found)
                self._live.discard(log)
                if found:
                    self._let_go(log, found)
            feed = self._feeds.find(log)
            if feed:
                feed.wake()
            return LogState(found.end.size, found.end.lines, sealed=True) if found else LogState(0, 0, sealed=True)

    def _let_go(self, log: LogId, live: Live) -> None:
        """Reuse or delete a log's files. The last close of a deleted file frees its space: that goes to a thread."""
        if not live.give(self._path(log), self._spares):
            self._unlink(log)
            last = [live]
            self._start(asyncio.to_thread(last.clear))

    async def _remove(self, log: LogId) -> None:
        async with self._lock(log):
            self._live.discard(log)
            self._sealed.discard(log)
            with disk_errors(log):
                self._unlink(log)
                await self._shelf.remove(log)
            self._feeds.end(log)

    async def _get(self, log: LogId) -> Live | Sealed:
        found = await self._look(log)
        if found is None:
            raise NotFound(f"there is no log {log}")
        return found

    async def _look(self, log: LogId) -> Live | Sealed | None:
        """For readers: what is open already, else opened while nobody writes, seals or removes."""
        known = self._live.get(log) or self._sealed.get(log)
        if known:
            return known
        async with self._lock(log):
            return await self._find(log)

    async def _find(self, log: LogId) -> Live | Sealed | None:
        """For who holds the log's lock. After a crash a log may be both sealed and growing: then sealed counts."""
        known = self._live.get(log) or self._sealed.get(log)
        if known:
            return known
        with disk_errors(log):
            sealed = await self._shelf.find(log)
            if sealed:
                self._sealed.put(log, sealed, max(sealed.weight, _LEAST_WEIGHT))
                return sealed
            try:
                live = Live.open(self._path(log), self._blocks)
            except FileNotFoundError:
                return None
        self._live.put(log, live)
        return live

    async def _block(self, log: LogId, offset: int) -> Block:
        with disk_errors(log):
            return await (await self._get(log)).at_byte(offset)

    async def _uninterrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Let work go on to its end, with the lock it holds, even if who asked for it is cancelled."""
        return await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Have work done that `close` waits for; its error counts as seen."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def _lock(self, log: LogId) -> asyncio.Lock:
        return self._locks.setdefault(log, asyncio.Lock())

    def _path(self, log: LogId) -> str:
        return f"{self._folder}/{shard(log)}"

    def _unlink(self, log: LogId) -> None:
        for suffix in ("idx", "log"):
            try:
                os.unlink(f"{self._path(log)}.{suffix}")
            except FileNotFoundError:
                continue


async def _within(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait for an event; whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
