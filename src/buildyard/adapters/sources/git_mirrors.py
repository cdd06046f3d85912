"""The cache of bare repositories, one for each address, shared by concurrent jobs and by the workers of a machine.

Beside each folder `NAME` lies `NAME.lock`, held shared while commits are copied out and exclusively while the
folder changes; who waits for it holds `NAME.turn`, so that readers cannot starve a writer. The lock is inherited
by the git commands that work under it, so it lasts as long as they do, even if the worker is killed. Whatever a
killed command left behind is cleared under the next exclusive lock; a folder that git cannot use is made anew.
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildyard.adapters.sources.git_command import Git, Outcome
from buildyard.adapters.sources.git_remote import Route
from buildyard.domain.errors import EngineError, Invalid, LimitReached, NotFound, Unavailable
from buildyard.domain.sources import is_exact

_KEPT_SHALLOW = 64
_SLOWEST_POLL_S = 0.1

_REMOTE_SIDE = re.compile(
    r"couldn't find remote ref|not our ref|unadvertised object|unable to access|could not resolve|unable to look up"
    r"|unable to connect|connection|remote error|could not read from remote|could not read (username|password)"
    r"|authentication failed|permission denied|does not appear to be a git repository|repository .* not found"
    r"|remote end hung up|early eof|rpc failed|timed out|transport .* not allowed|no space left",
    re.IGNORECASE,
)
_NO_COMMIT = re.compile(r"couldn't find remote ref|not our ref|unadvertised object|support shallow", re.I)
_ABSENT = re.compile(r"couldn't find remote ref|not our ref|not found|does not appear to be|error: 404", re.I)
_LOCKED_OUT = re.compile(
    r"could not read (username|password)|authentication failed|permission denied|error: 40[13]", re.I
)
_TELLING = re.compile(r"^(fatal|error|remote|ssh):|permission denied \(|host key verification failed", re.I)
_REDIRECTED = re.compile(r"returned error: 30[12378]|url base from redirection", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be found: a commit (whole or abbreviated), and the full name of a ref that may lead to it."""

    commit: str
    ref: str = ""
    shallow: bool = True

    @property
    def object_format(self) -> str:
        """The hash of the repository's object names."""
        return "sha256" if len(self.commit) == 64 else "sha1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A mirror that has `commit`, kept from changing until `release`."""

    folder: Path
    commit: str
    lock: int

    def release(self) -> None:
        """Let others change the mirror again."""
        os.close(self.lock)


def failure(outcome: Outcome, what: str) -> EngineError:
    """The error that a failed git command means, in words that begin with `what`."""
    telling = [line for line in outcome.complaints if _TELLING.search(line)]
    text = "; ".join(dict.fromkeys(telling or outcome.complaints[-3:]))[:600] or f"git ended with {outcome.status}"
    if "No space left" in text:
        return LimitReached(f"{what}: the disk is full")
    if _REDIRECTED.search(text):
        return Invalid(f"{what}: the server redirects to another address; give that one ({text})")
    if _LOCKED_OUT.search(text) or _ABSENT.search(text):
        return NotFound(f"{what}: it does not exist or may not be read ({text})")
    return Unavailable(f"{what}: {text}")


