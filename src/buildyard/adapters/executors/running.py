"""One running command: its leader process, its output as it comes, its clocks, and its whole tree's end."""

import asyncio
import contextlib
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from buildyard.adapters.executors.trees import Reaper, exited, kill_group_quietly, tagged
from buildyard.domain.states import Stream
from buildyard.ports import OutputSink

_PIECE = 256 * 1024
_PIPE = 256 * 1024
"""Bytes that a pipe of output holds: four times the usual, so that a program that prints a lot rarely waits."""

_DRAIN_S = 2.0
ROWS, COLUMNS = 40, 120


class Stop(Enum):
    """Why a command was ended before it ended itself."""

    KILLED = "killed"
    WALL = "wall"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A program as it is started on the host, and how long it may take and be silent (seconds)."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    tag: int
    fds: tuple[int, ...] = ()
    cpus: frozenset[int] = frozenset()
    timeout_s: float | None = None
    silent_s: float | None = None
    pty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the leader ended: 0–255, 128 + n for signal n; and what stopped it, if it did not end by itself."""

    status: int
    stop: Stop | None


def _no_members() -> Iterable[int]:
    return ()


async def _nothing_beside() -> None:
    """Nothing runs beside the command."""


class Running:
    """A command from before its start to the end of its tree. `stop` works at any time, also before the start."""

    def __init__(
        self,
        reaper: Reaper,
        output: OutputSink,
        members: Callable[[], Iterable[int]] = _no_members,
        end_beside: Callable[[], Awaitable[None]] = _nothing_beside,
    ) -> None:
        self._reaper = reaper
        self._output = output
        self._members = members
        self._end_beside = end_beside
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._stop: Stop | None = None
        self._leader: int | None = None
        self._open: set[int] = set()
        self._drained = asyncio.Event()
        self.over = asyncio.Event()

    def stop(self, why: Stop) -> None:
        """Kill the leader's group; `run` then ends the rest. The first reason counts."""
        if self.over.is_set():
            return
        self._stop = self._stop or why
        if self._leader is not None:
            kill_group_quietly(self._leader)

    async def run(self, launch: Launch) -> Ended:
        """Start the program, pass on its output, and return when nothing of its tree runs any more.

        A program or folder that is not there is an outcome, as in a shell; OSError says that nothing can be started.
        """
        if self._stop is not None:
            return Ended(status=137, stop=self._stop)
        try:
            leader = self._start(launch)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as exc:
            self._output(Stream.ERROR, f"{exc.filename}: {exc.strerror}\n".encode())
            return Ended(status=126 if isinstance(exc, PermissionError) else 127, stop=None)
        self._leader = leader.pid
        clocks = asyncio.create_task(self._watch_clocks(launch)) if launch.timeout_s or launch.silent_s else None
        try:
            await exited(leader.pid)
        finally:
            if clocks is not None:
                clocks.cancel()
            status = await asyncio.shield(self._end(leader, launch.tag))
        return Ended(status=128 - status if status < 0 else status, stop=self._stop)

    async def _end(self, leader: subprocess.Popen[bytes], tag: int) -> int:
        """End the tree and take the last output. The group goes first, while the leader's pid cannot be used again."""
        kill_group_quietly(leader.pid)
        await exited(leader.pid)
        self._leader = None
        status = leader.wait()
        self._reaper.drop(leader.pid)
        try:
            await self._end_beside()
            await self._reaper.end(tag, self._members)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await self._drained.wait()
        finally:
            for fd in tuple(self._open):
                self._shut(fd)
        return status

    def _start(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start the leader in a session of its own and mark it; without preexec_fn, so that vfork is used."""
        reads, writes = _open_terminal() if launch.pty else _open_pipes()
        try:
            with tagged(launch.tag):
                leader = subprocess.Popen(
                    launch.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=writes[0],
                    stderr=writes[-1],
                    cwd=launch.cwd,
                    env=launch.environment,
                    pass_fds=launch.fds,
                    start_new_session=True,
                )
        except OSError:
            for fd in reads:
                os.close(fd)
            raise
        finally:
            for fd in writes:
                os.close(fd)
        self._reaper.add(leader.pid, launch.tag)
        if launch.cpus:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(leader.pid, launch.cpus)
        for fd, stream in zip(reads, (Stream.OUTPUT, Stream.ERROR), strict=False):
            self._open.add(fd)
            self._loop.add_reader(fd, self._read, fd, stream)
        return leader

    def _read(self, fd: int, stream: Stream) -> None:
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal whose last user is gone reports an error instead of an end
        if data:
            self._heard_at = self._loop.time()
            self._output(stream, data)
        else:
            self._shut(fd)

    def _shut(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        self._open.discard(fd)
        if not self._open:
            self._drained.set()

    async def _watch_clocks(self, launch: Launch) -> None:
        """Stop the command when its wall time is over or it has been silent for too long."""
        started_at = self._heard_at = self._loop.time()
        while True:
            now = self._loop.time()
            wall_left = started_at + (launch.timeout_s or float("inf")) - now
            silent_left = self._heard_at + (launch.silent_s or float("inf")) - now
            if wall_left <= 0:
                self.stop(Stop.WALL)
                return
            if silent_left <= 0:
                self.stop(Stop.SILENT)
                return
            await asyncio.sleep(min(wall_left, silent_left))


def _open_pipes() -> tuple[list[int], list[int]]:
    """Two pipes, output and error: non-blocking ends to read, blocking ends to write."""
    output, error = os.pipe(), os.pipe()
    for fd in (output[0], error[0]):
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
    return [output[0], error[0]], [output[1], error[1]]


def _open_terminal() -> tuple[list[int], list[int]]:
    """A pseudo-terminal that passes bytes on as they are written, with a size that programs can use."""
    master, slave = os.openpty()
    keep_bytes(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.set_blocking(master, False)
    return [master], [slave]


def keep_bytes(terminal: int) -> None:
    """Have a terminal pass bytes on as they are written."""
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
