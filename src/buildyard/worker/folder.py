"""The worker's state folder: held by one process at a time, with an identity that outlives processes."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from buildyard.domain.errors import Conflict, Unavailable

LOCK = "worker.lock"
_IDENTITY = "state_id"
_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder that this process holds. `scratch` is emptied by each new holder."""

    path: Path
    state_id: str
    scratch: Path


@contextmanager
def hold(path: Path) -> Iterator[StateFolder]:
    """Lock a state folder (made if missing) and read its identity.

    Raises Conflict if another process holds it, Unavailable if the disk fails. The lock is the kernel's, so it
    ends with the process, however that ends.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise Unavailable(f"the worker's folder {path} cannot be used: {exc.strerror}") from exc
    try:
        _take(lock, path)
        yield _open(path)
    finally:
        os.close(lock)


def holder(path: Path) -> int | None:
    """The pid of the process that holds a state folder; None if nobody does."""
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.read(lock, 20)
        return int(words) if words.strip().isdigit() else None
    finally:
        os.close(lock)
    return None


def _take(lock: int, path: Path) -> None:
    """Lock, or raise Conflict; tried a few times, for `holder` locks for a moment too."""
    for pause in (0.02, 0.05, 0.1, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as exc:
            if pause is None:
                raise Conflict(f"the worker's folder {path} is in use by process {holder(path) or 'unknown'}") from exc
            time.sleep(pause)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _open(path: Path) -> StateFolder:
    try:
        scratch = path / _SCRATCH
        with suppress(FileNotFoundError):
            shutil.rmtree(scratch)
        scratch.mkdir(mode=0o700)
        return StateFolder(path, _identity(path / _IDENTITY), scratch)
    except OSError as exc:
        raise Unavailable(f"the worker's folder {path} cannot be used: {exc.strerror}") from exc


def _identity(file: Path) -> str:
    with suppress(FileNotFoundError):
        if known := file.read_text().strip():
            return known
    made = secrets.token_hex(16)
    fresh = file.with_suffix(".new")
    fresh.write_text(made + "\n")
    os.replace(fresh, file)
    return made
