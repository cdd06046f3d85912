"""Listening to commands and watching processes."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from buildyard.domain.states import Stream
from buildyard.ports import Command, Exit, Workspace

GENEROUS_S = 20.0


class Listener:
    """An output sink that keeps everything and wakes whoever waits for a text."""

    def __init__(self) -> None:
        self.chunks: list[tuple[Stream, bytes]] = []
        self._news = asyncio.Event()

    def __call__(self, stream: Stream, data: bytes) -> None:
        self.chunks.append((stream, data))
        self._news.set()

    def of(self, stream: Stream) -> bytes:
        """All that came from one stream."""
        return b"".join(data for each, data in self.chunks if each is stream)

    @property
    def output(self) -> bytes:
        """All that came from the output."""
        return self.of(Stream.OUTPUT)

    @property
    def errors(self) -> bytes:
        """All that came from the error output."""
        return self.of(Stream.ERROR)

    @property
    def text(self) -> str:
        """The output as text without surrounding space."""
        return self.output.decode().strip()

    async def until(self, what: bytes) -> None:
        """Wait until the output holds `what`."""
        async with asyncio.timeout(GENEROUS_S):
            while what not in self.output:
                self._news.clear()
                await self._news.wait()


def script(workspace: Workspace, text: str, **options: object) -> Command:
    """The command that runs a script as workers do: from a file in the workspace."""
    (workspace.folder / ".script").write_text(text)
    return Command(argv=("bash", "--noprofile", "--norc", "-e", ".script"), **options)  # type: ignore[arg-type]


async def run(workspace: Workspace, text: str, heard: Listener | None = None, **options: object) -> Exit:
    """Run a script to its end."""
    async with asyncio.timeout(60):
        return await workspace.run(script(workspace, text, **options), heard or Listener())


async def become_true(fact: Callable[[], bool]) -> None:
    """Wait for a fact about the machine that nothing announces."""
    async with asyncio.timeout(GENEROUS_S):
        while not fact():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


def processes_with(word: str) -> list[int]:
    """The running processes (no zombies) with an argument `word`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                arguments = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if word.encode() in arguments:
                found.append(int(name))
    return found


def unique_sleep() -> str:
    """A number of seconds for `sleep` that no other process on the machine uses: long, and with random digits."""
    return f"{5000 + int.from_bytes(os.urandom(2))}.{int.from_bytes(os.urandom(5)):013d}"
