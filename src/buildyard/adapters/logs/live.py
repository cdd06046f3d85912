"""A log that still grows: a file of its exact bytes (`.log`) beside a file of index records (`.idx`).

Bytes are written before the records that tell of them, both before an append is acknowledged. After a kill the
records say what counts: a torn last record, or one whose bytes are missing, is cut off, and so are bytes beyond the
last record.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress

from buildyard.adapters.files import Handle, open_handle
from buildyard.adapters.logs.cache import Cache
from buildyard.adapters.logs.index import PIECE, RECORD, Block, End, Record, end_after, index, unpack, whole
from buildyard.adapters.logs.spares import Spares
from buildyard.domain.errors import Unavailable
from buildyard.ports import Chunk, LogState

_MOST_RECORDS = 1024
_FIRST_RECORDS = 8

BlockCache = Cache[tuple[object, int], Block]
"""Blocks that were read, by the reader's own key and the number of the first record or segment."""


class Live:
    """The reader and writer of one growing log; the caller sees to one writer at a time.

    After an append raised, the object is of no more use: opening the files again finds the state of before.
    """

    def __init__(self, data: Handle, records: Handle, blocks: BlockCache) -> None:
        self._data = data
        self._index = records
        self._blocks = blocks
        self._key = object()
        self._clean = False
        self.count, self.end = _recover(data, records)

    @classmethod
    def begin(cls, path: str, blocks: BlockCache, spares: Spares) -> "Live":
        """Make the two files."""
        pair = spares.take(path)
        return cls(*pair, blocks) if pair else cls.open(path, blocks, os.O_CREAT)

    @classmethod
    def open(cls, path: str, blocks: BlockCache, flags: int = 0) -> "Live":
        """Open an existing log for reading and appending; FileNotFoundError if it was never begun."""
        data = open_handle(f"{path}.log", os.O_RDWR | flags)
        return cls(data, open_handle(f"{path}.idx", os.O_RDWR | os.O_CREAT), blocks)

    def give(self, path: str, spares: Spares) -> bool:
        """Pass the files of a log that is no longer read on to new logs; False if they are to be deleted instead."""
        return spares.give(path, self._data, self._index)

    @property
    def state(self) -> LogState:
        """How far it has got."""
        return LogState(self.end.size, self.end.lines, sealed=False)

    def append(self, added: Sequence[Chunk]) -> None:
        """Write pieces (see `index.pieces`) at the end; raises OSError if not all of it could be written."""
        if not self._clean:
            self._cut()
            self._clean = True
        records, end = index(self.end, added)
        data = added[0].data if len(added) == 1 else b"".join(piece.data for piece in added)
        try:
            self._data.write(data, self.end.size)
            self._index.write(records, self.count * RECORD.size)
        except OSError:
            with suppress(OSError):
                self._cut()
            raise
        self.count += len(records) // RECORD.size
        self.end = end

    def _cut(self) -> None:
        """Remove what is in the files beyond what counts."""
        os.ftruncate(self._index.fd, self.count * RECORD.size)
        os.ftruncate(self._data.fd, self.end.size)

    async def at_byte(self, offset: int) -> Block:
        """A block that starts with the record holding the byte; `offset` is below the size."""
        return self._block(bisect_right(range(self.count), offset, key=lambda number: self._record(number).offset) - 1)

    async def at_line(self, line: int) -> Block:
        """A block that starts with the record in which the line begins; `line` is below the number of lines."""
        return self._block(bisect_right(range(self.count), line, key=lambda number: self._record(number).begun) - 1)

    def records(self, first: int, count: int) -> bytes:
        """Packed records by number, fewer at the end."""
        start = first * RECORD.size
        return self._index.read(start, min(start + count * RECORD.size, self.count * RECORD.size))

    def data(self, start: int, stop: int) -> bytes:
        """A range of the log's bytes that it has."""
        return self._data.read(start, stop)

    def _record(self, number: int) -> Record:
        start = number * RECORD.size
        return Record._make(RECORD.unpack(self._index.read(start, start + RECORD.size)))

    def _records_from(self, first: int) -> Iterator[Record]:
        """The records from one on: a few are read at first, since few long ones fill a block, then many."""
        count = _FIRST_RECORDS
        while batch := unpack(self.records(first, count)):
            yield from batch
            first, count = first + len(batch), _MOST_RECORDS

    def _block(self, first: int) -> Block:
        """At most 64 KiB from record `first` on; full ones are shared by all who read here."""
        known = self._blocks.get((self._key, first))
        if known is not None:
            return known
        found: list[Record] = []
        start = stop = self._record(first).offset
        for record in self._records_from(first):
            if record.offset != stop:
                raise Unavailable(f"the index of a live log is damaged at byte {stop}")
            if found and (record.stop - start > PIECE or len(found) == _MOST_RECORDS):
                break
            found.append(record)
            stop = record.stop
        block = Block(found, self.data(start, stop))
        if first + len(found) < self.count:
            self._blocks.put((self._key, first), block, len(block.data) + 100 * len(found))
        return block


def _recover(data: Handle, records: Handle) -> tuple[int, End]:
    """How many records count, and where the log then ends."""
    size = data.size
    count = records.size // RECORD.size
    while count:
        packed = records.read((count - 1) * RECORD.size, count * RECORD.size)
        if whole(packed):
            last = unpack(packed)[0]
            if last.stop <= size:
                return count, end_after(last, data.read(last.offset, last.stop))
        count -= 1
    return 0, End()
