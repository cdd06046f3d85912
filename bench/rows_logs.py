"""Rows about logs: taking them in, finding a line, following one with many viewers."""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

from bench.builds import client, one_step
from bench.context import Context
from bench.load import connections, head_of
from bench.processes import forget_peak, peak, resident
from bench.server import Server, serving
from bench.table import Figure, Spread, times

INGEST = "log ingest and lookup"
FOLLOW = "log follow"
STORE = Path(__file__).with_name("logs.py")
_FIGURE = re.compile(r"p50 ([\d.]+) ms +p99 ([\d.]+) ms")
_CLOCK = re.compile(rb"\d{10}\.\d{6}")


def ingest(context: Context) -> Iterator[Figure]:
    """A step that prints a big file, through worker and server; then the log store alone."""
    text = context.scratch / "text"
    copying = _make_text(text, 100 if context.quick else 250)
    with serving("process", 1) as server:
        load = os.getloadavg()[0]
        for pid in (server.pid, server.worker):
            forget_peak(pid)
        before = resident(server.pid), resident(server.worker)
        begun, spent = time.process_time(), server.cpu()
        taken, step = asyncio.run(_print(server, text, text.stat().st_size))
        own, used = time.process_time() - begun, server.cpu().since(spent, 1)
        grown = peak(server.pid) - before[0], peak(server.worker) - before[1]
        ranges = asyncio.run(_ranges(server, step, text.stat().st_size, 100 if context.quick else 1000))
    rate = text.stat().st_size / taken / 1e6
    yield Figure(
        row=INGEST,
        what=f"a step prints {text.stat().st_size / 1e6:.0f} MB, worker and server ({used}; this program {own:.1f} s)",
        value=f"{rate:.0f} MB/s",
        bar="≥ 100 MB/s",
        peer=f"cat to a file {copying:.0f} MB/s",
        ratio=times(rate / copying),
        met=rate >= 100,
        load=load,
    )
    yield Figure(
        row=INGEST,
        what="growth of resident memory meanwhile",
        value=f"server {grown[0]:.0f} MB, worker {grown[1]:.0f} MB",
        bar="flat: ≤ 64 MB",
        met=max(grown) <= 64,
        load=load,
    )
    yield Figure(row=INGEST, what="any 100 bytes of that log over HTTP (Range)", value=str(ranges), load=load)
    text.unlink()
    if not context.quick:
        yield from _store_alone(context.scratch)


def _make_text(path: Path, megabytes: int) -> float:
    """Write numbered lines to a file; MB/s of `cat` copying it."""
    chance = random.Random(0)
    lines = [b"%08d some output of a program 0x%010x\n" % (number, chance.getrandbits(40)) for number in range(20_000)]
    block = b"".join(lines)
    with path.open("wb") as file:
        while file.tell() < megabytes * 1_000_000:
            file.write(block)
    copy = path.with_name("copy")
    begun = time.perf_counter()
    subprocess.run(f"cat {path} > {copy}", shell=True, check=True)
    taken = time.perf_counter() - begun
    copy.unlink()
    return path.stat().st_size / taken / 1e6


async def _print(server: Server, text: Path, size: int) -> tuple[float, str]:
    """Seconds of the step that prints the file, as the server tells them, and the job's uid."""
    async with client(server, one_step(f"cat {text}"), 1) as bench:
        connection = bench.opened[0]
        build = await bench.submit(connection)
        await bench.finished(connection, build, every=0.1)
        step = await bench.only_step(connection, build)
        _, last = await connection.call("GET", f"/api/steps/{step['id']}/logs", extra=f"Range: bytes={size}-\r\n")
    if not 0 < len(last) < 1000:
        raise RuntimeError(f"the log is not whole: {step}")
    ended, begun = (datetime.fromisoformat(step[name]) for name in ("finishedAt", "startedAt"))
    uid: str = step["id"]
    return (ended - begun).total_seconds(), uid


