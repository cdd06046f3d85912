"""How fast logs are taken in, found in, followed, and how little a short one costs: `python bench/logs.py [FOLDER]`.

Prints a line for each figure, beside `cat` copying the same bytes where that says something.
"""

import asyncio
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk

LINES = 10_000_000
CHUNK = 256 * 1024
VIEWERS = 500
BIG = LogId(1)


def report(name: str, figure: str) -> None:
    """One line of the answer."""
    print(f"{name:<58} {figure}", flush=True)


def spread(seconds: list[float]) -> str:
    """Median, 99th percentile and largest, in milliseconds."""
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50 * 1e3:.2f} ms   p99 {p99 * 1e3:.2f} ms   max {ordered[-1] * 1e3:.2f} ms"


def big_text(path: Path) -> None:
    """A file of ten million numbered lines, somewhat random, as compilers' and tests' output is."""
    chance = random.Random(0)
    with path.open("wb", buffering=1 << 20) as file:
        for number in range(LINES):
            file.write(b"%08d some output of a program 0x%010x %6d\n" % (number, chance.getrandbits(40), number % 997))


def cat(source: Path, copy: Path) -> float:
    """MB/s of a plain copy, read from memory as the text for the log store is."""
    subprocess.run(f"cat {source} > /dev/null", shell=True, check=True)
    started = time.perf_counter()
    subprocess.run(f"cat {source} > {copy}", shell=True, check=True)
    taken = time.perf_counter() - started
    copy.unlink()
    return source.stat().st_size / taken / 1e6


async def ingest(logs: LocalLogStore, source: Path, copying: float) -> None:
    """Append the text in chunks of 256 KiB, beside `cat`; and what the memory did meanwhile."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, position = time.perf_counter(), 0
    with source.open("rb", buffering=0) as file:
        while data := file.read(CHUNK):
            await logs.append(BIG, position, [Chunk(Stream.OUTPUT, Moment(position), data)])
            position += len(data)
    rate = position / (time.perf_counter() - started) / 1e6
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    report(
        f"ingest of {position / 1e6:.0f} MB in 256 KiB chunks",
        f"{rate:.0f} MB/s   cat {copying:.0f} MB/s   memory +{grown} KiB",
    )


async def find(logs: LocalLogStore, what: str) -> None:
    """Random lines, one and a page of a hundred, and the tail."""
    chance = random.Random(1)

    async def one() -> None:
        number = chance.randrange(LINES)
        (line,) = await logs.lines(BIG, number, 1)
        assert line.number == int(line.data[:8]) == number

    async def page() -> None:
        assert len(await logs.lines(BIG, chance.randrange(LINES - 100), 100)) == 100

    async def tail() -> None:
        assert (await logs.lines(BIG, -100, 100))[-1].number == LINES - 1

    for name, question in (("any line", one), ("any 100 lines", page), ("last 100 lines", tail)):
        report(f"{name} of {LINES // 1_000_000} million, {what}", spread([await timed(question) for _ in range(1000)]))


async def timed(question: Callable[[], Awaitable[None]]) -> float:
    """How long a question takes."""
    started = time.perf_counter()
    await question()
    return time.perf_counter() - started


def sealed_size(folder: Path) -> int:
    """Bytes of all sealed logs."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".zst", ".pack"))


async def seal(folder: Path, logs: LocalLogStore) -> None:
    """Seal the big log, then read it whole."""
    size = (await logs.state(BIG)).size
    started = time.perf_counter()
    await logs.seal(BIG)
    rate = size / (time.perf_counter() - started) / 1e6
    report("seal of the big log", f"{rate:.0f} MB/s to {sealed_size(folder) / size:.1%} of its size")
    started = time.perf_counter()
    assert sum([len(piece) async for piece in logs.read(BIG)]) == size
    report("whole sealed log read", f"{size / (time.perf_counter() - started) / 1e6:.0f} MB/s")


async def follow(logs: LocalLogStore) -> None:
    """From an append to each of the viewers, with a line every 20 ms; then how fast all get a flood."""
    log = LogId(2)
    waits: list[float] = []

    async def view() -> None:
        waits.extend([time.perf_counter() - chunk.at / 1e6 async for chunk in logs.follow(log)])

    viewers = [asyncio.create_task(view()) for _ in range(VIEWERS)]
    size = 0
    for _ in range(200):
        text = b"a line of some program's output\n"
        size = (await logs.append(log, size, [Chunk(Stream.OUTPUT, Moment(int(time.perf_counter() * 1e6)), text)])).size
        await asyncio.sleep(0.02)
    await logs.seal(log)
    await asyncio.gather(*viewers)
    assert len(waits) == 200 * VIEWERS
    report(f"append to {VIEWERS} viewers, 50 lines/s", spread(waits))


async def short_logs(logs: LocalLogStore, at_once: int, count: int) -> None:
    """Begin, append 50 bytes, seal; each seal is on disk when it returns."""
    turn = asyncio.Semaphore(at_once)
    waits: list[float] = []

    async def one(number: int) -> None:
        async with turn:
            started = time.perf_counter()
            log = LogId(1_000_000 * at_once + number)
            await logs.append(log, 0, [Chunk(Stream.OUTPUT, Moment(1), b"x" * 49 + b"\n")])
            await logs.seal(log)
            waits.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    each = (time.perf_counter() - started) / count
    report(f"short log, {at_once} at a time", f"{each * 1e3:.2f} ms each ({1 / each:.0f}/s)   {spread(waits)}")


async def main(folder: Path) -> None:
    """All of it, in one folder."""
    source = folder / "text"
    big_text(source)
    logs = LocalLogStore(folder / "logs")
    await ingest(logs, source, cat(source, folder / "copy"))
    source.unlink()
    await find(logs, "growing")
    await seal(folder, logs)
    await find(logs, "sealed")
    await logs.close()
    logs = LocalLogStore(folder / "logs")
    await find(logs, "sealed, store reopened")
    await follow(logs)
    for at_once in (1, 10, 50):
        await short_logs(logs, at_once, 1000)
    await logs.close()


if __name__ == "__main__":
    scratch = Path(tempfile.mkdtemp(prefix="buildyard-bench-", dir=sys.argv[1] if len(sys.argv) > 1 else None))
    try:
        asyncio.run(main(scratch))
    finally:
        shutil.rmtree(scratch)
