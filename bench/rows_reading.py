"""The row about reading builds, few and many stored, beside Buildbot."""

import asyncio
import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

from bench.context import Context
from bench.load import load
from bench.peers import STORED
from bench.server import Server, serving
from bench.stored import stored
from bench.table import Figure, Spread, rate, times

ROW = "one build; list of 50"
AT_ONCE = 4


def reading(context: Context) -> Iterator[Figure]:
    """GETs of one build and of the newest 50, with a thousand builds and with a million (quick: 100 000)."""
    sizes = (STORED, 100_000 if context.quick else 1_000_000)
    found: dict[tuple[str, int], float] = {}
    peers = {"one": (context.buildbot.reads_one, 10), "list": (context.buildbot.reads_list, 50)}
    for size in sizes:
        with serving("process", 0, data=stored(context.kept, size)) as server:
            for name, path in _paths(server).items():
                now, before = os.getloadavg()[0], server.cpu()
                a_second, taken = asyncio.run(
                    load(server.url, path, at_once=AT_ONCE, seconds=2 if context.quick else 5, token=server.token)
                )
                found[name, size] = a_second
                spread, (peer, bar) = Spread.of(taken), peers[name]
                yield Figure(
                    row=ROW,
                    what=f"{_words(name)}, {size} stored, {AT_ONCE} clients ({server.cpu().since(before, len(taken))})",
                    value=f"{rate(a_second)}, {spread}",
                    bar=f"≥ {bar}× Buildbot, p99 ≤ 30 ms",
                    peer=f"Buildbot, {STORED} stored {rate(peer)}",
                    ratio=times(a_second / peer),
                    met=a_second >= bar * peer and spread.p99 <= 0.03,
                    load=now,
                )
    for name in peers:
        slower = found[name, sizes[0]] / found[name, sizes[1]]
        yield Figure(
            row=ROW,
            what=f"{_words(name)}: requests a second with {sizes[0]} stored beside {sizes[1]}",
            value=times(slower),
            bar="same: ≤ 1.25×",
            met=slower <= 1.25,
        )


def _words(name: str) -> str:
    return "one build" if name == "one" else "newest 50 builds"


def _paths(server: Server) -> dict[str, str]:
    """Where to read a build from the middle of its project, and the newest 50."""
    newest = _get(server, "/-/api/v1/builds?limit=1")["builds"][0]
    middle = _get(server, f"/-/api/v1/builds/{newest['id'] // 2}")["build"]
    return {"one": f"/api/builds/{middle['uid']}", "list": "/api/builds?limit=50"}


def _get(server: Server, path: str) -> Any:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)
