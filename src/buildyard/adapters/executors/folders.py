"""The folders of workspaces below `state/workspaces/<key>`: made, handed over to the job's user, removed, found."""

import asyncio
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.executors.trees import Identity, is_alive
from buildyard.domain.errors import Conflict, Invalid, Unavailable

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Folders:
    """What lies on disk for one workspace: its files, a home and a folder for temporary files, in a common root."""

    root: Path

    @property
    def files(self) -> Path:
        """The workspace proper."""
        return self.root / "files"

    @property
    def home(self) -> Path:
        """The job's home folder, kept from step to step, outside the workspace proper."""
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        """Where the job's temporary files lie."""
        return self.root / "tmp"


def make_folders(state: Path, key: str, identity: Identity, tag: int, user: tuple[int, int] | None = None) -> Folders:
    """Make the empty folders of a workspace, for `user` (uid, gid) if given.

    Raises Invalid for a key that is no file name, Conflict if it is taken, Unavailable if the disk fails.
    """
    if not _KEY.fullmatch(key):
        raise Invalid(f"a workspace's key is letters, digits, dots, dashes and underscores, not {key!r}")
    folders = Folders(state / "workspaces" / key)
    try:
        folders.root.parent.mkdir(parents=True, exist_ok=True)
        folders.root.mkdir(mode=0o700)
        os.symlink(f"{identity.owner}.{tag}", folders.root / _OWNER)
        for folder in (folders.files, folders.home, folders.temporary):
            folder.mkdir(mode=0o700)
            if user is not None:
                os.chown(folder, *user)
        folders.temporary.chmod(0o1777)
    except FileExistsError as exc:
        raise Conflict(f"workspace {key} exists already") from exc
    except OSError as exc:
        raise Unavailable(f"cannot make the workspace: {exc}") from exc
    return folders


def hand_over(folder: Path, user: tuple[int, int]) -> None:
    """Give what the worker laid into a folder to the user that the job runs as. Nothing may run in it meanwhile."""
    uid, gid = user
    pending = [os.fspath(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid != uid:
                    os.chown(entry.path, uid, gid, follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


async def remove_folder(folder: Path) -> None:
    """Delete a folder with everything in it, whatever its permissions. One that is gone is no error."""
    await asyncio.to_thread(_remove, folder)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        _remove_by_force(folder)


def _remove_by_force(folder: Path) -> None:
    """Open up what is read-only, then delete with a program that copes with any depth."""
    subprocess.run(["chmod", "-R", "u+rwX", "--", folder], stderr=subprocess.DEVNULL, check=False)
    done = subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Unavailable(f"cannot remove {folder}: {done.stderr.decode(errors='replace').strip()[:500]}")


def live_tags(state: Path) -> set[int]:
    """The tags of the workspaces whose workers still run, this one's included."""
    return {tag for _, tag in _owned(state) if tag is not None}


def abandoned_folders(state: Path) -> list[Path]:
    """The folders of workspaces whose worker is dead."""
    return [root for root, tag in _owned(state) if tag is None]


def _owned(state: Path) -> list[tuple[Path, int | None]]:
    """Each workspace's root, and its tag if its worker is alive."""
    try:
        roots = sorted((state / "workspaces").iterdir())
    except FileNotFoundError:
        return []
    found: list[tuple[Path, int | None]] = []
    for root in roots:
        try:
            owner, _, tag = os.readlink(root / _OWNER).rpartition(".")
        except OSError:
            owner, tag = "", ""
        found.append((root, int(tag) if is_alive(owner) else None))
    return found
