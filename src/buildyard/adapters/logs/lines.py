"""Reads lines and bytes through the index, the same way from live and sealed logs."""

from dataclasses import dataclass, field
from typing import Protocol

from buildyard.adapters.logs.index import Block, Record, stream_of
from buildyard.domain.ids import Moment
from buildyard.ports import Line, LogState

LONGEST_LINE = 1024 * 1024
"""Of a longer line, `lines` returns this many bytes; `read` has all of them."""

LARGEST_ANSWER = 8 * 1024 * 1024
"""`lines` stops early, after the line with which its answer reaches this many bytes."""


class Reader(Protocol):
    """What live and sealed logs have in common: blocks of records, found by byte or by line."""

    @property
    def state(self) -> LogState:
        """How far the log has got."""
        ...

    async def at_byte(self, offset: int) -> Block:
        """A block that holds the byte `offset`, which is below the size."""
        ...

    async def at_line(self, line: int) -> Block:
        """A block with the record in which `line` begins, which is below the number of lines."""
        ...


@dataclass(slots=True)
class _Collector:
    """Puts lines together from records: passes over `skip` lines, then takes `wanted` of them or about `room` bytes."""

    number: int
    wanted: int
    skip: int
    room: int
    found: list[Line] = field(default_factory=list)
    size: int = 0
    _record: Record | None = None
    _parts: bytearray = field(default_factory=bytearray)

    @property
    def full(self) -> bool:
        return len(self.found) >= self.wanted or self.size >= self.room

    @property
    def overlong(self) -> bool:
        return len(self._parts) >= LONGEST_LINE

    def add(self, record: Record, data: bytes) -> None:
        """Take in the next record."""
        if not record.continues:
            self.close()
        position = 0
        while self.skip and position < len(data):
            position = data.find(b"\n", position) + 1 or len(data)
            self.skip -= 1
        while position < len(data) and not self.full:
            newline = data.find(b"\n", position)
            self._record = self._record or record
            self._parts += data[position : newline if newline >= 0 else len(data)]
            if newline < 0:
                return
            self.close()
            position = newline + 1

    def close(self) -> None:
        """End the line that is being put together, if any."""
        if self._record is None or self.full:
            return
        text = bytes(self._parts[:LONGEST_LINE])
        self.found.append(Line(self.number, stream_of(self._record), Moment(self._record.at), text))
        self.size += len(text)
        self.number += 1
        self._record = None
        self._parts.clear()


async def read_lines(reader: Reader, first: int, count: int) -> list[Line]:
    """At most `count` lines from number `first` (negative: from the end), as far as written when called."""
    state = reader.state
    if first < 0:
        first = max(0, state.lines + first)
    last = min(state.lines, first + count)
    found: list[Line] = []
    size = 0
    while first < last and size < LARGEST_ANSWER:
        some = await _run_of_lines(reader, state, first, last - first, LARGEST_ANSWER - size)
        found += some
        size += sum(len(line.data) for line in some)
        first = found[-1].number + 1
    return found


async def _run_of_lines(reader: Reader, state: LogState, first: int, count: int, room: int) -> list[Line]:
    """At least one line from `first` on. Ends after a line over the longest, whose rest is passed over by the index."""
    block = await reader.at_line(first)
    position = block.record_of_line(first)
    start = block.records[position]
    lines = _Collector(first, count, first - start.begun + start.continues, room)
    while True:
        for record in block.records[position:]:
            if record.offset >= state.size:
                break
            lines.add(record, block.bytes_of(record)[: state.size - record.offset])
            if lines.full or lines.overlong:
                break
        if lines.full or lines.overlong or block.stop >= state.size:
            break
        block, position = await reader.at_byte(block.stop), 0
    lines.close()
    return lines.found
