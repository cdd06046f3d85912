"""Whole process trees: marks that every descendant inherits, and how to find and end all that bear them.

A process may leave its group, its session, its parents and its environment behind, so two marks are set: a
marker in the environment, readable while the program keeps it, and a tag kept in the soft limit on the time of
real-time tasks (RLIMIT_RTTIME). Children inherit that limit, ordinary programs never touch it, and its value is so
large that it limits nothing. The worker is a child subreaper, so what loses its parent falls to the worker, whose
list of children then says cheaply what a command left behind.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import os
import re
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from buildyard.domain.errors import Unavailable

MARKER_VARIABLE = "BUILDYARD_MARKER"
"""The environment variable that names the state folder, the worker and the attempt a process belongs to."""

_PR_SET_CHILD_SUBREAPER = 36
_TAG_BASE = 1 << 61
_TAG = re.compile(rb"^Max realtime timeout +(\d+)", re.MULTILINE)
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sets the marks: the state folder, by a hash of its path, and the worker, by pid and start time."""

    state: str
    pid: int
    started: int

    @property
    def owner(self) -> str:
        """The worker process as text; never that of another process, as pids are used again but not start times."""
        return f"{self.pid}.{self.started}"

    def marker(self, text: str) -> str:
        """What `BUILDYARD_MARKER` holds for processes that the request calls `text`."""
        return f"{self.state}:{self.owner}:{text}"

    def tag(self, text: str) -> int:
        """The number that marks the processes of `text`; its upper half is common to the state folder."""
        digest = hashlib.sha256(self.marker(text).encode()).digest()
        return self.first_tag + (int.from_bytes(digest[:4]) >> 2)

    @property
    def first_tag(self) -> int:
        """The smallest tag of this state folder; 2**30 numbers from here belong to it."""
        return _TAG_BASE + ((int(self.state[:8], 16) >> 2) << 30)

    def owns(self, tag: int | None) -> bool:
        """Whether a tag was given out for this state folder, by any worker."""
        return tag is not None and self.first_tag <= tag < self.first_tag + (1 << 30)


def identify(state: Path) -> Identity:
    """The identity of this process working in the state folder `state`."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()
    return Identity(digest[:12], os.getpid(), _stat(os.getpid())[1])


def is_alive(owner: str) -> bool:
    """Whether the worker named by `Identity.owner` still runs."""
    pid, _, started = owner.partition(".")
    try:
        state, at = _stat(int(pid))
    except (OSError, ValueError):
        return False
    return state not in {"Z", "X"} and str(at) == started


def _stat(pid: int) -> tuple[str, int]:
    """A process's state letter and its start time in clock ticks since boot."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def tag_of(pid: int) -> int | None:
    """The tag that a process bears, also a zombie; None without one."""
    try:
        found = _TAG.search(Path(f"/proc/{pid}/limits").read_bytes())
    except OSError:
        return None
    return int(found[1]) if found else None


@contextlib.contextmanager
def tagged(tag: int) -> Iterator[None]:
    """Whatever is started inside bears the tag from its first moment; marked later, it might have forked already.

    This process bears it as long, so nothing slow may be done inside. A program that another thread starts just
    then is marked too, but is spared for its session: no process of a job has the worker's.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    resource.setrlimit(resource.RLIMIT_RTTIME, (tag, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


def _children() -> list[int]:
    """The processes whose parent is this one's main thread, to which all orphans fall."""
    own = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{own}/children").read_bytes().split()]
    except FileNotFoundError:
        return [pid for pid in _pids() if _parent(pid) == own]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def kill_quietly(pid: int) -> None:
    """SIGKILL; one that is gone or not ours is passed over."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group_quietly(group: int) -> None:
    """SIGKILL to a process group, whose leader must not have been reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


async def exited(pid: int, timeout: float | None = None) -> None:
    """Sleep until a process has ended, at most `timeout` seconds. It is left to be reaped."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(fd)
        os.close(fd)


class Reaper:
    """The trees that one executor runs. Making it makes this process the parent of all orphans below it."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise Unavailable(f"cannot adopt orphaned processes: {os.strerror(ctypes.get_errno())}")
        self._own_tag = tag_of(os.getpid())
        self._leaders: dict[int, int] = {}

    def add(self, leader: int, tag: int) -> None:
        """Note a process that was started with this tag, in a session of its own, as the head of a tree."""
        self._leaders[leader] = tag

    def drop(self, leader: int) -> None:
        """Forget a leader that was reaped."""
        del self._leaders[leader]

    async def end(self, tag: int, members: Callable[[], Iterable[int]]) -> None:
        """Kill and reap what is left of a tree whose leader was reaped; `members` names more that belongs to it.

        It ends by induction: a dead process's children have become ours before we see it dead.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while left := {*self._orphans(tag), *members()}:
            for pid in left:
                kill_quietly(pid)
            for pid in left:
                await _reap(pid)
            if time.monotonic() > deadline:
                raise Unavailable(f"processes do not die: {sorted(left)}")

    def _orphans(self, tag: int) -> list[int]:
        """Adopted children of this tree, and, once no other tree runs, those of trees that nobody knows any more.

        The second kind comes from a worker that ran inside a job and gave its own tags to its processes.
        """
        found = []
        others = set(self._leaders.values()) - {tag}
        for pid in _children():
            if pid in self._leaders or _shares_session(pid):
                continue
            borne = tag_of(pid)
            if borne == tag or (not others and borne is not None and borne >= _TAG_BASE and borne != self._own_tag):
                found.append(pid)
        return found


def _shares_session(pid: int) -> bool:
    """Whether a process is of this one's session: started by the worker for itself, not by a job."""
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return True


async def _reap(pid: int) -> None:
    """Wait for a killed process; reap it if it is our child."""
    await exited(pid, 1.0)
    _collect(pid)


def _collect(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def end_abandoned(identity: Identity, live_tags: set[int]) -> int:
    """Kill, from any parent, the processes of this state folder's dead workers; blocks; says how many there were."""
    killed: set[int] = set()
    deadline = time.monotonic() + _PATIENCE_S
    while left := [pid for pid in _pids() if _is_abandoned(pid, identity, live_tags)]:
        for pid in left:
            kill_quietly(pid)
        for pid in left:
            _wait_blocking(pid)
        killed.update(left)
        if time.monotonic() > deadline:
            break
    return len(killed)


def _is_abandoned(pid: int, identity: Identity, live_tags: set[int]) -> bool:
    """Whether a running process bears a mark of this state folder and its worker is dead."""
    try:
        if pid == identity.pid or _stat(pid)[0] in {"Z", "X"}:
            return False
        tag = tag_of(pid)
        if identity.owns(tag) and tag not in live_tags:
            return True
        prefix = f"{MARKER_VARIABLE}={identity.state}:".encode()
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(prefix):
                return not is_alive(os.fsdecode(variable).split(":")[1])
    except OSError:
        return False
    return False


def _wait_blocking(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], 1.0)
    finally:
        os.close(fd)
    _collect(pid)
