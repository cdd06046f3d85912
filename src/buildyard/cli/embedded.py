"""The worker that `serve` starts: a process of its own, which outlives the server and is found by the next one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from buildyard.bootstrap.logging import open_log
from buildyard.bootstrap.worker import Choice
from buildyard.settings import CONFIG_VARIABLE, Settings, as_variables, process_environment
from buildyard.worker.folder import holder

log = structlog.get_logger()

WORKER_USER = 59_998
"""The uid and gid of a worker that has them for itself: ones that distributions give to nobody."""

KILL_AFTER_S = 1.0
"""After its time to drain, a worker has so long to kill its jobs and report that; then it is killed itself."""

LONGEST_PAUSE_S = 30.0
_SECRETS = ("BUILDYARD_ADMIN_PASSWORD", "BUILDYARD_DATABASE_URL", "BUILDYARD_BLOBS_OPTIONS", "BUILDYARD_TOKEN")


@dataclass(frozen=True, slots=True)
class Launch:
    """How the worker is started: command, environment, its user (None: the server's), and where its log goes."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    user: int | None
    log_file: Path


def prepare_launch(settings: Settings, choice: Choice, token: str, say: Callable[[str], None]) -> Launch:
    """Decide how the worker runs here, and make its folder and the way to the server's socket."""
    folder = settings.data / "worker"
    folder.mkdir(mode=0o700, exist_ok=True)
    chosen = replace(settings, worker=replace(settings.worker, executor=choice.name))
    inherited = {name: value for name, value in process_environment().items() if name not in _SECRETS}
    environment = {
        **inherited,
        **as_variables(chosen, "worker", "sandbox", "container", "sources", "secrets"),
        "BUILDYARD_LOG_FORMAT": settings.server.log_format,
        "BUILDYARD_LOG_LEVEL": settings.server.log_level,
        "BUILDYARD_TOKEN": token,
        CONFIG_VARIABLE: os.devnull,
    }
    address, drain = f"unix://{settings.socket}", str(settings.worker.drain_seconds)
    argv = (sys.executable, "-m", "buildyard.cli.worker", address, str(folder), drain)
    user = _own_user(settings, choice, say)
    if user is not None:
        environment |= {"HOME": str(folder), "USER": "buildyard", "LOGNAME": "buildyard"}
        _open_way(settings, folder, user)
    return Launch(argv, environment, user, settings.data / "worker.log")


def _own_user(settings: Settings, choice: Choice, say: Callable[[str], None]) -> int | None:
    """Jobs of `process` run as the worker's user, so that must not be root if it can be helped.

    With a sandbox the worker stays root: its jobs have a user of their own already, and root can limit them by cgroup.
    """
    if os.getuid() != 0 or choice.name != "process" or not settings.worker.separate_user:
        return None
    reach = "import os, sys, buildyard.cli.worker, buildyard.bootstrap.worker; os.stat(sys.argv[1])"
    trial = (sys.executable, "-c", reach, str(settings.data))
    try:
        subprocess.run(
            trial,
            user=WORKER_USER,
            group=WORKER_USER,
            extra_groups=[],
            cwd="/",
            check=True,
            capture_output=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        say("worker: runs as root, and so do its jobs: another user cannot run this Python or reach the data folder")
        return None
    say(f"worker: has uid {WORKER_USER} for itself, and so have its jobs; limits hold for their single processes")
    return WORKER_USER


def _open_way(settings: Settings, folder: Path, user: int) -> None:
    """Let another user through the data folder to its own folder and the socket, and to nothing else in there."""
    os.umask(0o077)
    for path in settings.data.iterdir():
        path.chmod(path.stat().st_mode & 0o700)
    settings.data.chmod(0o711)
    settings.socket.parent.chmod(0o711)
    for path in (settings.socket, folder):
        os.chown(path, user, user)
    for path in folder.rglob("*"):
        if path.lstat().st_uid != user:
            os.chown(path, user, user, follow_symlinks=False)


class EmbeddedWorker:
    """Keeps one worker process alive: finds the one of an earlier server, starts one, starts it again when it dies."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        self._launch = launch
        self._folder = folder
        self._pidfd: int | None = None
        self._stopping = asyncio.Event()

    async def keep(self) -> None:
        """Run until `stop`."""
        pause = 0.5
        while not self._stopping.is_set():
            begun = time.monotonic()
            process = self._adopt() or self._start()
            await self._ended()
            if isinstance(process, subprocess.Popen):
                status = process.wait()
                if not self._stopping.is_set():
                    log.warning("worker_ended", status=status, log=str(self._launch.log_file))
            if self._stopping.is_set():
                return
            pause = 0.5 if time.monotonic() - begun > 10 else min(LONGEST_PAUSE_S, pause * 2)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    def _adopt(self) -> int | None:
        pid = holder(self._folder)
        if pid is None:
            return None
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        log.info("worker_found", pid=pid)
        return pid

    def _start(self) -> "subprocess.Popen[bytes]":
        with open_log(self._launch.log_file) as output:
            process = subprocess.Popen(
                self._launch.argv,
                env=self._launch.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                umask=0o022,
                user=self._launch.user,
                group=self._launch.user,
                extra_groups=None if self._launch.user is None else [],
            )
        self._pidfd = os.pidfd_open(process.pid)
        log.info("worker_started", pid=process.pid)
        return process

    async def _ended(self) -> None:
        assert self._pidfd is not None
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def signal(self, number: signal.Signals) -> None:
        """Send the worker a signal, if there is one."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, keeping: "asyncio.Task[None]", drain_seconds: float, hurry: asyncio.Event) -> None:
        """Let jobs end for so long, then have them killed; `hurry` skips the waiting. `keeping` is `keep`'s task."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait({keeping, hurried}, timeout=drain_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not keeping.done():
                self.signal(signal.SIGINT)  # another one: two alike, one of which still waits to be handled, are one
                await asyncio.wait({keeping}, timeout=KILL_AFTER_S)
            if not keeping.done():
                log.warning("worker_killed")
                self.signal(signal.SIGKILL)
        finally:
            hurried.cancel()
        await keeping
