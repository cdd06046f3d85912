"""The cgroups in which an engine puts containers: found, read, and removed once engines have left them empty."""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.executors.cgroups import Cgroups, Group, memberships, mounts
from buildyard.adapters.executors.trees import is_alive, kill_quietly

_REMOVE_S = 5.0
_CONTAINER = "libpod-"
"""What Podman's groups of a container itself begin with. Who is in one of a container that is removed was left behind:
an engine that dies while it starts a container does not know of its processes.
"""
_COUNTERS = {"memory": ("memory.events", "memory.oom_control"), "pids": ("pids.events",)}


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """Below which group, as an absolute path, the engine is to make those of containers; empty: where it likes.

    Engines make the whole path in every hierarchy; `foreign` are the folders on the way that were not there before.
    """

    path: str = ""
    foreign: tuple[Path, ...] = ()


def find_place(cgroups: Cgroups | None, driver: str) -> GroupPlace:
    """A place inside this process's own memory group, so that what bounds that bounds containers too.

    It takes an engine that makes groups itself (`driver`), and the right to look after them.
    """
    if cgroups is None or driver != "cgroupfs":
        return GroupPlace()
    parent = cgroups.parents.get("memory") or next(iter(cgroups.parents.values()))
    roots = {mount: root for _, _, mount, root in mounts()}
    mount = next((each for each in parent.parents if each in roots), None)
    if mount is None:
        return GroupPlace()
    path = os.path.normpath(os.path.join(roots[mount], parent.relative_to(mount)))
    ways = [folder for each in roots for folder in _way(each, Path(path).parent, roots[each])]
    return GroupPlace(path, tuple(folder for folder in ways if not folder.exists()))


def _way(mount: Path, group: Path, root: str) -> list[Path]:
    """The folders of a group and those above it in one hierarchy, the deepest first."""
    folder = Path(os.path.normpath(mount / os.path.relpath(group, root)))
    return [each for each in (folder, *folder.parents) if mount in each.parents]


def group_of(pid: int) -> Group:
    """The groups of a process of the host that limit memory and processes; empty if they cannot be read here."""
    folders: dict[str, Path] = {}
    own = dict(memberships(pid))
    by_controller = {name: path for names, path in own.items() for name in names.split(",")}
    for kind, options, mount, root in mounts():
        for controller in _COUNTERS:
            path = by_controller.get(controller if kind == "cgroup" else "")
            if path is None or (kind == "cgroup" and controller not in options):
                continue
            folder = Path(os.path.normpath(mount / os.path.relpath(path, root)))
            if any((folder / name).exists() for name in _COUNTERS[controller]):
                folders.setdefault(controller, folder)
    return Group(folders)


def limit_processes(group: Group, count: int) -> None:
    """Lower a group's limit of processes; where that is not allowed it keeps the one it has."""
    if "pids" in group.folders:
        with contextlib.suppress(OSError):
            (group.folders["pids"] / "pids.max").write_text(str(count))


async def remove_groups(path: str) -> None:
    """Delete a group in every hierarchy, with those below it; the kernel may take a moment.

    Its containers are gone; helpers of the engine may be just ending, and what an engine forgot is killed.
    """
    if path:
        await asyncio.to_thread(_remove_everywhere, path)


def remove_abandoned(path: str) -> int:
    """Delete the groups below `path` whose workers are dead; blocks; says how many there were."""
    names = {
        folder.name
        for place in _places(path)
        for folder in place.iterdir()
        if folder.is_dir() and not is_alive(".".join(folder.name.split(".")[:2]))
    }
    for name in names:
        _remove_everywhere(f"{path}/{name}")
    return len(names)


def remove_place(place: GroupPlace) -> None:
    """Delete the group of a state folder in every hierarchy, unless something is left in it, and the way to it."""
    if place.path:
        for folder in (*_places(place.path), *place.foreign):
            _remove(folder)


def _places(path: str) -> list[Path]:
    """Where a group lies in each hierarchy that has it."""
    found = [Path(os.path.normpath(mount / os.path.relpath(path, root))) for _, _, mount, root in mounts()]
    return [folder for folder in found if folder.is_dir()]


def _remove_everywhere(path: str) -> None:
    deadline = time.monotonic() + _REMOVE_S
    for folder in _places(path):
        below = [Path(inner) for inner, _, _ in os.walk(folder, topdown=False)]
        for inner in below:
            for pid in Group({"": inner}).members():
                if inner.name.startswith(_CONTAINER) or _has_nothing_to_do(pid):
                    kill_quietly(pid)
        while below and time.monotonic() < deadline:
            below = [inner for inner in below if not _remove(inner)]
            time.sleep(0.01 if below else 0)


def _has_nothing_to_do(pid: int) -> bool:
    """Whether a process is Podman's helper of a command that is over, which would wait for minutes.

    Other helpers may hold locks of Podman's, which killing them would leave locked for good.
    """
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return arguments[0].endswith(b"conmon") and b"--exec-attach" in arguments


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
