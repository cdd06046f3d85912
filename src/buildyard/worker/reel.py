"""What a worker has yet to tell of one attempt, in order, with output gathered into pieces and spilled to disk.

Memory stays bounded however long the server is away: beyond MEMORY bytes, pieces of output go to a nameless file in
the scratch folder, whose length the attempt's log limit bounds.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from buildyard.domain.ids import Moment
from buildyard.domain.states import Stream
from buildyard.protocol import Finished, Item, Output, OutputChunk, Progress
from buildyard.worker.clock import Clock

MEMORY = 4 * 1024 * 1024
PIECE = 256 * 1024
"""Bytes of output after which a new item is begun."""

_TOGETHER = 100_000
"""Output of one stream within so many microseconds becomes one chunk, with one time."""

_RUNS = 1024
_RUN_COST = 128
"""Bytes of memory that a chunk takes besides its data."""


@dataclass(slots=True)
class _Run:
    """Adjacent output of one stream."""

    stream: Stream
    at: Moment
    data: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Tail:
    """The piece of output that still grows."""

    log: int
    offset: int
    runs: list[_Run] = field(default_factory=list)
    size: int = 0

    def add(self, stream: Stream, at: Moment, data: bytes) -> None:
        last = self.runs[-1] if self.runs else None
        if last is None or last.stream is not stream or at - last.at > _TOGETHER:
            last = _Run(stream, at)
            self.runs.append(last)
        last.data += data
        self.size += len(data)


@dataclass(frozen=True, slots=True)
class _Spilled:
    """Where an Output lies in the spill file."""

    position: int
    length: int


class Reel:
    """The untold of one attempt. `woken(urgent)` is called when there is more to tell; `failed` if the disk fails.

    `has_end`: the attempt's end is among it.
    """

    def __init__(self, attempt: int, token: str, scratch: Path, clock: Clock, woken: Callable[[bool], None]) -> None:
        self.attempt = attempt
        self.token = token
        self.failed: Callable[[str], None] | None = None
        self.has_end = False
        self._scratch = scratch
        self._clock = clock
        self._woken = woken
        self._entries: deque[Item | _Spilled] = deque()
        self._tail: _Tail | None = None
        self._sizes: dict[int, int] = {}
        self._memory = 0
        self._spill: int | None = None
        self._spill_end = 0
        self._spilled = 0
        self._lost = False
        self._closed = False

    @property
    def is_empty(self) -> bool:
        """Whether all has been told."""
        return not self._entries and self._tail is None

    @property
    def has_items(self) -> bool:
        """Whether there is more to tell than output, or a lot of it."""
        return bool(self._entries)

    @property
    def memory(self) -> int:
        """Bytes of output held in memory, but for the piece that grows."""
        return self._memory

    def now(self) -> Moment:
        """The time of what is told now."""
        return self._clock.now()

    def size_of(self, log: int) -> int:
        """How many bytes were written to a log so far."""
        return self._sizes.get(log, 0)

    def add(self, item: Progress) -> None:
        """Tell `item`, as of now, after all that was added before; its token is filled in when it is sent."""
        if not self._closed:
            self._end_tail()
            self._entries.append(msgspec.structs.replace(item, at=self._clock.now()))
            self.has_end = isinstance(item, Finished)
            self._woken(self.has_end)

    def write(self, log: int, stream: Stream, data: bytes) -> None:
        """Tell output. Never blocks for longer than a write to the page cache takes. After `failed` it is lost."""
        if self._closed or self._lost or not data:
            return
        at = self._clock.now()
        for start in range(0, len(data), PIECE):
            self._grow(log, stream, at, data[start : start + PIECE])
        self._woken(False)

    def head(self, items: int, size: int) -> list[Item]:
        """The first items to be told: at most `items`, and no more once `size` bytes of output are reached."""
        if len(self._entries) < items:
            self._end_tail()
        chosen: list[Item] = []
        for entry in self._entries:
            if len(chosen) >= items or size <= 0:
                break
            item = self._load(entry) if isinstance(entry, _Spilled) else entry
            size -= output_size(item)
            chosen.append(msgspec.structs.replace(item, token=self.token))
        return chosen

    def told(self) -> None:
        """Forget the first item."""
        entry = self._entries.popleft()
        if not isinstance(entry, _Spilled):
            self._memory -= _cost(entry)
            return
        self._spilled -= 1
        if self._spilled == 0:
            self._truncate()

    def close(self) -> None:
        """Forget everything, now and later."""
        self._closed = True
        self._entries.clear()
        self._tail = None
        self._memory = 0
        if self._spill is not None:
            os.close(self._spill)
            self._spill = None

    def _grow(self, log: int, stream: Stream, at: Moment, data: bytes) -> None:
        tail = self._tail
        if tail is None or tail.log != log or tail.size + len(data) > PIECE or len(tail.runs) >= _RUNS:
            self._end_tail()
            if self._lost:
                return
            tail = self._tail = _Tail(log, self.size_of(log))
        tail.add(stream, at, data)
        self._sizes[log] = self.size_of(log) + len(data)

    def _end_tail(self) -> None:
        tail = self._tail
        if tail is None:
            return
        self._tail = None
        chunks = [OutputChunk(run.stream, run.at, bytes(run.data)) for run in tail.runs]
        item = Output(attempt=self.attempt, token="", log=tail.log, offset=tail.offset, chunks=chunks)
        if self._memory + _cost(item) <= MEMORY:
            self._memory += _cost(item)
            self._entries.append(item)
        elif fault := self._save(item):
            self._lost = True
            self._sizes[tail.log] = tail.offset
            if self.failed is not None:
                self.failed(f"output could not be kept until the server takes it: {fault}")

    def _save(self, item: Output) -> str:
        """Write an item to the spill file; says what went wrong, if anything did."""
        data = msgspec.msgpack.encode(item)
        try:
            if self._spill is None:
                self._spill, name = tempfile.mkstemp(dir=self._scratch)
                os.unlink(name)
            if os.pwrite(self._spill, data, self._spill_end) < len(data):
                return "the worker's disk is full"
        except OSError as exc:
            return exc.strerror or str(exc)
        self._entries.append(_Spilled(self._spill_end, len(data)))
        self._spill_end += len(data)
        self._spilled += 1
        return ""

    def _load(self, spilled: _Spilled) -> Output:
        assert self._spill is not None
        data = os.pread(self._spill, spilled.length, spilled.position)
        return msgspec.msgpack.decode(data, type=Output)

    def _truncate(self) -> None:
        assert self._spill is not None
        os.ftruncate(self._spill, 0)
        self._spill_end = 0


def output_size(item: Item) -> int:
    """The bytes of output that an item carries."""
    return sum(len(chunk.data) for chunk in item.chunks) if isinstance(item, Output) else 0


def _cost(item: Item) -> int:
    return output_size(item) + _RUN_COST * len(item.chunks) if isinstance(item, Output) else 0
