"""Hands bytes from a coroutine to a thread that reads them as a file, without holding more than a few pieces."""

import asyncio
import queue
from contextlib import suppress
from io import RawIOBase

_QUEUED = 4


class Stopped(Exception):
    """The reader of the archive is no longer wanted."""


class Feed(RawIOBase):
    """A file that a thread reads while a coroutine gives it pieces, a few at most ahead of the reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._room = asyncio.Event()
        self._rest = memoryview(b"")
        self._ended = False
        self._stopped = False
        self._unread = False

    async def give(self, data: bytes) -> None:
        """Add a piece, waiting for room; once nobody reads any more it is dropped."""
        while data and not self._unread:
            with suppress(queue.Full):
                self._pieces.put_nowait(data)
                return
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """Say that the last piece was given; the reader then sees the end."""
        self._ended = True
        with suppress(queue.Full):
            self._pieces.put_nowait(None)

    def stop(self) -> None:
        """Make the reader fail at its next read."""
        self._stopped = True
        with suppress(queue.Empty):
            while True:
                self._pieces.get_nowait()
        self._pieces.put_nowait(None)

    def let_go(self) -> None:
        """Say that nobody reads any more."""
        self._unread = True
        self._room.set()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, fewer at the end of a piece; empty at the end."""
        if not self._rest:
            self._rest = memoryview(self._next_piece() or b"")
        data = bytes(self._rest[:size] if size >= 0 else self._rest)
        self._rest = self._rest[len(data) :]
        return data

    def put_back(self, data: bytes) -> None:
        """Let `data` be read next."""
        self._rest = memoryview(data + bytes(self._rest))

    def _next_piece(self) -> bytes | None:
        if self._ended and self._pieces.empty():
            return None
        piece = self._pieces.get()
        if self._stopped:
            raise Stopped
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._room.set)
        return piece
