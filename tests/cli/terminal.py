"""A terminal of 30 lines of 120 characters, with the command line on it and somebody who reads and types."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from types import TracebackType
from typing import Self

from installation import Installation

PATIENCE_S = 60.0


class Terminal:
    """Runs a command on a terminal for the length of a block."""

    def __init__(self, buildyard: Installation, *arguments: str) -> None:
        argv, environment, _ = buildyard.command(*arguments)
        unset = ("NO_COLOR", "COLUMNS", "LINES", "CI")
        environment = {name: value for name, value in environment.items() if name not in unset}
        self._master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv],
            env={**environment, "TERM": "xterm-256color"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self.written = ""
        self._from = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def forget(self) -> None:
        """Look only at what is written from now on."""
        self._from = len(self.written)

    def shows(self, words: str) -> None:
        """Wait until these words were drawn, however coloured."""
        give_up = time.monotonic() + PATIENCE_S
        while words not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written[self._from :]):
            assert time.monotonic() < give_up, self.written[-3000:]
            assert self._read(), self.written[-3000:]

    def send(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        """Take in what is written within a while; False once nobody writes any more."""
        if not select.select([self._master], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.written += data.decode("utf-8", "replace")
        return bool(data)
