"""What is read of a large log to answer for a small part of it."""

from hashlib import sha256
from pathlib import Path

import pytest

from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, LogStore

LOG = LogId(1)
LINES = 600_000
WIDTH = 60


def text(first: int, stop: int) -> bytes:
    """Lines of one width that no packing makes much smaller."""
    return b"".join(b"%b\n" % sha256(b"%d" % number).hexdigest()[: WIDTH - 1].encode() for number in range(first, stop))


def bytes_read() -> int:
    """How much this process has read so far, from the disk's cache or from a socket."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.covers("logs.lines")
@pytest.mark.parametrize("sealed", [False, True])
async def test_any_part_of_a_log_of_36_megabytes_is_had_by_reading_little(logs: LogStore, sealed: bool) -> None:
    for first in range(0, LINES, 20_000):
        chunk = Chunk(Stream.OUTPUT, Moment(1), text(first, first + 20_000))
        await logs.append(LOG, first * WIDTH, [chunk])
    if sealed:
        await logs.seal(LOG)
    size = LINES * WIDTH

    for first, count in ((0, 3), (LINES // 2, 100), (LINES - 1, 1), (-10, 10)):
        before = bytes_read()
        found = await logs.lines(LOG, first, count)
        assert bytes_read() - before < size / 20
        start = first % LINES
        assert [line.data for line in found] == text(start, start + count).splitlines()
    for begin in (0, size // 2, size - 5):
        before = bytes_read()
        part = b"".join([piece async for piece in logs.read(LOG, begin, begin + 5)])
        assert bytes_read() - before < size / 20
        assert part == text(begin // WIDTH, begin // WIDTH + 2)[begin % WIDTH :][:5]
