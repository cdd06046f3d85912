"""Opens the terminals that people wish for: a shell in the workspace, joined with a socket to the server."""

import asyncio
import contextlib
from dataclasses import replace

import structlog

from buildyard.client.sockets import TerminalSocket
from buildyard.domain.errors import Conflict, EngineError, Unavailable
from buildyard.ports import Command, Terminal
from buildyard.protocol import (
    TERMINAL_SILENCE_S,
    TerminalEnded,
    TerminalOpened,
    TerminalResized,
    TerminalWish,
)
from buildyard.worker.bench import Bench
from buildyard.worker.rooms import Place

log = structlog.get_logger()

SHELL = "command -v bash >/dev/null 2>&1 && exec bash -i; exec sh -i"
"""Which shell there is, the workspace knows."""

STEP_S = 8.0
"""How long a step is waited for: less than the server waits for the terminal."""

DIAL_S = 15.0
_AGAIN_S = 0.2
_LARGEST = 1000


async def serve_terminal(bench: Bench, wish: TerminalWish, *, may_run: bool) -> None:
    """Dial in, open a shell, and stay until it ends or the other side leaves; then nothing of it runs any more.

    `may_run`: the attempt is this worker's, so if no step runs now, one may soon.
    """
    try:
        place = await bench.rooms.find(wish.attempt, STEP_S if may_run else 0.0)
        socket = await _dial(bench, wish.key)
    except EngineError as exc:
        log.warning("terminal_not_joined", attempt=wish.attempt, error=str(exc))
        return
    try:
        if place is None:
            why = "no step of the job runs at the moment: try again" if may_run else "the workspace is no longer there"
            await socket.say(TerminalOpened(refused=why))
            return
        await _serve(socket, place, wish)
    except EngineError as exc:
        log.info("terminal_left", attempt=wish.attempt, error=str(exc))
    finally:
        await socket.close()


async def _dial(bench: Bench, key: str) -> TerminalSocket:
    """Connect to who waits; behind a load balancer several tries may be needed to reach the right server."""
    deadline = asyncio.get_running_loop().time() + DIAL_S
    while True:
        try:
            return await bench.client.dial_terminal(key)
        except Conflict:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_AGAIN_S)


async def _serve(socket: TerminalSocket, place: Place, wish: TerminalWish) -> None:
    rows, columns = _within(wish.rows), _within(wish.columns)
    try:
        terminal = await place.workspace.open_terminal(_shell(place.command, wish.term), rows, columns)
    except EngineError as exc:
        await socket.say(TerminalOpened(refused=str(exc)))
        return
    log.info("terminal_opened", attempt=wish.attempt)
    try:
        await socket.say(TerminalOpened())
        if await _join(socket, terminal):
            ended = await terminal.ended()
            await socket.say(TerminalEnded(status=ended.status, detail=ended.detail))
    finally:
        await terminal.hang_up("nobody is connected any more")
        log.info("terminal_ended", attempt=wish.attempt)


def _shell(command: Command, term: str) -> Command:
    environment = {**command.environment, "TERM": term or "vt100"}
    return replace(
        command,
        argv=("/bin/sh", "-c", SHELL),
        environment=environment,
        timeout_s=None,
        silent_s=None,
        pty=False,
    )


def _within(size: int) -> int:
    return min(max(size, 1), _LARGEST)


async def _join(socket: TerminalSocket, terminal: Terminal) -> bool:
    """Carry output and keys; True once the program has ended, False if the other side left or fell silent first."""
    showing = asyncio.create_task(_show(socket, terminal))
    others = [asyncio.create_task(_hear(socket, terminal)), asyncio.create_task(socket.closed())]
    try:
        await asyncio.wait({showing, *others}, return_when=asyncio.FIRST_COMPLETED)
        return showing.done() and showing.exception() is None
    finally:
        for task in (showing, *others):
            task.cancel()
        await asyncio.gather(showing, *others, return_exceptions=True)


async def _show(socket: TerminalSocket, terminal: Terminal) -> None:
    while data := await terminal.read():
        await socket.send(data)


async def _hear(socket: TerminalSocket, terminal: Terminal) -> None:
    with contextlib.suppress(TimeoutError, Unavailable):
        while True:
            async with asyncio.timeout(TERMINAL_SILENCE_S):
                heard = await socket.receive()
            match heard:
                case None:
                    return
                case bytes():
                    await terminal.write(heard)
                case TerminalResized(rows=rows, columns=columns):
                    await terminal.resize(_within(rows), _within(columns))
                case _:
                    pass