class Mirror:
    """The cached copy of one repository, whole or (shallow) only of single commits without their history."""

    def __init__(self, mirrors: Path, git: Git, route: Route, *, shallow: bool) -> None:
        reader = f"#{route.reader}" if route.reader else ""
        name = hashlib.sha256(f"{route.address.full}{reader}".encode()).hexdigest()
        self.folder = mirrors / (f"{name}.shallow" if shallow else name)
        self._lock = mirrors / f"{self.folder.name}.lock"
        self._git = git
        self._route = route
        self._shallow = shallow

    async def hold(self, wanted: Wanted) -> Held | None:
        """Have the wanted commit here, fetching if needed. None: a shallow fetch cannot get it. Raises as `failure`."""
        lock = self._open(self._lock)
        try:
            await self._acquire(lock, fcntl.LOCK_SH)
            commit = await self._find(wanted, lock)
            if not commit:
                fcntl.flock(lock, fcntl.LOCK_UN)
                await self._acquire(lock, fcntl.LOCK_EX)
                commit = await self._find(wanted, lock) or await self._update(wanted, lock)
                await self._poll(lock, fcntl.LOCK_SH)
        except BaseException:
            os.close(lock)
            raise
        if commit:
            return Held(folder=self.folder, commit=commit, lock=lock)
        os.close(lock)
        return None

    async def discard(self) -> None:
        """Remove a damaged copy; the next `hold` makes a new one."""
        lock = self._open(self._lock)
        try:
            await self._acquire(lock, fcntl.LOCK_EX)
            await asyncio.to_thread(_remove, self.folder)
        finally:
            os.close(lock)

    async def _acquire(self, lock: int, kind: int) -> None:
        turn = self._open(self._lock.with_suffix(".turn"))
        try:
            await self._poll(turn, fcntl.LOCK_EX)
            await self._poll(lock, kind)
        finally:
            os.close(turn)

    async def _poll(self, lock: int, kind: int) -> None:
        """Wait for a lock without occupying a thread, so that waiting can be cancelled."""
        pause = 0.005
        told = False
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                return
            if pause >= _SLOWEST_POLL_S and not told:
                self._git.say(f"waiting for another fetch of {self._route.address.bare}")
                told = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, _SLOWEST_POLL_S)

    def _open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def _find(self, wanted: Wanted, lock: int) -> str:
        """The whole name of the wanted commit if it is here (and, in a whole copy, the ref is known); else empty."""
        if not (self.folder / "HEAD").is_file():
            return ""
        if wanted.ref and not self._shallow:
            known = await self._local(lock, "rev-parse", "--verify", "--quiet", _kept_as(wanted.ref))
            if not known.ok:
                return ""
        return await self._resolve(wanted.commit, lock)

    async def _resolve(self, commit: str, lock: int) -> str:
        found = await self._local(lock, "rev-parse", "--verify", f"{commit}^{{commit}}")
        if not found.ok and any("ambiguous" in line for line in found.complaints):
            raise Invalid(f"the commit {commit} is ambiguous in {self._route.address.bare}; give more of it")
        return found.text if found.ok else ""

    async def _update(self, wanted: Wanted, lock: int) -> str:
        """Fetch under the exclusive lock, once more into a new folder if the old one seems to be damaged."""
        fresh = not await asyncio.to_thread(_clear_leftovers, self.folder)
        if fresh:
            await self._create(wanted, lock)
        self._git.say(f"fetching {self._route.address.bare}")
        commit, outcome = await self._fetch(wanted, lock)
        if commit:
            return commit
        told = "\n".join(outcome.complaints)
        if not (fresh or outcome.ok or _REMOTE_SIDE.search(told)):
            self._git.say(f"the cached copy of {self._route.address.bare} is damaged and is made anew")
            await asyncio.to_thread(_remove, self.folder)
            return await self._update(wanted, lock)
        without_it = outcome.ok or _NO_COMMIT.search(told)
        if without_it and self._shallow:
            return ""
        what = f"could not fetch {self._route.address.bare}"
        raise NotFound(f"{what}: it has no commit {wanted.commit}") if without_it else failure(outcome, what)

    async def _create(self, wanted: Wanted, lock: int) -> None:
        await asyncio.to_thread(_remove, self.folder)
        made = await self._git.run(
            "init", "--quiet", "--bare", "--template=", f"--object-format={wanted.object_format}", str(self.folder),
            keep=(lock,),
        )  # fmt: skip
        if not made.ok:
            raise failure(made, "could not make the cached copy of a repository")

    async def _fetch(self, wanted: Wanted, lock: int) -> tuple[str, Outcome]:
        """Try ever wider fetches until the commit is here; else the outcome of the last one that could get it."""
        outcome = Outcome(1, b"", ())
        for arguments in self._attempts(wanted):
            outcome = await self._remote(lock, "fetch", "--quiet", "--progress", "--no-write-fetch-head", *arguments)
            commit = await self._resolve(wanted.commit, lock)
            if commit:
                if self._shallow:
                    await self._forget_old(lock)
                return commit, outcome
            if not outcome.ok and not _NO_COMMIT.search("\n".join(outcome.complaints)):
                break
        return "", outcome

    def _attempts(self, wanted: Wanted) -> list[tuple[str, ...]]:
        """What to fetch, in order, as options and refspecs."""
        url = self._route.url
        single = (url, f"+{wanted.commit}:refs/buildyard/{wanted.commit}")
        if self._shallow:
            attempts: list[tuple[str, ...]] = [("--depth=1", "--no-tags", *single)]
            if wanted.ref:
                attempts.append(("--depth=1", "--no-tags", url, f"+{wanted.ref}:refs/buildyard/tip"))
            return attempts
        attempts = [("--prune", "--no-tags", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")]
        if is_exact(wanted.commit):
            attempts.append(("--no-tags", *single))
        return [*attempts, ("--no-tags", url, "+refs/*:refs/remotes/all/*")]

    async def _forget_old(self, lock: int) -> None:
        """Let go of all but the newest single commits; git's own garbage collection then frees them."""
        listed = await self._local(
            lock, "for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/buildyard"
        )
        for name in listed.text.splitlines()[_KEPT_SHALLOW:]:
            await self._local(lock, "update-ref", "-d", name)

    async def _local(self, lock: int, *arguments: str) -> Outcome:
        return await self._git.quiet().run(*arguments, repository=self.folder, keep=(lock,))

    async def _remote(self, lock: int, command: str, *arguments: str) -> Outcome:
        return await self._git.run(
            command, *self._route.options, *arguments,
            repository=self.folder, protocols=self._route.protocol, keep=(lock,),
        )  # fmt: skip


def _kept_as(ref: str) -> str:
    """Where a whole copy keeps a ref of the remote."""
    return ref if ref.startswith(("refs/heads/", "refs/tags/")) else f"refs/remotes/all/{ref.removeprefix('refs/')}"


def _clear_leftovers(folder: Path) -> bool:
    """Remove locks and half-written packs of killed commands; whether there is a repository at all."""
    if not (folder / "HEAD").is_file():
        return False
    stale = [*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock"), *(folder / "objects").glob("pack/tmp_*")]
    stale += [folder / "gc.pid"]
    for path in stale:
        path.unlink(missing_ok=True)
    return True


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
