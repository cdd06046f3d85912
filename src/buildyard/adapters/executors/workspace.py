"""A workspace whose commands are real process trees; how they are enclosed is the matter of its `Enclosure`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from buildyard.adapters.executors.cgroups import Group, Hits
from buildyard.adapters.executors.folders import Folders
from buildyard.adapters.executors.running import Ended, Launch, Running, Stop
from buildyard.adapters.executors.terminals import TreeTerminal, on_own_terminal
from buildyard.adapters.executors.trees import Identity, Reaper
from buildyard.domain.errors import Invalid, Unavailable
from buildyard.domain.specs import Limits
from buildyard.domain.states import Cause, Result
from buildyard.ports import Command, Exit, OutputSink, Terminal, WorkspaceRequest

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MIB = 1024 * 1024


class Enclosure(Protocol):
    """How one workspace's commands are started on the host: directly, or inside a sandbox."""

    @property
    def inside(self) -> str:
        """The workspace's path as commands see it."""
        ...

    @property
    def inside_home(self) -> str:
        """The home folder's path as commands see it."""
        ...

    async def prepare(self) -> None:
        """Make the files ready for a command; awaited before each one."""
        ...

    def wrap(self, command: Command) -> "Wrapped":
        """The command as it is started on the host."""
        ...

    async def release(self) -> None:
        """Give back what the workspace held besides its folders; nothing runs any more."""
        ...


