"""Limits on memory, processes and CPU by cgroup, version 2 or 1, where this process may make groups."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.executors.trees import Identity, is_alive
from buildyard.domain.errors import Unavailable
from buildyard.domain.specs import Limits

_CONTROLLERS = ("memory", "pids", "cpu")
_PERIOD_US = 100_000
_REMOVE_S = 5.0
_JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where this state folder's groups are made: the folder per controller (one for all in version 2)."""

    version: int
    parents: dict[str, Path]

    def enforces(self, controller: str) -> bool:
        """Whether `memory`, `pids` or `cpu` can be limited."""
        return controller in self.parents


@dataclass(frozen=True, slots=True)
class Hits:
    """How often a group's memory limit killed something and its process limit refused something."""

    memory: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The cgroups of one workspace; empty without limits."""

    folders: dict[str, Path]

    def join(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command line that enters the groups and becomes `argv`."""
        if not self.folders:
            return argv
        files = (os.fspath(folder / "cgroup.procs") for folder in dict.fromkeys(self.folders.values()))
        return ("/bin/sh", "-c", _JOIN, "sh", *files, "--", *argv)

    def members(self) -> list[int]:
        """The processes in the groups now."""
        found: set[int] = set()
        for folder in self.folders.values():
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (folder / "cgroup.procs").read_bytes().split())
        return [pid for pid in found if pid > 0]

    def hits(self) -> Hits:
        """What the limits have done so far."""
        memory, pids = self.folders.get("memory"), self.folders.get("pids")
        killed = refused = 0
        if memory is not None:
            events = memory / "memory.events"
            killed = _number(events if events.exists() else memory / "memory.oom_control", "oom_kill")
        if pids is not None:
            refused = _number(pids / "pids.events", "max")
        return Hits(killed, refused)

    async def remove(self) -> None:
        """Delete the groups, whose processes are dead; the kernel may take a moment to notice."""
        for folder in dict.fromkeys(self.folders.values()):
            if not _remove(folder):
                await asyncio.to_thread(_remove_patiently, folder)


def _number(file: Path, name: str) -> int:
    """A field of a `name value` file; 0 if the kernel does not have it."""
    try:
        fields = dict(line.split(maxsplit=1) for line in file.read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get(name, 0))


def make_group(cgroups: Cgroups | None, name: str, limits: Limits, spare_pids: int) -> Group:
    """Make the groups that `limits` asks for and this machine has; `spare_pids` is for the executor's own processes.

    Raises Unavailable if the kernel refuses.
    """
    wanted = {"memory": limits.memory_bytes, "pids": limits.pids, "cpu": limits.cpus}
    if cgroups is None:
        return Group({})
    folders = {
        controller: cgroups.parents[controller] / name
        for controller, limit in wanted.items()
        if limit is not None and controller in cgroups.parents
    }
    try:
        for folder in dict.fromkeys(folders.values()):
            folder.mkdir(parents=True)
        for file, value in _settings(cgroups.version, folders, limits, spare_pids):
            file.write_text(value)
    except OSError as exc:
        for folder in folders.values():
            _remove(folder)
        raise Unavailable(f"cannot limit resources: {exc}") from exc
    return Group(folders)


def _settings(version: int, folders: dict[str, Path], limits: Limits, spare_pids: int) -> Iterator[tuple[Path, str]]:
    """The files to write, in order: a bound on swap must follow that on memory."""
    if (memory := folders.get("memory")) is not None:
        yield memory / ("memory.max" if version == 2 else "memory.limit_in_bytes"), str(limits.memory_bytes)
        swap = memory / ("memory.swap.max" if version == 2 else "memory.memsw.limit_in_bytes")
        if swap.exists():
            yield swap, "0" if version == 2 else str(limits.memory_bytes)
    if (pids := folders.get("pids")) is not None and limits.pids is not None:
        yield pids / "pids.max", str(limits.pids + spare_pids)
    if (cpu := folders.get("cpu")) is not None and limits.cpus is not None:
        quota = max(1000, round(limits.cpus * _PERIOD_US))
        if version == 2:
            yield cpu / "cpu.max", f"{quota} {_PERIOD_US}"
        else:
            yield cpu / "cpu.cfs_period_us", str(_PERIOD_US)
            yield cpu / "cpu.cfs_quota_us", str(quota)


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def find_cgroups(identity: Identity) -> Cgroups | None:
    """Find out, by trying, where this process may make groups with limits; None where it may not."""
    name = f"buildyard-{identity.state}"
    for version, parents in ((2, _version_2(name)), (1, _version_1(name))):
        if parents:
            return Cgroups(version, parents)
    return None


