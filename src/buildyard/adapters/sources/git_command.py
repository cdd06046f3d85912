"""Runs git as a program of its own process group, with settings that leave it no other way than the one given."""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildyard.domain.errors import TooLarge, Unavailable
from buildyard.domain.sources import masked

MAX_OUTPUT = 64 * 1024 * 1024
"""The most bytes that one command may answer."""

_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.autocrlf": "false",
    "credential.helper": "",
    "safe.directory": "*",
    "protocol.version": "2",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "100",
    "http.lowSpeedTime": "120",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "transfer.bundleURI": "false",
    "gc.autoDetach": "false",
    "maintenance.autoDetach": "false",
    "gc.pruneExpire": "now",
    "init.defaultBranch": "main",
}
"""What every command is told. Fetched objects stay packs: a pack is there whole or not at all. Collecting garbage
runs under the mirror's lock, so nothing needs to be kept for others' sake."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PROGRESS = re.compile(r"\d+% \(\d+/\d+\)")
_PROGRESS_EVERY_S = 1.0
_KEPT_LINES = 30
_MAX_LINE = 400


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, what it printed, and the last lines of its complaints, masked."""

    status: int
    output: bytes
    complaints: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0

    @property
    def text(self) -> str:
        """The output as text without the last newline."""
        return self.output.decode("utf-8", "replace").rstrip("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """The way git is called for one source: whose environment, who hears of progress, what must never be said."""

    program: str
    home: Path
    environment: Mapping[str, str]
    say: Callable[[str], None]
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    async def run(
        self,
        *arguments: str,
        repository: Path | None = None,
        work_tree: Path | None = None,
        protocols: str = "",
        keep: tuple[int, ...] = (),
    ) -> Outcome:
        """Run one command to its end. The descriptors `keep` stay open in it (a lock then outlives this process).

        `repository` is the folder that git would otherwise look for; `protocols` what it may speak (`https:ssh`).
        Cancelling kills the command's whole process group and waits for its end.
        """
        environment = self._environment(repository, work_tree, protocols)
        try:
            process = await asyncio.create_subprocess_exec(
                self.program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=work_tree or self.home,
                env=environment,
                start_new_session=True,
                pass_fds=keep,
            )
        except OSError as exc:
            raise Unavailable(f"git could not be started: {exc.strerror}") from exc
        try:
            return await self._follow(process)
        finally:
            await _end(process)

    async def _follow(self, process: asyncio.subprocess.Process) -> Outcome:
        if process.stdout is None or process.stderr is None:
            raise Unavailable("git could not be started: it has no pipes")
        complaints = _Complaints(self)
        listening = asyncio.ensure_future(complaints.read(process.stderr))
        try:
            output = await _read(process.stdout)
            await listening
        finally:
            listening.cancel()
        return Outcome(await process.wait(), output, tuple(complaints.lines))

    def _environment(self, repository: Path | None, work_tree: Path | None, protocols: str) -> dict[str, str]:
        environment = {**_ENVIRONMENT, "HOME": str(self.home), **self.environment}
        environment |= {"GIT_ALLOW_PROTOCOL": protocols or "none", "GIT_CEILING_DIRECTORIES": str(self.home)}
        if repository is not None:
            environment["GIT_DIR"] = str(repository)
        if work_tree is not None:
            environment["GIT_WORK_TREE"] = str(work_tree)
        settings = {**_SETTINGS, **self.settings}
        environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return environment

    def quiet(self) -> "Git":
        """The same way, but nobody hears of it."""
        return replace(self, say=_nothing)

    def clean(self, line: str) -> str:
        """A line fit to be shown: no credentials, no control characters, bounded length."""
        for secret in self.secrets:
            line = line.replace(secret, "***")
        return _CONTROL.sub(" ", masked(line)).strip()[:_MAX_LINE]


class _Complaints:
    """Reads what git prints for people: passes lines on, progress at most once a second, and keeps the last ones."""

    def __init__(self, git: Git) -> None:
        self.lines: list[str] = []
        self._git = git
        self._next_progress = 0.0

    async def read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stream.read(65536):
            *lines, rest = re.split(rb"[\r\n]+", rest + data)
            rest = rest[-65536:]
            for line in lines:
                self._take(line)
        self._take(rest)

    def _take(self, raw: bytes) -> None:
        line = self._git.clean(raw.decode("utf-8", "replace"))
        if not line:
            return
        if _PROGRESS.search(line) and "done" not in line:
            now = asyncio.get_running_loop().time()
            if now < self._next_progress:
                return
            self._next_progress = now + _PROGRESS_EVERY_S
        else:
            self.lines = [*self.lines, line][-_KEPT_LINES:]
        self._git.say(line)


def _nothing(_line: str) -> None:
    """Hears nothing."""


async def _read(stream: asyncio.StreamReader) -> bytes:
    output = bytearray()
    while data := await stream.read(262144):
        output += data
        if len(output) > MAX_OUTPUT:
            raise TooLarge(f"git answered more than {MAX_OUTPUT} bytes")
    return bytes(output)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what still runs, with everything it started, and reap it; also when cancelled once more meanwhile."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    waiting = asyncio.ensure_future(process.wait())
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            continue
