"""A program that takes in, seals and reads one log of 300 MB, and prints by how many KiB its memory grew meanwhile."""

import asyncio
import resource
import sys
from pathlib import Path

from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk

SIZE = 300_000_000
PIECE = b"".join(b"line %07d of a long log\n" % number for number in range(10_000))


async def main(folder: Path) -> None:
    """Warm up on another log first, so that only what depends on the size is measured."""
    logs = LocalLogStore(folder)
    await pass_through(logs, LogId(1), 3 * len(PIECE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await pass_through(logs, LogId(2), SIZE)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    await logs.close()


async def pass_through(logs: LocalLogStore, log: LogId, least: int) -> None:
    """Append until the log has `least` bytes while someone follows, then seal and read it."""
    size = 0
    follower = asyncio.create_task(count(logs, log))
    while size < least:
        size = (await logs.append(log, size, [Chunk(Stream.OUTPUT, Moment(size), PIECE)])).size
    await logs.seal(log)
    assert await follower == size
    assert sum([len(piece) async for piece in logs.read(log)]) == size


async def count(logs: LocalLogStore, log: LogId) -> int:
    """Follow a log to its end."""
    return sum([len(chunk.data) async for chunk in logs.follow(log)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