async def _ranges(server: Server, step: str, size: int, count: int) -> Spread:
    """Times of answers with 100 bytes from anywhere."""
    chance = random.Random(1)
    taken = []
    async with connections(server.url, 1, server.token) as (connection,):
        for _ in range(count):
            start = chance.randrange(size - 100)
            begun = time.perf_counter()
            status, data = await connection.call(
                "GET", f"/api/steps/{step}/logs", extra=f"Range: bytes={start}-{start + 99}\r\n"
            )
            if status != 206 or len(data) != 100:
                raise RuntimeError(f"a range was answered by {status} and {len(data)} bytes")
            taken.append(time.perf_counter() - begun)
    return Spread.of(taken)


def _store_alone(scratch: Path) -> Iterator[Figure]:
    """What `bench/logs.py` finds: ten million lines in the log store, without worker and HTTP."""
    load = os.getloadavg()[0]
    said = subprocess.run([sys.executable, STORE, scratch], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in said.splitlines():
        what, _, figure = re.sub(r" {2,}", "\t", line).partition("\t")
        spread = _FIGURE.search(figure.replace("\t", "   "))
        met = float(spread[2]) <= 10 if spread and what.startswith("any line") else None
        bar = "≤ 10 ms" if met is not None else ""
        yield Figure(
            row=INGEST, what=f"log store: {what}", value=figure.replace("\t", ", "), bar=bar, met=met, load=load
        )


def follow(context: Context) -> Iterator[Figure]:
    """From a program's print to each of many viewers, by server-sent events."""
    viewers, prints = (100, 30) if context.quick else (500, 100)
    with serving("process", 1) as server:
        load, begun, before = os.getloadavg()[0], time.process_time(), server.cpu()
        waits = asyncio.run(_follow(server, context.scratch / "go", viewers, prints))
        own, used = time.process_time() - begun, server.cpu().since(before, prints)
    found = Spread.of(waits)
    yield Figure(
        row=FOLLOW,
        what=f"print to {viewers} viewers, 10 lines a second ({used}; this program {own / prints * 1e3:.0f} ms)",
        value=str(found),
        bar="p99 ≤ 100 ms",
        met=found.p99 <= 0.1,
        load=load,
    )


async def _follow(server: Server, flag: Path, viewers: int, prints: int) -> list[float]:
    script = (
        f"while [ ! -e {flag} ]; do sleep 0.05; done\n"
        f'for i in $(seq {prints}); do echo "$EPOCHREALTIME"; sleep 0.1; done'
    )
    async with client(server, one_step(script), 1) as bench, AsyncExitStack() as stack:
        build = await bench.submit(bench.opened[0])
        path = f"/api/steps/{(await bench.only_step(bench.opened[0], build))['id']}/logs"
        watching = [await _viewer(server, path) for _ in range(viewers)]
        for one in watching:
            stack.callback(one.close)
        await asyncio.sleep(0.5)
        _raise(flag)
        await bench.finished(bench.opened[0], build, every=0.2)
        await asyncio.gather(*(asyncio.wait_for(one.over.wait(), 30) for one in watching))
        _lower(flag)
    if any(len(one.waits) != prints for one in watching):
        raise RuntimeError("not every viewer saw every line")
    return [wait for one in watching for wait in one.waits]


def _raise(flag: Path) -> None:
    flag.touch()


def _lower(flag: Path) -> None:
    flag.unlink()


class Viewer(asyncio.Protocol):
    """One reader of a stream of events whose lines are times."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.waits: list[float] = []
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note how old each printed time is."""
        now = time.time()
        whole, _, self._rest = (self._rest + data).rpartition(b"\n")
        self.waits += [now - float(said) for said in _CLOCK.findall(whole)]
        if b"event: end" in whole:
            self.over.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - see asyncio.Protocol
        """See asyncio.Protocol."""
        self.over.set()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


async def _viewer(server: Server, path: str) -> Viewer:
    head = head_of(server.url, server.token)
    request = f"GET {path} HTTP/1.1\r\n{head}Accept: text/event-stream\r\n\r\n".encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    _, viewer = await asyncio.get_running_loop().create_connection(lambda: Viewer(request), host, int(port))
    return viewer
