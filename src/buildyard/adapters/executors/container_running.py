"""One command in a container: its script, its clocks, and its whole tree's end."""

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildyard.adapters.containers.engine import ContainerEngine, path_of
from buildyard.adapters.executors.container_keeper import Keeper, clear
from buildyard.adapters.executors.container_pty import PtyReader, open_pty
from buildyard.adapters.executors.running import Ended, Stop
from buildyard.domain.errors import Unavailable
from buildyard.domain.states import Stream
from buildyard.ports import Command, OutputSink

FOREIGN = ("container", "HOSTNAME", "TERM")
"""Variables that engines set and nobody asked for."""

_PATIENCE_S = 20.0
_AGAIN_S = 0.2
_KILLED = 137
_SCRIPT, _EMPTY = "command", "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where commands run: the container, the workspace's path in it, variables that are always set, and the names of
    those that the image has itself. `control` is a folder of the worker that the container sees as `control_inside`.
    """

    container: str
    inside: str
    control: Path
    control_inside: str
    environment: dict[str, str]
    marker: dict[str, str]
    image_variables: frozenset[str]


class ContainerRunning:
    """A command from before its start until nothing of it runs. `stop` works at any time, also before the start."""

    def __init__(self, engine: ContainerEngine, keeper: Keeper, place: Place, output: OutputSink) -> None:
        self._engine = engine
        self._keeper = keeper
        self._place = place
        self._output = output
        self._heard_at = 0.0
        self._stop: Stop | None = None
        self._wished = asyncio.Event()
        self.over = asyncio.Event()

    def stop(self, why: Stop) -> None:
        """Have the command killed. The first reason counts."""
        self._stop = self._stop or why
        self._wished.set()

    async def run(self, command: Command) -> Ended:
        """Start the program, pass on its output, and return when nothing that it started runs any more."""
        if self._wished.is_set():
            return self._stopped()
        work, kill = self._in_script, self._keeper.kill
        terminal = await self._open_terminal() if command.pty else None
        if terminal is not None:
            work = partial(self._in_terminal, terminal)
        elif command.pty:
            work, kill = self._in_engines_terminal, self._clear
        working = asyncio.ensure_future(work(command))
        clocks = asyncio.ensure_future(self._watch_clocks(command))
        wished = asyncio.ensure_future(self._wished.wait())
        try:
            await asyncio.wait({working, wished}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            clocks.cancel()
            wished.cancel()
            await asyncio.shield(_end(working, kill))
        return self._stopped() if self._wished.is_set() else Ended(status=working.result(), stop=None)

    def _stopped(self) -> Ended:
        return Ended(status=_KILLED, stop=self._stop)

    def _hear(self, stream: Stream, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._output(stream, data)

    async def _in_script(self, command: Command) -> int:
        """Let the keeper run the command."""
        return await self._keeper.run(self._write(_SCRIPT, start_script(command, self._place)), self._hear)

    def _write(self, name: str, text: str) -> str:
        return lay_script(self._place, name, text)

    async def _clear(self) -> None:
        await clear(self._keeper, self._write(_EMPTY, ""))

    async def _open_terminal(self) -> tuple[int, str] | None:
        """A terminal of the container that the worker opens itself; None where it may not."""
        place = self._place
        found = await self._engine.call("GET", path_of("containers", place.container, "json"))
        try:
            return open_pty(int(found["State"]["Pid"]), place.control, place.control_inside)
        except OSError:
            return None

    async def _in_terminal(self, terminal: tuple[int, str], command: Command) -> int:
        """Let the keeper run the command in the terminal; all that used it is dead when it has ended."""
        master, path = terminal
        reader = PtyReader(master, self._hear)
        try:
            text = start_script(command, self._place, terminal=path)
            status = await self._keeper.run(self._write(_SCRIPT, text), self._hear)
            await reader.drained()
            return status
        finally:
            reader.close()

    async def _in_engines_terminal(self, command: Command) -> int:
        """Let the engine run the command in a terminal of its own; then end what it left."""
        script = self._write(_SCRIPT, start_script(command, self._place))
        made = await self._engine.call(
            "POST",
            path_of("containers", self._place.container, "exec"),
            {"AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": ["/bin/sh", script]},
        )
        begin = path_of("exec", made["Id"], "start")
        connection = await self._engine.upgrade(begin, {"Detach": False, "Tty": True}, terminal=True)
        try:
            async for stream, data in connection.output():
                self._hear(stream, data)
        finally:
            connection.close()
        status = await exit_status_of(self._engine, made["Id"])
        await self._clear()
        return status

    async def _watch_clocks(self, command: Command) -> None:
        """Stop the command when its wall time is over or it has been silent for too long."""
        loop = asyncio.get_running_loop()
        started_at = self._heard_at = loop.time()
        while True:
            wall_left = started_at + (command.timeout_s or float("inf")) - loop.time()
            silent_left = self._heard_at + (command.silent_s or float("inf")) - loop.time()
            if min(wall_left, silent_left) <= 0:
                self.stop(Stop.WALL if wall_left <= 0 else Stop.SILENT)
                return
            await asyncio.sleep(min(wall_left, silent_left, 3600))


async def exit_status_of(engine: ContainerEngine, execution: str) -> int:
    """The exit status of an `exec`; the engine may learn of the end a moment later than of the end of output."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    pause = 0.005
    while True:
        found = await engine.call("GET", path_of("exec", execution, "json"))
        if not found["Running"] and found.get("ExitCode") is not None:
            return int(found["ExitCode"]) & 0xFF
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable("the container engine does not say how the command ended")
        await asyncio.sleep(pause)
        pause = min(0.2, pause * 2)


async def _end(working: "asyncio.Future[int]", kill: Callable[[], Awaitable[None]]) -> None:
    """Kill until the command is over: a wish that comes before its start is for nothing."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    try:
        while not working.done():
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable("the container's processes do not die")
            await kill()
            await asyncio.wait({working}, timeout=_AGAIN_S)
    finally:
        working.cancel()
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()


def lay_script(place: Place, name: str, text: str) -> str:
    """Lay a script where the container sees it; its path there. It may hold secrets, so it is for its user only."""
    file = place.control / name
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(text.encode(errors="surrogateescape"))
    return f"{place.control_inside}/{name}"


def start_script(command: Command, place: Place, *, terminal: str = "") -> str:
    """What becomes the command: set its variables, forget what the engine set, enter its folder.

    `terminal` is what it writes to; without, one with `pty` is in a terminal of the engine's already.
    """
    environment = {**place.environment, **command.environment, **place.marker}
    odd = [f"{name}={value}" for name, value in environment.items() if not _is_name(name)]
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items() if _is_name(name)]
    lines += [f"unset {name}" for name in FOREIGN if name not in environment.keys() | place.image_variables]
    if terminal:
        lines.append(f"exec >{terminal} 2>&1")
    elif command.pty:
        lines += ["stty -opost rows 40 cols 120 <&1 2>/dev/null", "exec </dev/null"]
    lines.append(f"cd -- {shlex.quote(f'{place.inside}/{command.cwd}')} || exit 126")
    lines.append("unset OLDPWD")
    lines.append(" ".join(["exec", *(["env", *map(shlex.quote, odd)] if odd else []), *map(shlex.quote, command.argv)]))
    return "\n".join(lines) + "\n"


def _is_name(name: str) -> bool:
    """Whether a shell can have a variable of this name."""
    return name.isascii() and name.isidentifier()
