"""Says which files of a person's working folder belong to a build of it with its uncommitted changes."""

import asyncio
import os
from pathlib import Path

from buildyard.domain.errors import Invalid
from buildyard.worker.collecting import shown

_NO_PROGRAM = 127


async def list_checkout(folder: Path) -> list[str]:
    """Paths relative to `folder`, sorted: of a git checkout what is tracked or new and not ignored, with submodules.

    Elsewhere, and where git would ignore the whole folder, all files but those in `.git` folders. Links are listed
    as such. Runs git as the caller, with the caller's own settings: the folder is the caller's.
    """
    tracked = await _tracked(folder)
    names = tracked if tracked else await asyncio.to_thread(_all_files, folder)
    return sorted(set(names))


async def _tracked(folder: Path) -> list[str] | None:
    """What git lists and is there; None if this is no checkout or there is no git."""
    process = await asyncio.create_subprocess_exec(
        "env", "LC_ALL=C", "git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, complaint = await process.communicate()
    if process.returncode != 0:
        if process.returncode == _NO_PROGRAM or b"not a git repository" in complaint:
            return None
        text = shown(complaint.decode("utf-8", "replace").strip())
        raise Invalid(f"git cannot list the files of {folder}: {text}")
    names: list[str] = []
    for name in os.fsdecode(output).split("\0"):
        names += await _resolved(folder, name) if name else []
    return names


async def _resolved(folder: Path, name: str) -> list[str]:
    """A listed name as files: itself, nothing if it was deleted, or the files of the checkout inside."""
    path = folder / name
    if path.is_symlink():
        return [name]
    if path.is_dir():
        prefix = name.rstrip("/")
        return [f"{prefix}/{inner}" for inner in await list_checkout(path)] if (path / ".git").exists() else []
    return [name] if path.exists() else []


def _all_files(folder: Path) -> list[str]:
    names = []
    for current, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(current, name))]
        names += [os.path.relpath(os.path.join(current, name), folder) for name in [*files, *links] if name != ".git"]
    return names
