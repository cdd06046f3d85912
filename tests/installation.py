"""A real server process with its worker process, and the real command line against it, for tests."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


@dataclass
class Installation:
    """A data folder, the variables around it, and the server that serves it now."""

    data: Path
    variables: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None
    url: str = ""
    said: list[str] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        """What every process is given: nothing of the tests' own settings."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUILDYARD_")}
        own = {"BUILDYARD_DATA": str(self.data), "BUILDYARD_EXECUTOR": "process", "BUILDYARD_PORT": "0"}
        return {**inherited, **own, **self.variables, "NO_COLOR": "1", "COLUMNS": "200", **more}

    def start(self, *arguments: str) -> None:
        """Start the server and wait until it listens."""
        self.said = []
        with (self.data.parent / "server.err").open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "buildyard.cli", "serve", *arguments],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                return
        raise AssertionError(f"the server ended: {(self.data.parent / 'server.err').read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the server, and wait for that."""
        self.signal(number)
        return self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the server; its exit code."""
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def command(self, *arguments: str, cwd: Path | None = None, **more: str) -> list[Any]:
        """The pieces of a call of the command line."""
        return [
            [sys.executable, "-m", "buildyard.cli", *arguments],
            self.environment(BUILDYARD_URL=self.url, **more),
            cwd,
        ]

    def __call__(self, *arguments: str, cwd: Path | None = None, stdin: str = "", **more: str) -> Outcome:
        """Run the command line to its end."""
        argv, environment, folder = self.command(*arguments, cwd=cwd, **more)
        ended = subprocess.run(
            argv, env=environment, cwd=folder, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S * 2
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    def background(self, *arguments: str, cwd: Path | None = None) -> "subprocess.Popen[str]":
        """Start the command line and leave it running."""
        argv, environment, folder = self.command(*arguments, cwd=cwd)
        return subprocess.Popen(
            argv, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def worker_pid(self) -> int:
        """The process that holds the worker's folder."""
        return int((self.data / "worker" / "worker.lock").read_text())


def end(installation: Installation) -> None:
    """End the server and its worker at once.

    Two different signals are two, also if they arrive together; the second one makes the server end its worker.
    """
    if installation.process is not None:
        installation.signal(signal.SIGTERM)
        installation.signal(signal.SIGINT)
        installation.wait()
    lock = installation.data / "worker" / "worker.lock"
    if lock.exists() and (text := lock.read_text().strip()):
        kill_and_wait(int(text))


def kill_and_wait(pid: int) -> None:
    """Kill a process that may be no child of ours, and wait until it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        wait_for_end(descriptor)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def wait_for_end(descriptor: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), "the process did not end"
