"""The index of a log: one 32-byte record for each run of at most 64 KiB from one stream.

A record holds, little-endian: byte offset (u64), number of lines begun before it (u64), time in microseconds (i64),
length (u32), stream as ASCII (u8), 1 if its first byte continues an unfinished line (u8), and the low half of the
CRC-32 of the bytes before (u16). Both offset and lines begun never fall from one record to the next, so a byte, and the
record in which a line begins (the last one with `begun` ≤ its number), are found by bisection.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from buildyard.domain.ids import Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk

PIECE = 64 * 1024
"""The most bytes that one record covers."""

RECORD = Struct("<QQqIBBH")
_UNCHECKED = Struct("<QQqIBB")
_CHECK = Struct("<H")
_STREAMS = {ord(stream.value): stream for stream in Stream}


class Record(NamedTuple):
    """One record, as unpacked; see the module."""

    offset: int
    begun: int
    at: int
    length: int
    stream: int
    continues: int
    check: int

    @property
    def stop(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class End:
    """Where a log's bytes end: its size, the lines begun, and the stream of its unfinished line (0: there is none)."""

    size: int = 0
    lines: int = 0
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records and their bytes; never empty."""

    records: Sequence[Record]
    data: bytes

    @property
    def start(self) -> int:
        """The offset of the first byte."""
        return self.records[0].offset

    @property
    def stop(self) -> int:
        """The offset after the last byte."""
        return self.start + len(self.data)

    def record_of_byte(self, offset: int) -> int:
        """The position of the record that holds a byte."""
        return bisect_right(self.records, offset, key=attrgetter("offset")) - 1

    def record_of_line(self, line: int) -> int:
        """The position of the record in which a line begins."""
        return bisect_right(self.records, line, key=attrgetter("begun")) - 1

    def bytes_of(self, record: Record) -> bytes:
        """What one of the records covers."""
        start = record.offset - self.start
        return self.data[start : start + record.length]

    def chunk(self, record: Record, skip: int = 0) -> Chunk:
        """One of the records as a chunk, without its first `skip` bytes."""
        data = self.bytes_of(record)
        return Chunk(_STREAMS[record.stream], Moment(record.at), data[skip:] if skip else data)


def stream_of(record: Record) -> Stream:
    """The stream that a record's bytes came from."""
    return _STREAMS[record.stream]


def pieces(chunks: Sequence[Chunk], skip: int) -> Iterator[Chunk]:
    """What is left of `chunks` after their first `skip` bytes, none of it empty or longer than a record may be."""
    for chunk in chunks:
        size = len(chunk.data)
        if skip >= size:
            skip -= size
            continue
        if not skip and size <= PIECE:
            yield chunk
            continue
        for start in range(skip, size, PIECE):
            yield Chunk(chunk.stream, chunk.at, chunk.data[start : start + PIECE])
        skip = 0


def index(end: End, added: Sequence[Chunk]) -> tuple[bytes, End]:
    """The records for pieces that are added at `end`, and where the log then ends."""
    size, lines, unfinished = end.size, end.lines, end.unfinished
    records = bytearray()
    for piece in added:
        stream = ord(piece.stream.value)
        continues = stream == unfinished
        head = _UNCHECKED.pack(size, lines, piece.at, len(piece.data), stream, continues)
        records += head
        records += _CHECK.pack(crc32(head) & 0xFFFF)
        unfinished = 0 if piece.data.endswith(b"\n") else stream
        size += len(piece.data)
        lines += piece.data.count(b"\n") + bool(unfinished) - continues
    return bytes(records), End(size, lines, unfinished)


def end_after(record: Record, data: bytes) -> End:
    """Where a log ends whose last record this is, with these bytes."""
    unfinished = 0 if data.endswith(b"\n") else record.stream
    return End(record.stop, record.begun + data.count(b"\n") + bool(unfinished) - record.continues, unfinished)


def whole(packed: bytes) -> bool:
    """True if a packed record was written completely."""
    return len(packed) == RECORD.size and _CHECK.pack(crc32(packed[:-2]) & 0xFFFF) == packed[-2:]


def unpack(packed: bytes) -> list[Record]:
    """The records in a run of bytes whose length is a multiple of a record's."""
    return list(map(Record._make, RECORD.iter_unpack(packed)))
