"""A program that writes logs until it is killed: `writer.py FOLDER SEED FIRST_ROUND`.

After each append or seal that was acknowledged it prints the log, its size, and 1 if it is sealed.
"""

import asyncio
import random
import sys
from pathlib import Path

from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk


def text(start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of the text that all logs hold: numbered lines of ten bytes."""
    numbered = b"".join(b"%09d\n" % number for number in range(start // 10, stop // 10 + 1))
    return numbered[start % 10 : start % 10 + stop - start]


async def write(logs: LocalLogStore, log: LogId, chance: random.Random) -> None:
    """One log of random appends, begun where it ended before, sealed at the end."""
    state = await logs.append(log, 0, [])
    size = state.size
    if state.sealed:
        return
    for _ in range(chance.randrange(40)):
        chunks = []
        for _ in range(chance.randrange(1, 4)):
            step = chance.choice([1, 7, 100, 5_000, 70_000])
            chunks.append(Chunk(chance.choice(list(Stream)), Moment(size), text(size, size + step)))
            size += step
        state = await logs.append(log, size - sum(len(chunk.data) for chunk in chunks), chunks)
        print(log, state.size, 0, flush=True)
    state = await logs.seal(log)
    print(log, state.size, 1, flush=True)


async def main(folder: Path, seed: int, first: int) -> None:
    """Four logs at a time, for ever."""
    chance = random.Random(seed)
    logs = LocalLogStore(folder)
    while True:
        await asyncio.gather(*(write(logs, LogId(first + number), chance) for number in range(4)))
        first += 4


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
