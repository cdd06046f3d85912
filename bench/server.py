"""A Buildyard under measurement: `buildyard serve` as a user starts it, with its embedded worker."""

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Usage, children, command_line, ended_after, start, usage, wait_for_text

READY_S = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, its operator's token, its process and its worker's (0: none)."""

    url: str
    token: str
    pid: int
    worker: int
    data: Path

    def cpu(self) -> "Cpu":
        """What both have used so far."""
        return Cpu(usage(self.pid), usage(self.worker) if self.worker else Usage(0, 0))


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds of a server, of its worker, and of what the worker ran."""

    server: Usage
    worker: Usage

    def since(self, before: "Cpu", count: int) -> str:
        """Milliseconds a piece for `count` pieces of work since `before`, in words."""
        server = self.server.own - before.server.own
        worker = self.worker.own - before.worker.own
        jobs = self.worker.children - before.worker.children
        return (
            f"CPU a piece: server {server / count * 1e3:.2f} ms, worker {worker / count * 1e3:.2f} ms, "
            f"jobs {jobs / count * 1e3:.2f} ms"
        )


@contextlib.contextmanager
def serving(executor: str, slots: int, *, data: Path | None = None, **variables: str) -> Iterator[Server]:
    """Start a server in an empty folder (or in `data`, which is kept) and end it afterwards."""
    with contextlib.ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="buildyard-bench-"))) / "data"
        log = data.with_name(f"{data.name}.log")
        log.write_bytes(b"")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BUILDYARD_")}
        environment |= {
            "BUILDYARD_DATA": str(data),
            "BUILDYARD_PORT": "0",
            "BUILDYARD_EXECUTOR": executor,
            "BUILDYARD_WORKERS": str(slots),
            **variables,
        }
        argv = [sys.executable, "-m", "buildyard.cli", "serve"]
        process = stack.enter_context(ended_after(start(argv, log, environment)))
        said = wait_for_text(process, log, "listening on ", READY_S)
        url = re.findall(r"listening on (\S+)", said)[0]
        worker = _worker_of(process.pid) if slots else 0
        yield Server(url, (data / "operator.token").read_text().strip(), process.pid, worker, data)


def _worker_of(server: int) -> int:
    """The process of the embedded worker, once it is there and connected."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        for child in children(server):
            if "buildyard.cli.worker" in command_line(child):
                return child
        time.sleep(0.02)
    raise SystemExit("the server started no worker")
