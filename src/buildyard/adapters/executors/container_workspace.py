"""A workspace whose commands run in a container."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.containers.engine import ContainerEngine, path_of
from buildyard.adapters.executors.cgroups import Group
from buildyard.adapters.executors.container_keeper import Keeper
from buildyard.adapters.executors.container_running import ContainerRunning, Place, lay_script, start_script
from buildyard.adapters.executors.container_terminals import ContainerTerminal
from buildyard.adapters.executors.folders import Folders
from buildyard.adapters.executors.running import Stop
from buildyard.adapters.executors.workspace import check_command, judge
from buildyard.domain.errors import Unavailable
from buildyard.ports import Command, Exit, OutputSink, Terminal, WorkspaceRequest


@dataclass(frozen=True, slots=True)
class Opened:
    """What was made for one workspace. `release` ends and removes it all, folders included."""

    request: WorkspaceRequest
    folders: Folders
    group: Group
    place: Place
    keeper: Keeper
    release: Callable[[], Awaitable[None]]


class ContainerWorkspace:
    """Implements `ports.Workspace`."""

    def __init__(self, engine: ContainerEngine, opened: Opened) -> None:
        self._engine = engine
        self._opened = opened
        self._running: ContainerRunning | None = None
        self._terminals: set[ContainerTerminal] = set()
        self._opened_terminals = 0
        self._opening = asyncio.Lock()
        self._hanging_up = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def folder(self) -> Path:
        """See `ports.Workspace`."""
        return self._opened.folders.files

    @property
    def inside(self) -> str:
        """See `ports.Workspace`."""
        return self._opened.place.inside

    @property
    def home(self) -> Path:
        """See `ports.Workspace`."""
        return self._opened.folders.home

    @property
    def inside_home(self) -> str:
        """See `ports.Workspace`."""
        return self._opened.place.environment["HOME"]

    async def run(self, command: Command, output: OutputSink) -> Exit:
        """See `ports.Workspace`. Raises Invalid for a `cwd` outside, Unavailable if the workspace is closed or busy."""
        if self._closing is not None or self._running is not None:
            raise Unavailable("the workspace is closed" if self._closing else "the workspace runs a command already")
        check_command(command)
        opened = self._opened
        running = self._running = ContainerRunning(self._engine, opened.keeper, opened.place, output)
        before = opened.group.hits()
        try:
            async with self._opening:
                await self._hang_up_all("a step begins")
                self._hanging_up = False
            ended = await running.run(command)
        finally:
            await self._hang_up_all("the step has ended")
            self._running = None
            self._hanging_up = False
            running.over.set()
        return judge(ended, command, opened.request.limits, before, opened.group.hits())

    async def open_terminal(self, command: Command, rows: int, columns: int) -> Terminal:
        """See `ports.Workspace`. The end of a step kills whatever runs in the container, terminals too."""
        check_command(command)
        async with self._opening:
            if self._closing is not None or self._hanging_up:
                raise Unavailable("the workspace is closed" if self._closing else "the step is just ending")
            self._opened_terminals += 1
            place = self._opened.place
            size = f"stty rows {int(rows)} cols {int(columns)} <&1 2>/dev/null\n"
            script = lay_script(place, f"terminal-{self._opened_terminals}", size + start_script(command, place))
            terminal = await self._start_terminal(["/bin/sh", script])
            self._terminals.add(terminal)
        await terminal.resize(rows, columns)
        return terminal

    async def _start_terminal(self, argv: list[str]) -> ContainerTerminal:
        attached = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
        made = await self._engine.call(
            "POST", path_of("containers", self._opened.place.container, "exec"), {**attached, "Tty": True, "Cmd": argv}
        )
        begin = path_of("exec", made["Id"], "start")
        connection = await self._engine.upgrade(begin, {"Detach": False, "Tty": True}, terminal=True)
        return ContainerTerminal(self._engine, made["Id"], connection, self._terminals.discard)

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
        await self._opened.release()
