"""A workspace whose commands run in a container."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.containers.engine import ContainerEngine
from buildyard.adapters.executors.cgroups import Group
from buildyard.adapters.executors.container_keeper import Keeper
from buildyard.adapters.executors.container_running import ContainerRunning, Place
from buildyard.adapters.executors.folders import Folders
from buildyard.adapters.executors.running import Stop
from buildyard.adapters.executors.workspace import check_command, judge
from buildyard.domain.errors import Unavailable
from buildyard.ports import Command, Exit, OutputSink, WorkspaceRequest


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
            ended = await running.run(command)
        finally:
            self._running = None
            running.over.set()
        return judge(ended, command, opened.request.limits, before, opened.group.hits())

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
        await self._opened.release()
