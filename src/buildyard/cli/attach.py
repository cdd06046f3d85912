"""`buildyard attach`: this terminal becomes one in the workspace of a job."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from buildyard.cli.connection import connected
from buildyard.cli.output import console
from buildyard.client.sockets import TerminalSocket
from buildyard.domain.errors import Invalid, Unavailable
from buildyard.protocol import TERMINAL_WATCHED_S, TerminalEnded, TerminalResized, TerminalWatched

LEAVE = b"\x1d"
"""Ctrl-]."""

_PIECE = 16 * 1024


class Escape:
    """Finds the wish to leave among the keys: Ctrl-], or `~.` at the beginning of a line."""

    def __init__(self) -> None:
        self._at_start = True
        self._tilde = False

    def take(self, keys: bytes) -> tuple[bytes, bool]:
        """The keys that are the program's, and whether what followed them was the wish."""
        passed = bytearray()
        for key in keys:
            if bytes((key,)) == LEAVE or (self._tilde and key == ord(".")):
                return bytes(passed), True
            if self._tilde:
                self._tilde = False
                if key != ord("~"):
                    passed += b"~"
            elif self._at_start and key == ord("~"):
                self._tilde = True
                continue
            passed.append(key)
            self._at_start = key in b"\r\n\x03\x04"
        return bytes(passed), False


async def attach(build: str, job: str) -> int:
    """Talk with a shell in a job's workspace until it ends, or until the person leaves; its exit status."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    if not (os.isatty(keyboard) and os.isatty(screen)):
        raise Invalid("attach joins a terminal with another: standard input and output must be one")
    rows, columns = _size(screen)
    async with connected() as client:
        socket = await client.attach(build, job, rows=rows, columns=columns, term=os.environ.get("TERM", ""))
        try:
            console(error=True).print(f"attached to build {build}; Ctrl-] or ~. leaves", style="dim", markup=False)
            with _raw(keyboard):
                ended = await _join(socket, keyboard, screen)
            return _tell(socket, ended)
        finally:
            await socket.close()


def _tell(socket: TerminalSocket, ended: "TerminalEnded | bool") -> int:
    if isinstance(ended, TerminalEnded):
        if ended.detail:
            console(error=True).print(f"detached: {ended.detail}", style="dim", markup=False)
        return ended.status
    if ended:
        console(error=True).print("detached: the shell was hung up", style="dim", markup=False)
        return 0
    raise Unavailable(f"the connection was lost: {socket.parting or 'no answer'}; the shell is hung up")


def _size(screen: int) -> tuple[int, int]:
    size = os.get_terminal_size(screen)
    return max(size.lines, 1), max(size.columns, 1)


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Pass every key on, signals too; as it was before at the end."""
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


async def _join(socket: TerminalSocket, keyboard: int, screen: int) -> TerminalEnded | bool:
    """How the shell ended; True if the person left, False if the connection was lost."""
    loop = asyncio.get_running_loop()
    resized = asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    typing = asyncio.create_task(_type(socket, keyboard))
    showing = asyncio.create_task(_show(socket, screen))
    others = [asyncio.create_task(_tell_size(socket, screen, resized)), asyncio.create_task(_watch(socket))]
    try:
        await asyncio.wait({typing, showing}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            return showing.result() or False
        typing.result()
        return True
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        for task in (typing, showing, *others):
            task.cancel()
        await asyncio.gather(typing, showing, *others, return_exceptions=True)


async def _type(socket: TerminalSocket, keyboard: int) -> None:
    """Send keys until the wish to leave, or until the terminal is gone."""
    escape = Escape()
    while True:
        await _pressed(keyboard)
        try:
            keys = os.read(keyboard, _PIECE)
        except OSError:
            return
        passed, leaves = escape.take(keys)
        if passed:
            with suppress(Unavailable):
                await socket.send(passed)
        if leaves or not keys:
            return


async def _pressed(keyboard: int) -> None:
    """Wait until a key can be read. Reading blocks otherwise, so nobody is told of the same key twice."""
    loop = asyncio.get_running_loop()
    pressed = asyncio.Event()
    loop.add_reader(keyboard, pressed.set)
    try:
        await pressed.wait()
    finally:
        loop.remove_reader(keyboard)


async def _show(socket: TerminalSocket, screen: int) -> TerminalEnded | None:
    while True:
        heard = await socket.receive()
        if heard is None or isinstance(heard, TerminalEnded):
            return heard
        if isinstance(heard, bytes):
            await asyncio.to_thread(_write, screen, heard)


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]


async def _tell_size(socket: TerminalSocket, screen: int, resized: asyncio.Event) -> None:
    with suppress(Unavailable):
        while True:
            await resized.wait()
            resized.clear()
            rows, columns = _size(screen)
            await socket.say(TerminalResized(rows=rows, columns=columns))


async def _watch(socket: TerminalSocket) -> None:
    """Say now and then that somebody is still here."""
    with suppress(Unavailable):
        while True:
            await asyncio.sleep(TERMINAL_WATCHED_S)
            await socket.say(TerminalWatched())
