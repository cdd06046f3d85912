"""Hands what is appended to a log to everyone who follows it, from memory, without keeping it for the slow ones."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from buildyard.domain.ids import LogId
from buildyard.ports import Chunk

WINDOW = 1024 * 1024
"""Bytes of a followed log's end that are kept in memory; who fell further behind reads from the log itself."""


class Feed:
    """The newest pieces of one log, by offset, shared by its followers, and the event that wakes them."""

    def __init__(self) -> None:
        self.followers = 0
        self.removed = False
        self.changed = asyncio.Event()
        self._window: OrderedDict[int, Chunk] = OrderedDict()
        self._held = 0

    def publish(self, offset: int, added: Sequence[Chunk]) -> None:
        """Take in pieces just appended at `offset` and wake the followers."""
        for piece in added:
            self._window[offset] = piece
            self._held += len(piece.data)
            offset += len(piece.data)
        while self._held > WINDOW:
            _, oldest = self._window.popitem(last=False)
            self._held -= len(oldest.data)
        self.wake()

    def wake(self) -> None:
        """Let all followers look again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def at(self, offset: int) -> Chunk | None:
        """The piece that starts at a byte, if it is still here."""
        return self._window.get(offset)

    def end(self) -> None:
        """The log is gone: followers are told, and nothing of it is kept."""
        self.removed = True
        self._window.clear()
        self._held = 0
        self.wake()


class Feeds:
    """The feeds of the logs that are followed now."""

    def __init__(self) -> None:
        self._feeds: dict[LogId, Feed] = {}

    def find(self, log: LogId) -> Feed | None:
        """The feed of a log that someone follows."""
        return self._feeds.get(log)

    @contextmanager
    def join(self, log: LogId) -> Iterator[Feed]:
        """Be counted as a follower."""
        feed = self._feeds.setdefault(log, Feed())
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers and self._feeds.get(log) is feed:
                del self._feeds[log]

    def end(self, log: LogId) -> None:
        """A log was removed: its followers stop, and a later log of the same id starts anew."""
        feed = self._feeds.pop(log, None)
        if feed is not None:
            feed.end()

    def wake_all(self) -> None:
        """Let all followers of all logs look again."""
        for feed in self._feeds.values():
            feed.wake()
