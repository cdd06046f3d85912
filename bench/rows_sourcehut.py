"""Rows about jobs made of manifests: how soon the first task runs, and lists of few and many."""

import asyncio
import json
import os
import time
from collections.abc import Iterator

from bench.context import Context
from bench.load import connections, load
from bench.peers import SLOTS, STORED
from bench.rows_builds import CLOCK
from bench.server import Server, serving
from bench.stored import stored
from bench.table import Figure, Spread, rate, times

LATENCY = "manifest: submit → first task running, idle server, no source"
LISTS = "manifest: list of 50 jobs"
MANIFEST = json.dumps({"image": "host", "tasks": [{"clock": CLOCK}]})
ENDED = ("success", "failed", "timeout", "cancelled")
AT_ONCE = 4


def sourcehut(context: Context) -> Iterator[Figure]:
    """The latency of manifests, and `GET /api/jobs` with a thousand jobs and with a million (quick: 100 000)."""
    yield from _latency(context)
    yield from _lists(context)


def _latency(context: Context) -> Iterator[Figure]:
    for executor in ("process", "sandbox"):
        with serving(executor, SLOTS) as server:
            now = os.getloadavg()[0]
            starts = asyncio.run(_one_after_another(server, 30 if context.quick else 200))
        yield Figure(
            row=LATENCY,
            what=f"task running, {executor}",
            value=str(starts),
            bar="p50 ≤ 25 ms",
            met=starts.p50 <= 0.025,
            load=now,
        )


async def _one_after_another(server: Server, count: int) -> Spread:
    starts = []
    async with connections(server.url, 1, token=server.token) as (connection,):
        for number in range(count + 5):
            begun = time.time()
            job = (await connection.json("POST", "/api/jobs", {"manifest": MANIFEST}))["id"]
            while (await connection.json("GET", f"/api/jobs/{job}"))["status"] not in ENDED:  # noqa: ASYNC110 - a client polls
                await asyncio.sleep(0.004)
            _, printed = await connection.call("GET", f"/logs/{job}/clock/log")
            if number >= 5:
                starts.append(float(printed.split()[-1]) - begun)
            await asyncio.sleep(0.02)
    return Spread.of(starts)


def _lists(context: Context) -> Iterator[Figure]:
    sizes = (STORED, 100_000 if context.quick else 1_000_000)
    found: dict[int, float] = {}
    for size in sizes:
        with serving("process", 0, data=stored(context.kept, size)) as server:
            now, before = os.getloadavg()[0], server.cpu()
            found[size], taken = asyncio.run(
                load(server.url, "/api/jobs", at_once=AT_ONCE, seconds=2 if context.quick else 5, token=server.token)
            )
            spread = Spread.of(taken)
            yield Figure(
                row=LISTS,
                what=f"{size} stored, {AT_ONCE} clients ({server.cpu().since(before, len(taken))})",
                value=f"{rate(found[size])}, {spread}",
                load=now,
            )
    slower = found[sizes[0]] / found[sizes[1]]
    yield Figure(
        row=LISTS,
        what=f"requests a second with {sizes[0]} stored beside {sizes[1]}",
        value=times(slower),
        bar="same: ≤ 1.25×",
        met=slower <= 1.25,
    )
