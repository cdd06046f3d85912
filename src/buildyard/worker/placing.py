"""Puts single files into workspaces without ever following a link that a source or a job made there."""

import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from buildyard.domain.errors import Invalid
from buildyard.domain.paths import check_path, normal

SCRIPTS = ".buildyard-*"
"""The pattern of the names of scripts in a workspace."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def place_script(folder: Path, text: str) -> str:
    """Write a step's script to a new file of the workspace; its name."""
    name = SCRIPTS.replace("*", secrets.token_hex(8))
    descriptor = os.open(folder / name, _NEW, 0o644)
    with open(descriptor, "wb") as file:
        file.write(text.encode(errors="surrogateescape"))
    return name


def remove_script(folder: Path, name: str) -> None:
    """Remove a script, unless the job did it or put something else in its place."""
    with suppress(OSError):
        os.unlink(folder / name)


def hide_scripts(folder: Path) -> None:
    """Have a git checkout in the workspace take no notice of scripts."""
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        for parent in (folder / ".git", folder / ".git" / "info"):
            if not stat.S_ISDIR(os.lstat(parent).st_mode):
                return
        descriptor = os.open(folder / ".git" / "info" / "exclude", flags | os.O_CREAT, 0o644)
        with open(descriptor, "ab") as file:
            file.write(f"/{SCRIPTS}\n".encode())


async def place_file(folder: Path, path: str, mode: int, data: AsyncIterator[bytes]) -> None:
    """Write a file, with the folders on its way, in place of what was there. OSError if a link is in the way."""
    with _new_file(folder, path, mode) as file:
        async for piece in data:
            file.write(piece)


def place_private(home: Path, path: str, mode: int, data: bytes) -> None:
    """Write a file into the job's home folder; the folders on its way are for the job's user only."""
    with _new_file(home, path, mode, folder_mode=0o700) as file:
        file.write(data)


@contextmanager
def _new_file(folder: Path, path: str, mode: int, *, folder_mode: int = 0o755) -> Iterator[BinaryIO]:
    """A file to be written; it gets its mode at the end."""
    parent = _open_parent(folder, path, folder_mode)
    try:
        name = normal(path).rsplit("/", 1)[-1]
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=parent), "wb") as file:
            yield file
            os.fchmod(file.fileno(), mode & 0o777)
    finally:
        os.close(parent)


def place_link(folder: Path, path: str, target: str) -> None:
    """Make a link in place of what was there. Invalid if it would lead out of the workspace."""
    depth = normal(path).count("/")
    segments = [segment for segment in target.split("/") if segment not in ("", ".")]
    inner = [segment for segment in segments if segment != ".."]
    climbs = len(segments) - len(inner)
    if not inner or target.startswith("/") or climbs > depth or segments[climbs:] != inner:
        raise Invalid(f"the link {path} leads out of the workspace")
    parent = _open_parent(folder, path)
    try:
        name = normal(path).rsplit("/", 1)[-1]
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        os.symlink(target, name, dir_fd=parent)
    finally:
        os.close(parent)


def _open_parent(folder: Path, path: str, folder_mode: int = 0o755) -> int:
    """A descriptor of the folder that `path` lies in, made if missing, reached through real folders only."""
    if faults := check_path(path, "path"):
        raise Invalid(f"the path {path!r} {faults[0].message}")
    current = os.open(folder, _FOLDER & ~os.O_NOFOLLOW)
    for part in normal(path).split("/")[:-1]:
        try:
            with suppress(FileExistsError):
                os.mkdir(part, folder_mode, dir_fd=current)
            inner = os.open(part, _FOLDER, dir_fd=current)
        finally:
            os.close(current)
        current = inner
    return current
