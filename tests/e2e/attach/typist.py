"""Somebody at a terminal: runs the command line on a pseudo-terminal, types, and reads what is drawn."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from types import TracebackType
from typing import Self

from e2e.running import environment

PATIENCE_S = 45.0


class Typist:
    """A command of the command line on a terminal of 31 lines of 97 characters, for the length of a block."""

    def __init__(self, url: str, token: str, *arguments: str) -> None:
        self._argv = [sys.executable, "-m", "buildyard.cli", *arguments]
        self._variables = {"BUILDYARD_URL": url, "BUILDYARD_TOKEN": token, "TERM": "xterm-256color", "PS1": "$ "}
        self._master = -1
        self._news = asyncio.Event()
        self._over = False
        self.drawn = b""

    async def __aenter__(self) -> Self:
        self._master, terminal = pty.openpty()
        self.resize(31, 97)
        self.before = termios.tcgetattr(terminal)
        self._terminal = terminal
        self.process = await asyncio.create_subprocess_exec(
            "setsid", "--ctty", "--wait", *self._argv, env=environment(self._variables),
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._terminal)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window larger or smaller."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.drawn += data
        self._news.set()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    async def sees(self, words: bytes) -> None:
        """Wait until these words were drawn since the last time something was waited for."""
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.drawn:
                assert self.process.returncode is None, self.drawn[-2000:]
                self._news.clear()
                await self._news.wait()
        self.drawn = self.drawn.partition(words)[2]

    async def ended(self) -> int:
        """Wait for the command's end; its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()
