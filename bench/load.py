"""A thin HTTP client for load: kept connections, answers parsed by httptools, one round trip at a time on each."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httptools


class Connection(asyncio.Protocol):
    """One connection to a server; `call` may not be called again before it has answered."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """See httptools."""
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    def call(
        self, method: str, path: str, body: bytes = b"", *, extra: str = ""
    ) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a request, with header lines besides the usual; the future gives status and body."""
        if self._transport is None:
            raise ConnectionResetError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        if method != "GET":
            extra += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._transport.write(f"{method} {path} HTTP/1.1\r\n{self._head}{extra}\r\n".encode() + body)
        return self._answer

    async def json(self, method: str, path: str, message: object = None) -> Any:
        """A call whose body and answer are JSON; raises for a status of 400 or more."""
        body = b"" if message is None else json.dumps(message).encode()
        status, answer = await self.call(method, path, body)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer[:500]!r}")
        return json.loads(answer) if answer else None

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


def head_of(url: str, token: str) -> str:
    """The header lines of every request."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"Host: {urlsplit(url).netloc}\r\n{authorization}"


@asynccontextmanager
async def connections(url: str, count: int, token: str = "") -> AsyncIterator[Sequence[Connection]]:
    """So many connections to one server."""
    host, _, port = urlsplit(url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    head = head_of(url, token)
    opened = [await loop.create_connection(lambda: Connection(head), host, int(port)) for _ in range(count)]
    try:
        yield [connection for _, connection in opened]
    finally:
        for _, connection in opened:
            connection.close()


async def load(url: str, path: str, *, at_once: int, seconds: float, token: str = "") -> tuple[float, list[float]]:
    """GET a path over and over on `at_once` connections: the requests a second, and each one's time."""
    taken: list[float] = []

    async def repeat(until: float) -> None:
        while time.perf_counter() < until:
            with suppress(ConnectionError):  # some servers close a connection after a number of requests
                async with connections(url, 1, token) as (connection,):
                    await _repeat(connection, path, until, taken)

    await asyncio.gather(*(repeat(time.perf_counter() + min(0.3, seconds / 4)) for _ in range(at_once)))
    taken.clear()
    begun = time.perf_counter()
    await asyncio.gather(*(repeat(begun + seconds) for _ in range(at_once)))
    return len(taken) / (time.perf_counter() - begun), taken


async def _repeat(connection: Connection, path: str, until: float, taken: list[float]) -> None:
    while (started := time.perf_counter()) < until:
        status, _ = await connection.call("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status}")
        taken.append(time.perf_counter() - started)
