"""Pseudo-terminals inside a container, opened by the worker through /proc: no process of the engine is needed.

That works where the worker may look into the container's processes, as root or as the user of an engine without root.
"""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from pathlib import Path

from buildyard.adapters.executors.running import COLUMNS, ROWS, keep_bytes
from buildyard.domain.states import Stream
from buildyard.ports import OutputSink

_UNLOCK, _NUMBER = 0x40045431, 0x80045430
"""TIOCSPTLCK and TIOCGPTN of Linux, which the standard library does not name."""

_PIECE = 256 * 1024
_DRAIN_S = 5.0


def open_pty(pid: int, control: Path, control_inside: str) -> tuple[int, str]:
    """The worker's end of a new pseudo-terminal of the container, and the path of the other end in there.

    `pid` is the container's first process. Raises OSError if it is not, or may not be looked into.
    """
    root = f"/proc/{pid}/root"
    if not os.path.samefile(f"{root}{control_inside}", control):
        raise FileNotFoundError(f"the process {pid} is not of the container")
    master = os.open(f"{root}/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _UNLOCK, struct.pack("i", 0))
        (number,) = struct.unpack("I", fcntl.ioctl(master, _NUMBER, bytes(4)))
        keep_bytes(master)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    except BaseException:
        os.close(master)
        raise
    return master, f"/dev/pts/{number}"


class PtyReader:
    """Passes on what comes out of a pseudo-terminal until its last user is gone, or until it is closed."""

    def __init__(self, master: int, output: OutputSink) -> None:
        self._master = master
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._loop.add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # how a terminal tells that its last user is gone
        if data:
            self._output(Stream.OUTPUT, data)
        else:
            self._stop()

    def _stop(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._loop.remove_reader(self._master)
            os.close(self._master)

    async def drained(self) -> None:
        """Wait for the last output; all users of the terminal are dead."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._over.wait()

    def close(self) -> None:
        """Stop reading."""
        self._stop()
