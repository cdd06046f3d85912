"""The executor `process`: commands run with the host's tools, as the worker's user, for trusted work only."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from buildyard.adapters.executors.cgroups import (
    Cgroups,
    find_cgroups,
    make_group,
    remove_abandoned_groups,
    remove_parents,
)
from buildyard.adapters.executors.folders import Folders, SpareFolders, abandoned_folders, live_tags, remove_folder
from buildyard.adapters.executors.limits import choose_cpus, limit_argv, limit_notes
from buildyard.adapters.executors.probing import try_true
from buildyard.adapters.executors.trees import MARKER_VARIABLE, Reaper, end_abandoned, identify
from buildyard.adapters.executors.workspace import STANDARD_PATH, Held, TreeWorkspace
from buildyard.domain.errors import Unavailable
from buildyard.ports import Command, Probe, Workspace, WorkspaceRequest

STRENGTH = 10


@dataclass(frozen=True, slots=True)
class _Plain:
    """A command that starts as it is; implements `workspace.Wrapped`."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    fds: tuple[int, ...] = ()

    def fault(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class _Host:
    """No enclosure at all; implements `workspace.Enclosure`."""

    folders: Folders
    prefix: tuple[str, ...]
    own_environment: Mapping[str, str]
    marker: str

    @property
    def inside(self) -> str:
        return os.fspath(self.folders.files)

    @property
    def inside_home(self) -> str:
        return os.fspath(self.folders.home)

    async def prepare(self) -> None:
        pass

    def wrap(self, command: Command) -> _Plain:
        environment = {**self.own_environment, **command.environment, MARKER_VARIABLE: self.marker}
        return _Plain((*self.prefix, *command.argv), environment, self.folders.files / command.cwd)

    async def release(self) -> None:
        pass


class ProcessExecutor:
    """Implements `ports.Executor`. `search_path` is the PATH of commands whose environment has none."""

    def __init__(self, state: Path, *, search_path: str = STANDARD_PATH, use_cgroups: bool = True) -> None:
        self._state = state.absolute()
        self._search_path = search_path
        self._identity = identify(self._state)
        self._reaper = Reaper()
        self._folders = SpareFolders(self._state, self._identity)
        self._cgroups: Cgroups | None = find_cgroups(self._identity) if use_cgroups else None
        programs_path = f"{search_path}:{STANDARD_PATH}"
        self._setpriv = shutil.which("setpriv", path=programs_path)
        self._prlimit = shutil.which("prlimit", path=programs_path)

    @property
    def name(self) -> str:
        """See `ports.Executor`."""
        return "process"

    async def probe(self) -> Probe:
        """See `ports.Executor`."""
        failure = await try_true(self)
        notes = (
            f"commands run as uid {os.getuid()} with the host's files, tools and network; trusted work only",
            *limit_notes(self._prlimit, self._cgroups, own_users=False),
        )
        if self._setpriv is None:
            notes += (
                "after a crash of the worker its jobs live on until it starts again: setpriv (util-linux) missing",
            )
        missing = (failure,) if failure else ()
        return Probe(name=self.name, usable=not failure, strength=STRENGTH, notes=notes, missing=missing)

    async def open(self, request: WorkspaceRequest) -> Workspace:
        """See `ports.Executor`. Also refuses untrusted work, and work that must not have a network."""
        if not request.trusted:
            raise Unavailable(
                "the executor process runs trusted work only; untrusted work needs a sandbox or a container"
            )
        if request.network == "none":
            raise Unavailable("the executor process cannot cut a job off from the network; that needs a sandbox")
        tag = self._identity.tag(f"{request.key}:{request.marker}")
        group = make_group(self._cgroups, f"{self._identity.owner}.{request.key}", request.limits, spare_pids=0)
        try:
            folders = replace(self._folders.make(request.key, tag), at_home=request.at_home)
        except BaseException:
            await group.remove()
            raise
        cpus = choose_cpus(request.limits, self._cgroups)
        held = Held(request, folders, group, folders.tag, cpus, self._folders.clear, self._identity)
        return TreeWorkspace(held, self._enclose(request, folders), self._reaper)

    def _enclose(self, request: WorkspaceRequest, folders: Folders) -> _Host:
        dies_with_worker = (self._setpriv, "--pdeathsig", "KILL", "--") if self._setpriv else ()
        limiter = limit_argv(self._prlimit, request.limits, self._cgroups, own_users=False)
        environment = {
            "PATH": self._search_path,
            "HOME": os.fspath(folders.home),
            "TMPDIR": os.fspath(folders.temporary),
        }
        return _Host(folders, (*dies_with_worker, *limiter), environment, self._identity.marker(request.marker))

    async def sweep(self) -> int:
        """See `ports.Executor`."""
        return await sweep_state(self._state, self._cgroups)

    async def close(self) -> None:
        """See `ports.Executor`."""
        await asyncio.to_thread(self._folders.close)
        remove_parents(self._cgroups)


async def sweep_state(state: Path, cgroups: Cgroups | None) -> int:
    """End the processes, then remove the folders and cgroups, that dead workers of a state folder left behind."""
    count = await asyncio.to_thread(end_abandoned, identify(state), live_tags(state))
    for folder in abandoned_folders(state):
        await remove_folder(folder)
        count += 1
    if cgroups is not None:
        count += await asyncio.to_thread(remove_abandoned_groups, cgroups)
    return count
