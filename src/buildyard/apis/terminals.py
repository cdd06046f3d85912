"""Joins people at their terminals with the workers that dial in for them: both are WebSockets of this process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from buildyard.domain.errors import EngineError, Invalid
from buildyard.protocol import TerminalOpened, TerminalWord

LEFT = "websocket.disconnect"
_POLICY, _AWAY = 1008, 1001


@dataclass(slots=True)
class Call:
    """A worker that has dialled in: its socket, its first word, and the event that lets go of it."""

    socket: WebSocket
    opened: TerminalOpened
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Switchboard:
    """Who waits, in this process, for a worker to open which terminal.

    Every `check_s` seconds it is asked whether who is attached still may be.
    """

    def __init__(self, *, check_s: float = 30.0) -> None:
        self.check_s = check_s
        self._expected: dict[str, asyncio.Future[Call]] = {}

    @contextmanager
    def expecting(self, key: str) -> Iterator[asyncio.Future[Call]]:
        """Wait for a call inside; one that comes and is not taken up is let go."""
        arriving: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        self._expected[key] = arriving
        try:
            yield arriving
        finally:
            del self._expected[key]
            if arriving.done() and not arriving.cancelled():
                arriving.result().over.set()

    def expects(self, key: str) -> bool:
        """Whether somebody waits here."""
        return key in self._expected and not self._expected[key].done()

    def put_through(self, key: str, call: Call) -> bool:
        """Give a call to who waits for it; False if nobody does any more."""
        if not self.expects(key):
            return False
        self._expected[key].set_result(call)
        return True


async def first_word(socket: WebSocket) -> TerminalOpened:
    """What a worker says first. Raises Invalid if it is anything else."""
    message = await socket.receive()
    try:
        word = msgspec.json.decode(message.get("text") or b"", type=TerminalWord)
    except (msgspec.DecodeError, msgspec.ValidationError) as exc:
        raise Invalid(f"not the first word of a terminal: {exc}") from exc
    if not isinstance(word, TerminalOpened):
        raise Invalid("a terminal begins with the word whether it was opened")
    return word


async def pass_on(
    person: WebSocket, worker: WebSocket, still_allowed: Callable[[], Awaitable[object]], *, check_s: float
) -> None:
    """Carry frames both ways, unread, until one side leaves or `still_allowed` raises; then close both.

    Neither side is read faster than the other takes it.
    """
    copies = [asyncio.create_task(_copy(person, worker)), asyncio.create_task(_copy(worker, person))]
    checks = asyncio.create_task(_check(still_allowed, check_s))
    try:
        await asyncio.wait({*copies, checks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        refused = checks.done()
        for task in (*copies, checks):
            task.cancel()
        await asyncio.gather(*copies, checks, return_exceptions=True)
        await _close(worker, _AWAY, "the person has left")
        await _close(person, _POLICY if refused else _AWAY, "no longer allowed" if refused else "the worker has left")


async def _copy(source: WebSocket, target: WebSocket) -> None:
    while (message := await source.receive())["type"] != LEFT:
        kind = "bytes" if message.get("bytes") is not None else "text"
        await target.send({"type": "websocket.send", kind: message[kind]})


async def _check(still_allowed: Callable[[], Awaitable[object]], check_s: float) -> None:
    """Return once it is no longer allowed."""
    while True:
        await asyncio.sleep(check_s)
        try:
            await still_allowed()
        except EngineError:
            return


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with suppress(RuntimeError, WebSocketDisconnect, OSError):
        await socket.close(code, reason)
