"""A log that is finished: one object (`.zst`) that any zstd tool unpacks to the log's exact bytes.

    segment*   a zstd frame (with checksum) of at most 128 KiB of the log, then a skippable frame (0x184D2A50) that
               holds the segment's index records (see `index`) as a zstd frame
    table      a skippable frame (0x184D2A5E) of one 32-byte entry a segment, then the trailer
    entry      position in the object (u64), byte offset (u64), lines begun before (u64), length of the zstd frame
               (u32), length of the skippable frame after it (u32)
    trailer    size in bytes (u64), lines (u64), number of segments (u32), CRC-32 of the entries (u32), `BYARDLG1`

Integers are little-endian. A byte or a line is found by bisecting the entries, then the segment's records, so it costs
one read of one segment once the table is known.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import zstandard

from buildyard.adapters.logs.index import RECORD, Block, unpack
from buildyard.adapters.logs.live import BlockCache, Live
from buildyard.domain.errors import Unavailable
from buildyard.ports import LogState

SEGMENT = 128 * 1024
TAIL = 64 * 1024
"""How much of an object's end is read first: of most logs, that is the table, of short ones, everything."""

_MOST_RECORDS = 4096
_LARGEST_RECORDS = _MOST_RECORDS * RECORD.size
_SKIPPABLE = Struct("<II")
_RECORDS, _TABLE = 0x184D2A50, 0x184D2A5E
_ENTRY = Struct("<QQQII")
_TRAILER = Struct("<QQII8s")
_MAGIC = b"BYARDLG1"

Fetch = Callable[[int, int], Awaitable[bytes]]
"""Reads a range of the sealed object."""


class _Entry(NamedTuple):
    position: int
    offset: int
    begun: int
    frame: int
    extra: int


def sealed_pieces(live: Live | None) -> Iterator[bytes]:
    """The sealed object of a log (None: an empty one), piece by piece in order."""
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    entries = bytearray()
    position = 0
    for packed, data in _segments(live):
        frame = compressor.compress(data)
        extra = compressor.compress(packed)
        first = unpack(packed[: RECORD.size])[0]
        entries += _ENTRY.pack(position, first.offset, first.begun, len(frame), _SKIPPABLE.size + len(extra))
        yield frame + _SKIPPABLE.pack(_RECORDS, len(extra)) + extra
        position += len(frame) + _SKIPPABLE.size + len(extra)
    size, lines = (live.end.size, live.end.lines) if live else (0, 0)
    trailer = _TRAILER.pack(size, lines, len(entries) // _ENTRY.size, crc32(entries), _MAGIC)
    yield _SKIPPABLE.pack(_TABLE, len(entries) + len(trailer)) + bytes(entries) + trailer


def _segments(live: Live | None) -> Iterator[tuple[bytes, bytes]]:
    """The log as pairs of packed records and their bytes, each within the limits of a segment."""
    first, count = 0, live.count if live else 0
    while live and first < count:
        packed = live.records(first, _MOST_RECORDS)
        taken = _fitting(packed)
        packed = packed[: taken * RECORD.size]
        yield packed, live.data(_record_field(packed, 0, 0), _record_stop(packed, taken - 1))
        first += taken


def _fitting(packed: bytes) -> int:
    """How many of these records fit into one segment."""
    limit = _record_field(packed, 0, 0) + SEGMENT
    return bisect_right(range(len(packed) // RECORD.size), limit, key=lambda number: _record_stop(packed, number))


def _record_field(packed: bytes, number: int, field: int) -> int:
    value: int = RECORD.unpack_from(packed, number * RECORD.size)[field]
    return value


def _record_stop(packed: bytes, number: int) -> int:
    return _record_field(packed, number, 0) + _record_field(packed, number, 3)


async def open_sealed(fetch: Fetch, size: int, blocks: BlockCache, tail: bytes | None = None) -> "Sealed":
    """Read the table of a sealed object of `size` bytes; `tail` is its end if it is at hand."""
    if tail is None:
        tail = await fetch(max(0, size - TAIL), size)
    if len(tail) < _TRAILER.size or tail[-8:] != _MAGIC:
        raise Unavailable("a sealed log is damaged: it has no trailer")
    length, lines, count, check, _ = _TRAILER.unpack_from(tail, len(tail) - _TRAILER.size)
    table = count * _ENTRY.size + _TRAILER.size
    if table > size:
        raise Unavailable("a sealed log is damaged: its table is longer than the object")
    if table > len(tail):
        tail = await fetch(size - table, size)
    entries = tail[len(tail) - table : len(tail) - _TRAILER.size]
    if crc32(entries) != check:
        raise Unavailable("a sealed log is damaged: its table does not match its checksum")
    complete = tail if len(tail) == size else None
    return Sealed(fetch, LogState(length, lines, sealed=True), entries, complete, blocks)


class Sealed:
    """The reader of one sealed log. Readers who want the same segment at once share one read of it."""

    def __init__(
        self, fetch: Fetch, state: LogState, entries: bytes, complete: bytes | None, blocks: BlockCache
    ) -> None:
        self._fetch = fetch
        self._entries = entries
        self._complete = complete
        self._blocks = blocks
        self._key = object()
        self._reading: dict[int, asyncio.Task[Block]] = {}
        self.state = state
        self.weight = len(entries) + len(complete or b"")

    async def at_byte(self, offset: int) -> Block:
        """The segment that holds a byte; `offset` is below the size."""
        return await self._segment(self._find(offset, 1))

    async def at_line(self, line: int) -> Block:
        """The segment in which a line begins; `line` is below the number of lines."""
        return await self._segment(self._find(line, 2))

    def _find(self, wanted: int, field: int) -> int:
        return bisect_right(range(len(self._entries) // _ENTRY.size), wanted, key=lambda n: self._entry(n)[field]) - 1

    def _entry(self, number: int) -> _Entry:
        return _Entry._make(_ENTRY.unpack_from(self._entries, number * _ENTRY.size))

    async def _segment(self, number: int) -> Block:
        known = self._blocks.get((self._key, number))
        if known is not None:
            return known
        task = self._reading.get(number)
        if task is None:
            task = self._reading[number] = asyncio.create_task(self._load(number))
            task.add_done_callback(lambda done: self._read(number, done))
        return await asyncio.shield(task)

    def _read(self, number: int, task: asyncio.Task[Block]) -> None:
        """Forget a finished read; its error counts as seen even if everyone who waited has gone."""
        del self._reading[number]
        if not task.cancelled():
            task.exception()

    async def _load(self, number: int) -> Block:
        entry = self._entry(number)
        start, stop = entry.position, entry.position + entry.frame + entry.extra
        packed = self._complete[start:stop] if self._complete is not None else await self._fetch(start, stop)
        try:
            data = zstandard.ZstdDecompressor().decompress(packed[: entry.frame], max_output_size=SEGMENT)
            records = zstandard.ZstdDecompressor().decompress(
                packed[entry.frame + _SKIPPABLE.size :], max_output_size=_LARGEST_RECORDS
            )
        except zstandard.ZstdError as exc:
            raise Unavailable(f"a sealed log is damaged at byte {entry.offset}: {exc}") from exc
        block = Block(unpack(records), data)
        self._blocks.put((self._key, number), block, len(data) + 100 * len(block.records))
        return block
