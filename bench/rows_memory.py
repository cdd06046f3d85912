"""The row about idle memory."""

import time
from collections.abc import Iterator

from bench.context import Context
from bench.peers import SLOTS
from bench.processes import resident
from bench.server import serving
from bench.table import Figure, times

ROW = "idle memory"


def memory(context: Context) -> Iterator[Figure]:
    """Resident memory of server and worker after a start, as `serve` makes them."""
    with serving("process", SLOTS) as server:
        time.sleep(3)
        found = {"server": resident(server.pid), "worker": resident(server.worker)}
    bars = {"server": 80, "worker": 40}
    peers = {"server": context.buildbot.master_memory, "worker": context.buildbot.worker_memory}
    for name, value in found.items():
        yield Figure(
            row=ROW,
            what=name,
            value=f"{value:.0f} MB",
            bar=f"≤ {bars[name]} MB",
            peer=f"Buildbot {peers[name]:.0f} MB",
            ratio=times(value / peers[name]),
            met=value <= bars[name],
        )