def _version_1(name: str) -> dict[str, Path]:
    own = {controller: path for controllers, path in memberships() for controller in controllers.split(",")}
    limit_files = {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"}
    parents: dict[str, Path] = {}
    for kind, options, mount, root in mounts():
        for controller in _CONTROLLERS:
            if kind == "cgroup" and controller in options and controller in own:
                parent = mount / os.path.relpath(own[controller], root) / name
                if _make(parent) and (parent / limit_files[controller]).exists():
                    parents[controller] = parent
    return parents


def _version_2(name: str) -> dict[str, Path]:
    own = dict(memberships()).get("")
    for kind, _, mount, root in mounts():
        if kind == "cgroup2" and own is not None:
            for base in dict.fromkeys((mount / os.path.relpath(own, root), mount)):
                found = _try_version_2(base, name)
                if found:
                    return found
    return {}


def _try_version_2(base: Path, name: str) -> dict[str, Path]:
    """Make the parent below `base` and pass the controllers down, emptying `base` of processes if that is fit."""
    parent = base / name
    available = [each for each in _CONTROLLERS if each in _words(base / "cgroup.controllers")]
    if not available or not _make(parent):
        return {}
    if not _pass_down(base, available):
        _step_aside(base)
        _pass_down(base, available)
    _pass_down(parent, available)
    return dict.fromkeys((each for each in available if each in _words(parent / "cgroup.subtree_control")), parent)


def _pass_down(folder: Path, controllers: list[str]) -> bool:
    file = folder / "cgroup.subtree_control"
    for controller in controllers:
        if controller not in _words(file):
            with contextlib.suppress(OSError):
                file.write_text(f"+{controller}")
    return set(controllers) <= set(_words(file))


def _step_aside(base: Path) -> None:
    """Move the processes of a group into a leaf, as only leaves may hold any, if the group is ours alone.

    It is ours if it holds this process only, or is the root of a container's own view of the tree.
    """
    pids = _words(base / "cgroup.procs")
    is_ours = pids == [str(os.getpid())] or dict(memberships()).get("") == "/"
    leaf = base / "buildyard-worker"
    if is_ours and _make(leaf):
        for pid in pids:
            with contextlib.suppress(OSError):
                (leaf / "cgroup.procs").write_text(pid)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def memberships(pid: int | None = None) -> list[tuple[str, str]]:
    """A process's groups, this one's by default: (controllers joined by commas, empty for version 2; path)."""
    try:
        lines = Path(f"/proc/{pid or 'self'}/cgroup").read_text().splitlines()
    except OSError:
        return []
    return [(fields[1], fields[2]) for fields in (line.split(":", 2) for line in lines)]


def mounts() -> Iterator[tuple[str, set[str], Path, str]]:
    """The cgroup file systems: type, options, where they are mounted, and which group is their root."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            fields = before.split(" ")
            yield kind, set(options.split(",")), Path(fields[4]), fields[3]


def remove_abandoned_groups(cgroups: Cgroups) -> int:
    """Delete the groups that dead workers left; their processes were ended before. Blocks; says how many there were."""
    removed = 0
    for parent in dict.fromkeys(cgroups.parents.values()):
        for folder in parent.iterdir():
            owner = ".".join(folder.name.split(".")[:2])
            if folder.is_dir() and not is_alive(owner):
                removed += _remove_patiently(folder)
    return removed


def _remove_patiently(folder: Path) -> bool:
    deadline = time.monotonic() + _REMOVE_S
    while not _remove(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def remove_parents(cgroups: Cgroups | None) -> None:
    """Delete the folders in which groups were made, unless some are left in them."""
    for parent in dict.fromkeys(cgroups.parents.values()) if cgroups else ():
        _remove(parent)
