"""Terminals of workspaces whose commands are process trees: a pseudo-terminal, its program, and an end for both."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import termios
from collections.abc import Callable, Iterable
from dataclasses import replace

from buildyard.adapters.executors.running import Launch
from buildyard.adapters.executors.trees import Reaper, exited, kill_group_quietly, tagged
from buildyard.domain.errors import Unavailable
from buildyard.domain.states import Cause, Result
from buildyard.ports import Command, Exit

PIECE = 64 * 1024


def on_own_terminal(command: Command) -> Command:
    """The command as the leader of a session whose terminal is its standard input: so keys become signals."""
    program = shutil.which("setsid", path="/usr/bin:/bin")
    if program is None:
        raise Unavailable("a terminal needs the program setsid: apt-get install util-linux")
    return replace(command, argv=(program, "--ctty", "--wait", *command.argv))


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Give a terminal's window a size; programs in its foreground are told."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _nobody() -> Iterable[int]:
    return ()


class TreeTerminal:
    """Implements `ports.Terminal`. `fault` is told once that the start's wrapper is over; `gone` that all is."""

    def __init__(self, reaper: Reaper, fault: Callable[[], str], gone: Callable[["TreeTerminal"], None]) -> None:
        self._reaper = reaper
        self._fault = fault
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._master = -1
        self._leader: subprocess.Popen[bytes] | None = None
        self._why = ""
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._watching: asyncio.Task[Exit] | None = None

    def start(self, launch: Launch, rows: int, columns: int) -> None:
        """Start the program. Raises OSError if that is not possible; then nothing is left."""
        self._master, slave = os.openpty()
        try:
            set_size(slave, rows, columns)
            os.set_blocking(self._master, False)
            with tagged(launch.tag):
                leader = subprocess.Popen(
                    launch.argv,
                    stdin=slave,
                    stdout=slave,
                    stderr=slave,
                    cwd=launch.cwd,
                    env=launch.environment,
                    pass_fds=launch.fds,
                    start_new_session=True,
                )
        except OSError:
            os.close(self._master)
            self._fault()
            raise
        finally:
            os.close(slave)
        self._leader = leader
        self._reaper.add(leader.pid, launch.tag)
        if launch.cpus:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(leader.pid, launch.cpus)
        self._watching = asyncio.create_task(self._watch(leader, launch.tag))

    async def read(self) -> bytes:
        """See `ports.Terminal`. What was written before the end can be read after it."""
        while self._master >= 0:
            try:
                data = os.read(self._master, PIECE)
            except BlockingIOError:
                await self._wait(self._news, self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError:
                data = b""  # all its users are gone
            if data:
                return data
            await self.ended()
            self._shut()
        return b""

    async def write(self, data: bytes) -> None:
        """See `ports.Terminal`."""
        while data and self._leader is not None and self._master >= 0:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await self._wait(self._room, self._loop.add_writer, self._loop.remove_writer)
            except OSError:
                return

    async def _wait(
        self,
        event: asyncio.Event,
        add: Callable[[int, Callable[[], None]], None],
        remove: Callable[[int], bool],
    ) -> None:
        """Sleep until the terminal is ready, or its program has ended."""
        if self._leader is None:
            self._shut()
            return
        event.clear()
        add(self._master, event.set)
        try:
            await event.wait()
        finally:
            if self._master >= 0:
                remove(self._master)

    async def resize(self, rows: int, columns: int) -> None:
        """See `ports.Terminal`."""
        if self._master >= 0:
            with contextlib.suppress(OSError):
                set_size(self._master, rows, columns)

    async def ended(self) -> Exit:
        """See `ports.Terminal`."""
        assert self._watching is not None
        return await asyncio.shield(self._watching)

    async def hang_up(self, why: str) -> None:
        """See `ports.Terminal`."""
        if self._leader is not None:
            self._why = self._why or why
            kill_group_quietly(self._leader.pid)
        await self.ended()
        self._shut()

    async def _watch(self, leader: "subprocess.Popen[bytes]", tag: int) -> Exit:
        """Wait for the program's end, then end what it left behind. Its group goes while the pid is still its own."""
        await exited(leader.pid)
        kill_group_quietly(leader.pid)
        self._leader = None
        status = leader.wait()
        self._reaper.drop(leader.pid)
        fault = ""
        try:
            await self._reaper.end(tag, _nobody)
        finally:
            fault = self._fault()
            self._gone(self)
            self._news.set()
            self._room.set()
        status = 128 - status if status < 0 else status
        if self._why:
            return Exit(status=status, result=Result.CANCELLED, detail=self._why)
        if status and fault:
            return Exit(status=status, result=Result.ERROR, cause=Cause.EXECUTOR, detail=fault)
        return Exit(status=status, result=Result.FAILURE if status else Result.SUCCESS)

    def _shut(self) -> None:
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
            os.close(self._master)
            self._master = -1
