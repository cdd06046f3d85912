"""The executor `dummy`: plays outcomes that a script spells out, without starting any process; for tests.

It reads the script file that the worker wrote for the shell (the last word of the command line; a text after `-c` works
as well) and obeys these lines; blank lines and lines that begin with `#` are passed over:

    print TEXT            write TEXT and a newline to the output
    error TEXT            the same to the error output
    raw ESCAPED           write bytes without a newline; escapes as in Python: raw \\x00\\xff
    env NAME              print the value of a variable of the environment, or nothing if it is not set
    sleep SECONDS         wait
    write PATH TEXT       make a file, relative to the command's folder, with TEXT and a newline; `append` adds to one
    cat PATH              print a file's bytes; status 1 if there is none
    hang                  wait for ever
    exit N                end with status N; the end of the script is status 0
    signal N              end as if signal N had killed the program: status 128 + N

A line that it does not know ends the command with status 127, as a shell would.
"""

import asyncio
import os
import secrets
from dataclasses import replace
from pathlib import Path

from buildyard.adapters.executors.folders import Folders, abandoned_folders, make_folders, remove_folder
from buildyard.adapters.executors.trees import MARKER_VARIABLE, Identity, identify
from buildyard.domain.errors import Invalid, Unavailable
from buildyard.domain.states import Cause, Result, Stream
from buildyard.ports import Command, Exit, OutputSink, Probe, Terminal, Workspace, WorkspaceRequest

STRENGTH = 0


class DummyExecutor:
    """Implements `ports.Executor`."""

    def __init__(self, state: Path) -> None:
        self._state = state.absolute()
        self._identity: Identity = identify(self._state)

    @property
    def name(self) -> str:
        """See `ports.Executor`."""
        return "dummy"

    async def probe(self) -> Probe:
        """See `ports.Executor`."""
        return Probe(name=self.name, usable=True, strength=STRENGTH, notes=("plays scripted outcomes; runs nothing",))

    async def open(self, request: WorkspaceRequest) -> Workspace:
        """See `ports.Executor`."""
        tag = self._identity.tag(secrets.token_hex(8))
        folders = replace(make_folders(self._state, request.key, self._identity, tag), at_home=request.at_home)
        return _DummyWorkspace(folders, self._identity.marker(request.marker))

    async def sweep(self) -> int:
        """See `ports.Executor`."""
        abandoned = abandoned_folders(self._state)
        for folder in abandoned:
            await remove_folder(folder)
        return len(abandoned)

    async def close(self) -> None:
        """See `ports.Executor`."""


class _DummyWorkspace:
    """Implements `ports.Workspace`."""

    def __init__(self, folders: Folders, marker: str) -> None:
        self._folders = folders
        self._marker = marker
        self._play: _Play | None = None
        self._closed = False

    @property
    def folder(self) -> Path:
        return self._folders.files

    @property
    def inside(self) -> str:
        return os.fspath(self._folders.files)

    @property
    def home(self) -> Path:
        return self._folders.home

    @property
    def inside_home(self) -> str:
        return os.fspath(self._folders.home)

    async def run(self, command: Command, output: OutputSink) -> Exit:
        if self._closed or self._play is not None:
            raise Unavailable("the workspace is closed" if self._closed else "the workspace runs a command already")
        if Path(command.cwd).is_absolute() or ".." in Path(command.cwd).parts:
            raise Invalid(f"a command's folder lies in the workspace, not at {command.cwd!r}")
        play = self._play = _Play(self.folder / command.cwd, self._environment(command), output)
        try:
            return await play.run(command)
        finally:
            self._play = None
            play.over.set()

    def _environment(self, command: Command) -> dict[str, str]:
        own = {"HOME": os.fspath(self._folders.home), "TMPDIR": os.fspath(self._folders.temporary)}
        return {**own, **command.environment, MARKER_VARIABLE: self._marker}

    async def open_terminal(self, command: Command, rows: int, columns: int) -> Terminal:  # noqa: ARG002 - the port's
        """See `ports.Workspace`. No process is started here, so there is nothing to talk to."""
        raise Unavailable("the executor dummy starts no programs, so it has no terminals")

    async def kill(self) -> None:
        play = self._play
        if play is not None:
            play.killed.set()
            await play.over.wait()

    async def close(self) -> None:
        self._closed = True
        await self.kill()
        await remove_folder(self._folders.root)


