"""Wake-ups between servers through PostgreSQL's LISTEN and NOTIFY."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from uuid import uuid4

import asyncpg
import structlog

from buildyard.adapters.bus.memory import Listener, Listeners
from buildyard.domain.errors import Unavailable

log = structlog.get_logger()

_LARGEST_PAYLOAD = 7900
_ANSWER_S = 10
_PROBE_S = 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_MOST_WAITING = 10_000
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class PostgresBus:
    """An EventBus for several servers on one database, over one connection a server.

    Listeners of the same process are woken at once; the others through the database, if it answers: `publish` never
    waits and never fails. After the connection was lost and is back, every listener is woken once. A topic must be
    shorter than 7 900 bytes and hold no line break. Between `open` and `close`.
    """

    def __init__(self, dsn: str, *, channel: str = "buildyard") -> None:
        self._dsn = dsn
        self._channel = channel
        self._sender = uuid4().hex
        self._listeners = Listeners()
        self._waiting: dict[str, None] = {}
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and listen; raises Unavailable if the database does not answer."""
        try:
            connection = await self._connect()
        except _LOST as exc:
            raise Unavailable(f"the event bus cannot reach PostgreSQL: {exc}") from exc
        self._worker = asyncio.create_task(self._serve(connection))

    async def close(self) -> None:
        """Stop to listen, drop what was not sent, and disconnect."""
        if self._worker is None:
            return
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._worker = None

    async def publish(self, topics: Sequence[str]) -> None:
        """See EventBus."""
        self._listeners.wake(topics)
        self._waiting.update(dict.fromkeys(topics))
        while len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._news.set()

    def subscribe(self, topic: str) -> Listener:
        """See EventBus."""
        return Listener(topic, self._listeners)

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(self._dsn, timeout=_ANSWER_S, command_timeout=_ANSWER_S)
        try:
            connection.add_termination_listener(lambda _: self._news.set())
            await connection.add_listener(self._channel, self._receive)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _receive(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        sender, *topics = str(payload).split("\n")
        if sender != self._sender:
            self._listeners.wake(topics)

    async def _serve(self, connection: asyncpg.Connection) -> None:
        """Send what is published, over this connection and those that replace it."""
        while True:
            try:
                await self._send_while_connected(connection)
            except _LOST as exc:
                log.warning("event_bus_lost", error=str(exc))
            finally:
                connection.terminate()
            connection = await self._reconnect()
            self._news.set()
            self._listeners.wake_all()

    async def _send_while_connected(self, connection: asyncpg.Connection) -> None:
        while not connection.is_closed():
            try:
                async with asyncio.timeout(_PROBE_S):
                    await self._news.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")
                continue
            self._news.clear()
            topics, self._waiting = self._waiting, {}
            try:
                for payload in payloads(self._sender, topics):
                    await connection.execute("SELECT pg_notify($1, $2)", self._channel, payload)
            except _LOST:
                self._waiting = topics | self._waiting
                raise

    async def _reconnect(self) -> asyncpg.Connection:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await self._connect()
            except _LOST as exc:
                log.warning("event_bus_unreachable", error=str(exc), pause_s=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def payloads(sender: str, topics: Iterable[str]) -> Iterator[str]:
    """The sender and the topics, one a line, in as few messages as PostgreSQL's limit of 8 000 bytes allows."""
    lines, size = [sender], len(sender)
    for topic in topics:
        length = len(topic.encode()) + 1
        if size + length > _LARGEST_PAYLOAD and len(lines) > 1:
            yield "\n".join(lines)
            lines, size = [sender], len(sender)
        lines.append(topic)
        size += length
    if len(lines) > 1:
        yield "\n".join(lines)
