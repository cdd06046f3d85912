"""The folders of workspaces below `state/workspaces/<key>`: made, handed over to the job's user, removed, found."""

import asyncio
import contextlib
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.executors.trees import Identity, is_alive
from buildyard.domain.errors import Conflict, Invalid, Unavailable

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OWNER = "owner"
_MOST_SPARES = 32
_PRIVATE, _SHARED = 0o700, 0o1777


@dataclass(frozen=True, slots=True)
class Folders:
    """What lies on disk for one workspace: its files, a home and a folder for temporary files, in a common root.

    `tag` marks the workspace's processes; it is written down there too. With `at_home` the home holds the files.
    """

    root: Path
    tag: int
    at_home: bool = False

    @property
    def files(self) -> Path:
        """The workspace proper."""
        return self.home if self.at_home else self.root / "files"

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
    folders = Folders(state / "workspaces" / key, tag)
    try:
        folders.root.parent.mkdir(parents=True, exist_ok=True)
        folders.root.mkdir(mode=_PRIVATE)
        os.symlink(f"{identity.owner}.{tag}", folders.root / _OWNER)
        for folder in (folders.files, folders.home, folders.temporary):
            folder.mkdir(mode=_PRIVATE)
            if user is not None:
                os.chown(folder, *user)
        folders.temporary.chmod(_SHARED)
    except FileExistsError as exc:
        raise Conflict(f"workspace {key} exists already") from exc
    except OSError as exc:
        raise Unavailable(f"cannot make the workspace: {exc}") from exc
    return folders


class SpareFolders:
    """Folders of workspaces that are over, emptied for new ones: on some file systems, making folders costs more time
    than running a short command. Only for work that is trusted like the worker itself.
    """

    def __init__(self, state: Path, identity: Identity) -> None:
        self._state = state
        self._identity = identity
        self._spares: list[Folders] = []

    def make(self, key: str, tag: int) -> Folders:
        """See `make_folders`. The folders may come with the tag of an earlier workspace, of which nothing runs."""
        target = self._state / "workspaces" / key
        while self._spares and _KEY.fullmatch(key) and not target.exists():
            spare = self._spares.pop()
            with contextlib.suppress(OSError):
                spare.root.rename(target)
                return Folders(target, spare.tag)
        return make_folders(self._state, key, self._identity, tag)

    async def clear(self, folders: Folders) -> None:
        """Keep the folders for later, or delete them with everything in them."""
        await asyncio.to_thread(self._clear, folders)

    def _clear(self, folders: Folders) -> None:
        folders = Folders(folders.root, folders.tag)
        spare = self._state / "spare" / folders.root.name
        try:
            if len(self._spares) < _MOST_SPARES and _empty(folders):
                spare.parent.mkdir(exist_ok=True)
                folders.root.rename(spare)
                self._spares.append(Folders(spare, folders.tag))
                return
        except (OSError, RecursionError):
            pass
        _remove(folders.root)

    def close(self) -> None:
        """Delete what is kept."""
        while self._spares:
            _remove(self._spares.pop().root)


def _empty(folders: Folders) -> bool:
    """Make folders as good as new; False if they have become others than they were."""
    own = os.getuid(), os.getgid()
    names = {_OWNER, folders.files.name, folders.home.name, folders.temporary.name}
    if set(os.listdir(folders.root)) != names:
        return False
    for folder, mode in ((folders.files, _PRIVATE), (folders.home, _PRIVATE), (folders.temporary, _SHARED)):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or (found.st_uid, found.st_gid) != own or os.listxattr(folder):
            return False
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        if stat.S_IMODE(found.st_mode) != mode:
            folder.chmod(mode)
    return True


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


async def remove_folders(folders: Folders) -> None:
    """Delete a workspace's folders with everything in them."""
    await remove_folder(folders.root)


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
    """The root of each workspace, and of each spare one, and its tag if its worker is alive."""
    roots: list[Path] = []
    for parent in ("workspaces", "spare"):
        with contextlib.suppress(FileNotFoundError):
            roots += sorted((state / parent).iterdir())
    found: list[tuple[Path, int | None]] = []
    for root in roots:
        try:
            owner, _, tag = os.readlink(root / _OWNER).rpartition(".")
        except OSError:
            owner, tag = "", ""
        found.append((root, int(tag) if is_alive(owner) else None))
    return found
