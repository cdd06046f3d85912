"""Finds the files of a workspace that patterns name, without ever following a link.

A workspace is whatever a job left: what is found is looked at entry by entry, folders are entered only if they are
folders. Nothing of the job may run meanwhile.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildyard.domain.errors import NotFound, Unavailable
from buildyard.domain.paths import Pattern, normal

CHUNK = 256 * 1024
"""Bytes that one step of reading takes."""

_WALK_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A regular file in a workspace: its path, its bytes, its permission bits.

    `stored_at` is the path of the file itself; it differs from `path` where that is a link to it.
    """

    path: str
    size: int
    mode: int
    stored_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What patterns found, by path; the patterns that found nothing; what they found but is not kept, and why."""

    files: tuple[FoundFile, ...]
    missing: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a walk came by: its path relative to the start and its own (not a link's target's) status."""

    path: str
    status: os.stat_result


async def collect(folder: Path, patterns: Sequence[str]) -> Collected:
    """The files that the patterns name. Links to regular files inside the workspace count as files, others do not."""
    return await asyncio.to_thread(_collect, folder, patterns)


def _collect(folder: Path, patterns: Sequence[str]) -> Collected:
    compiled = [Pattern(text) for text in patterns]
    found: list[FoundFile] = []
    skipped: list[str] = []
    used: set[str] = set()
    for entry in walk(folder, compiled):
        used.update(pattern.text for pattern in compiled if pattern.matches(entry.path))
        kept = _as_file(folder, entry)
        if isinstance(kept, FoundFile):
            found.append(kept)
        elif kept:
            skipped.append(kept)
    missing = tuple(text for text in patterns if text not in used)
    return Collected(files=tuple(found), missing=missing, skipped=tuple(skipped))


def walk(folder: Path, patterns: Sequence[Pattern]) -> Iterator[Entry]:
    """All entries that a pattern takes, folders before what they hold, sorted by their names' code points."""
    waiting = [""]
    while waiting:
        path = waiting.pop()
        if path:
            try:
                status = os.lstat(folder / path)
            except FileNotFoundError:
                continue
            if any(pattern.matches(path) for pattern in patterns):
                yield Entry(path, status)
            if not stat.S_ISDIR(status.st_mode):
                continue
        if any(pattern.may_match_below(path) for pattern in patterns):
            names = sorted(_names(folder, path), reverse=True)
            waiting += [f"{path}/{name}" if path else name for name in names]


def _names(folder: Path, path: str) -> list[str]:
    try:
        return os.listdir(folder / path)
    except PermissionError as exc:
        raise Unavailable(f"the folder {shown(path)} of the workspace may not be read") from exc
    except OSError as exc:
        raise Unavailable(f"the folder {shown(path)} of the workspace cannot be read: {exc.strerror}") from exc


def _as_file(folder: Path, entry: Entry) -> FoundFile | str:
    """The file that an entry is or leads to; the words why it is left out; empty for a folder."""
    mode = entry.status.st_mode
    if stat.S_ISDIR(mode):
        return ""
    stored_at, status = entry.path, entry.status
    if stat.S_ISLNK(mode):
        target = _target_inside(folder, entry.path)
        if target is None:
            return f"{shown(entry.path)}: a link that leads out of the workspace or nowhere"
        stored_at, status = target, os.lstat(folder / target)
    if not stat.S_ISREG(status.st_mode):
        return f"{shown(entry.path)}: not a regular file"
    return FoundFile(path=entry.path, size=status.st_size, mode=status.st_mode & 0o777, stored_at=stored_at)


def _target_inside(folder: Path, path: str) -> str | None:
    """Where a link leads, as a path relative to the workspace; None if outside or nowhere."""
    with suppress(OSError, RuntimeError, ValueError):
        root = folder.resolve(strict=True)
        return (folder / path).resolve(strict=True).relative_to(root).as_posix()
    return None


async def read_file(folder: Path, path: str, start: int = 0) -> AsyncIterator[bytes]:
    """The bytes of a regular file of the workspace from `start` on; NotFound if it is none or lies behind a link."""
    descriptor = await asyncio.to_thread(open_inside, folder, path)
    try:
        os.lseek(descriptor, start, os.SEEK_SET)
        while data := await asyncio.to_thread(os.read, descriptor, CHUNK):
            yield data
    finally:
        os.close(descriptor)


def open_inside(folder: Path, path: str) -> int:
    """A descriptor for reading a regular file, reached through real folders only; NotFound otherwise."""
    *parents, name = normal(path).split("/")
    if ".." in (*parents, name):
        raise NotFound(f"{shown(path)} is not in the workspace")
    current = os.open(folder, _WALK_FLAGS & ~os.O_NOFOLLOW)
    try:
        for parent in parents:
            inner = os.open(parent, _WALK_FLAGS, dir_fd=current)
            os.close(current)
            current = inner
        descriptor = os.open(name, _READ_FLAGS, dir_fd=current)
    except OSError as exc:
        raise NotFound(f"{shown(path)} is not a file of the workspace that can be read") from exc
    finally:
        os.close(current)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotFound(f"{shown(path)} is not a regular file")


def shown(path: str) -> str:
    """A path fit for a message, whatever bytes it has."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)[:300]
