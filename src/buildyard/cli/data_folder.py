"""The data folder: made for its owner alone, and held by one server at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buildyard.settings import BadSettings, Settings

LOCK = "server.lock"


@contextmanager
def held_data_folder(settings: Settings) -> Iterator[None]:
    """Make and lock the data folder; BadSettings if another server of this machine uses it."""
    run = settings.data / "run"
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise BadSettings(f"the data folder {settings.data} (BUILDYARD_DATA) cannot be used: {exc.strerror}") from exc
    try:
        _take(lock, settings.data)
        yield
    finally:
        os.close(lock)


def _take(lock: int, data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        pid = os.read(lock, 20).decode().strip() or "unknown"
        raise BadSettings(f"the data folder {data} is in use by another server, process {pid}") from exc
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket on the configured address; BadSettings if it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise BadSettings(f"cannot listen on {host}:{port} (BUILDYARD_HOST, BUILDYARD_PORT): {exc.strerror}") from exc
    listener.set_inheritable(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """A socket that only the owner of the data folder reaches; what a dead server left there is removed."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    except OSError as exc:
        listener.close()
        raise BadSettings(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    finally:
        os.close(folder)
    path.chmod(0o600)
    return listener