class Wrapped(Protocol):
    """One start of a command: what to execute, and what the wrapper said of it afterwards."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line on the host."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of the command line on the host."""
        ...

    @property
    def cwd(self) -> Path:
        """The folder on the host in which it starts."""
        ...

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors that the wrapper needs; they are not passed on to the command."""
        ...

    def fault(self) -> str:
        """Why the wrapper could not start the command; empty if it did. Called once, at the end; frees `fds`."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """What was made for one workspace."""

    request: WorkspaceRequest
    folders: Folders
    group: Group
    tag: int
    cpus: frozenset[int]
    clear: Callable[[Folders], Awaitable[None]]
    """Takes the folders away when the workspace is closed."""

    identity: Identity


class TreeWorkspace:
    """Implements `ports.Workspace`."""

    def __init__(self, held: Held, enclosure: Enclosure, reaper: Reaper) -> None:
        self._held = held
        self._enclosure = enclosure
        self._reaper = reaper
        self._running: Running | None = None
        self._terminals: set[TreeTerminal] = set()
        self._opened = 0
        self._opening = asyncio.Lock()
        self._hanging_up = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def folder(self) -> Path:
        """See `ports.Workspace`."""
        return self._held.folders.files

    @property
    def inside(self) -> str:
        """See `ports.Workspace`."""
        return self._enclosure.inside

    @property
    def home(self) -> Path:
        """See `ports.Workspace`."""
        return self._held.folders.home

    @property
    def inside_home(self) -> str:
        """See `ports.Workspace`."""
        return self._enclosure.inside_home

    async def run(self, command: Command, output: OutputSink) -> Exit:
        """See `ports.Workspace`. Raises Invalid for a `cwd` outside, Unavailable if the workspace is closed or busy."""
        if self._closing is not None or self._running is not None:
            raise Unavailable("the workspace is closed" if self._closing else "the workspace runs a command already")
        check_command(command)
        running = self._running = Running(
            self._reaper, output, self._held.group.members, lambda: self._hang_up_all("the step has ended")
        )
        try:
            async with self._opening:
                await self._hang_up_all("a step begins")
                await self._enclosure.prepare()
                self._hanging_up = False
            return await self._run(command, running)
        except OSError as exc:
            raise Unavailable(f"cannot start commands: {exc}") from exc
        finally:
            self._running = None
            self._hanging_up = False
            running.over.set()

    async def _run(self, command: Command, running: Running) -> Exit:
        before = self._held.group.hits()
        wrapped = self._enclosure.wrap(command)
        fault = ""
        try:
            ended = await running.run(self._launch(command, wrapped))
        finally:
            fault = wrapped.fault()
        judged = judge(ended, command, self._held.request.limits, before, self._held.group.hits())
        if fault and judged.result is Result.FAILURE and judged.cause is Cause.NONE:
            return replace(judged, result=Result.ERROR, cause=Cause.EXECUTOR, detail=fault)
        return judged

    def _launch(self, command: Command, wrapped: Wrapped) -> Launch:
        return Launch(
            argv=self._held.group.join(wrapped.argv),
            environment=wrapped.environment,
            cwd=wrapped.cwd,
            fds=wrapped.fds,
            tag=self._held.tag,
            cpus=self._held.cpus,
            timeout_s=command.timeout_s,
            silent_s=command.silent_s,
            pty=command.pty,
        )

    async def open_terminal(self, command: Command, rows: int, columns: int) -> Terminal:
        """See `ports.Workspace`."""
        check_command(command)
        async with self._opening:
            if self._closing is not None or self._hanging_up:
                raise Unavailable("the workspace is closed" if self._closing else "the step is just ending")
            try:
                if self._running is None and not self._terminals:
                    await self._enclosure.prepare()
                return self._start_terminal(command, rows, columns)
            except OSError as exc:
                raise Unavailable(f"cannot open a terminal: {exc}") from exc

    def _start_terminal(self, command: Command, rows: int, columns: int) -> TreeTerminal:
        wrapped = self._enclosure.wrap(on_own_terminal(command))
        self._opened += 1
        request = self._held.request
        tag = self._held.identity.tag(f"{request.key}:{request.marker}:terminal {self._opened}")
        terminal = TreeTerminal(self._reaper, wrapped.fault, self._terminals.discard)
        terminal.start(replace(self._launch(command, wrapped), tag=tag), rows, columns)
        self._terminals.add(terminal)
        return terminal

    async def _hang_up_all(self, why: str) -> None:
        """End all terminals; none is opened from here on until a command runs, or has ended."""
        self._hanging_up = True
        await asyncio.gather(*(terminal.hang_up(why) for terminal in tuple(self._terminals)))

    async def kill(self) -> None:
        """See `ports.Workspace`. Returns when the command's `run` does."""
        running = self._running
        if running is not None:
            running.stop(Stop.KILLED)
            await running.over.wait()

    async def close(self) -> None:
        """See `ports.Workspace`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self.kill()
        async with self._opening:
            await self._hang_up_all("the workspace was removed")
        try:
            await self._enclosure.release()
            await self._held.group.remove()
        finally:
            await self._held.clear(self._held.folders)


def check_command(command: Command) -> None:
    """Refuse what cannot be passed to a program, and a folder outside of the workspace."""
    path = PurePosixPath(command.cwd)
    if path.is_absolute() or ".." in path.parts:
        raise Invalid(f"a command's folder lies in the workspace, not at {command.cwd!r}")
    if not command.argv:
        raise Invalid("a command has at least one word")
    if any("\0" in word for word in (command.cwd, *command.argv, *command.environment.values())):
        raise Invalid("a command, its folder and its environment cannot hold NUL characters")
    for name in command.environment:
        if not name or "=" in name or "\0" in name:
            raise Invalid(f"{name!r} is not a name for a variable of the environment")


def judge(ended: Ended, command: Command, limits: Limits, before: Hits, after: Hits) -> Exit:
    """Say what ended a command: a wish, a clock, a resource limit that it ran into, or itself."""
    match ended.stop:
        case Stop.KILLED:
            return Exit(status=ended.status, result=Result.CANCELLED)
        case Stop.WALL:
            detail = f"wall time limit of {command.timeout_s:g} s reached"
            return Exit(status=ended.status, result=Result.TIMEOUT, cause=Cause.WALL, detail=detail)
        case Stop.SILENT:
            detail = f"no output for {command.silent_s:g} s"
            return Exit(status=ended.status, result=Result.TIMEOUT, cause=Cause.SILENT, detail=detail)
        case None:
            pass
    if ended.status == 0:
        return Exit(status=0, result=Result.SUCCESS)
    if after.memory > before.memory:
        detail = f"memory limit of {(limits.memory_bytes or 0) / _MIB:g} MiB reached"
        return Exit(status=ended.status, result=Result.FAILURE, cause=Cause.MEMORY_LIMIT, detail=detail)
    if after.pids > before.pids:
        detail = f"limit of {limits.pids} processes reached"
        return Exit(status=ended.status, result=Result.FAILURE, cause=Cause.PIDS_LIMIT, detail=detail)
    return Exit(status=ended.status, result=Result.FAILURE)