class _Play:
    """One script being played."""

    def __init__(self, cwd: Path, environment: dict[str, str], output: OutputSink) -> None:
        self.killed = asyncio.Event()
        self.over = asyncio.Event()
        self._cwd = cwd
        self._environment = environment
        self._output = output
        self._heard = asyncio.Event()

    async def run(self, command: Command) -> Exit:
        """Play to the end, to a kill, or until a clock runs out."""
        play = asyncio.create_task(self._obey_all(command))
        killed = asyncio.create_task(self.killed.wait())
        silence = asyncio.create_task(self._wait_for_silence(command.silent_s))
        everything = (play, killed, silence)
        try:
            await asyncio.wait(everything, timeout=command.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if killed.done():
                return Exit(status=137, result=Result.CANCELLED)
            if play.done():
                status = play.result()
                return Exit(status=status, result=Result.FAILURE if status else Result.SUCCESS)
            if silence.done():
                detail = f"no output for {command.silent_s:g} s"
                return Exit(status=137, result=Result.TIMEOUT, cause=Cause.SILENT, detail=detail)
            detail = f"wall time limit of {command.timeout_s:g} s reached"
            return Exit(status=137, result=Result.TIMEOUT, cause=Cause.WALL, detail=detail)
        finally:
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _wait_for_silence(self, seconds: float | None) -> None:
        while True:
            self._heard.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._heard.wait()
            except TimeoutError:
                return

    def _say(self, stream: Stream, data: bytes) -> None:
        self._heard.set()
        self._output(stream, data)

    async def _obey_all(self, command: Command) -> int:
        for line in self._script(command).splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            status = await self._obey(*line.strip().partition(" ")[::2])
            if status is not None:
                return status
        return 0

    def _script(self, command: Command) -> str:
        if "-c" in command.argv[:-1]:
            return command.argv[command.argv.index("-c") + 1]
        try:
            return (self._cwd / command.argv[-1]).read_text()
        except OSError:
            return command.argv[-1]

    async def _obey(self, verb: str, rest: str) -> int | None:
        """Do what one line says; the status if it ends the command."""
        match verb:
            case "exit":
                return int(rest or 0)
            case "signal":
                return 128 + int(rest)
            case "sleep":
                await asyncio.sleep(float(rest))
            case "hang":
                await asyncio.Event().wait()
            case _:
                return self._obey_at_once(verb, rest)
        return None

    def _obey_at_once(self, verb: str, rest: str) -> int | None:
        match verb:
            case "print":
                self._say(Stream.OUTPUT, f"{rest}\n".encode())
            case "error":
                self._say(Stream.ERROR, f"{rest}\n".encode())
            case "raw":
                self._say(Stream.OUTPUT, rest.encode("latin-1").decode("unicode_escape").encode("latin-1"))
            case "env":
                self._say(Stream.OUTPUT, f"{self._environment.get(rest, '')}\n".encode())
            case "write" | "append" | "cat":
                return self._obey_with_file(verb, *rest.partition(" ")[::2])
            case "true" | ":":
                pass
            case _:
                self._say(Stream.ERROR, f"{verb}: command not found\n".encode())
                return 127
        return None

    def _obey_with_file(self, verb: str, path: str, text: str) -> int | None:
        file = self._cwd / path
        try:
            if verb == "cat":
                self._say(Stream.OUTPUT, file.read_bytes())
                return None
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a" if verb == "append" else "w") as stream:
                stream.write(f"{text}\n")
        except OSError as exc:
            self._say(Stream.ERROR, f"{path}: {exc.strerror}\n".encode())
            return 1
        return None
