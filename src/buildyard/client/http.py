"""An HTTP/1.1 client small enough for an idle worker: TCP, TLS and unix sockets, kept connections, streamed bodies.

Parsing is httptools', which the server uses too. A general client alone costs a quarter of the worker's memory bar.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

import httptools

from buildyard.domain.errors import Invalid, Unavailable

Stream = Callable[[], AsyncGenerator[bytes]]
"""Begins a body."""

CONNECT_S = 10.0
IDLE_S = 60.0
"""How long a streamed body may stand still, in either direction."""

PIECE = 256 * 1024
MOST_HEAD = 256 * 1024
"""Longest head of an answer."""

_KEEP = 4
_KEEP_S = 4.0
"""Shorter than the time after which common servers close a connection on their side."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens: a host and port or a unix socket, and what goes before each path."""

    host: str
    port: int
    tls: bool
    socket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `http://host[:port][/prefix]`, `https://…` or `unix:///path/to/socket`; Invalid for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise Invalid(f"{url!r} is not a server's address: {exc}") from exc
        if parts.scheme == "unix" and parts.path and not parts.netloc:
            return cls("localhost", 80, False, unquote(parts.path), "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is not a server's address (http://, https:// or unix:///path)")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls, "", parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class _Head:
    """What the parser tells about an answer; the body's pieces are taken out by the reader."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.begun = False
        self.complete = False
        self.keeps = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.begun = True
        self.keeps = self.parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0

    def is_usable(self) -> bool:
        return (
            time.monotonic() - self.idle_since < _KEEP_S
            and not self.reader.at_eof()
            and self.reader.exception() is None
            and not self.writer.is_closing()
        )


class Reply:
    """An answer whose head has arrived. `read` or `pieces` may be used once."""

    def __init__(self, connection: _Connection, *, without_body: bool, streams: bool) -> None:
        self._connection = connection
        self._streams = streams
        self._head = _Head()
        self._head_bytes = 0
        self._without_body = without_body

    @property
    def status(self) -> int:
        """The status code."""
        return self._head.parser.get_status_code()

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case; of a repeated one the last."""
        return self._head.headers

    @property
    def is_over(self) -> bool:
        """Whether the whole answer was read."""
        return self._head.complete or (self._without_body and self._head.begun)

    @property
    def is_begun(self) -> bool:
        """Whether the head was read."""
        return self._head.begun

    @property
    def keeps_connection(self) -> bool:
        """Whether the connection may serve another request now."""
        return self.is_over and self._head.keeps

    async def begin(self) -> None:
        """Read up to the end of the head."""
        while not self._head.begun:
            await self._more()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes."""
        while True:
            while self._head.pieces:
                yield self._head.pieces.pop(0)
            if self.is_over:
                return
            await self._more()

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.pieces()])

    async def _more(self) -> None:
        async with asyncio.timeout(IDLE_S if self._streams else None):
            data = await self._connection.reader.read(PIECE)
        if not data:
            self._end()
            return
        self._head_bytes += 0 if self._head.begun else len(data)
        if self._head_bytes > MOST_HEAD + PIECE:
            raise Unavailable("the server's answer begins with too many headers")
        try:
            self._head.parser.feed_data(data)
        except httptools.HttpParserError as exc:
            raise Unavailable(f"the server's answer is not HTTP: {exc}") from exc

    def _end(self) -> None:
        """The other side closed; a body without a length ends so."""
        if not self._head.begun or {"content-length", "transfer-encoding"} & self._head.headers.keys():
            raise ConnectionResetError("the server closed the connection")
        self._head.complete = True


class HttpClient:
    """Sends requests to one server, with the same headers in each. Raises Unavailable if no answer comes.

    With `addresses` it connects to one of these only, whatever the host's name leads to.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, *, addresses: Sequence[str] = ()) -> None:
        self._target = Target.parse(url)
        self._addresses = tuple(addresses)
        fixed = {"Host": self._target.authority, **(headers or {})}
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._ssl: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []

    async def call(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, timeout: float
    ) -> tuple[int, bytes]:
        """One request with a body in memory: the status and the answer's body, within `timeout` seconds."""
        try:
            async with (
                asyncio.timeout(timeout),
                self.open(method, path, body, headers=headers, streams=False) as reply,
            ):
                return reply.status, await reply.read()
        except TimeoutError as exc:
            raise Unavailable(f"the server did not answer within {timeout:g} s") from exc

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: bytes | Stream = b"",
        *,
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
        streams: bool = True,
    ) -> AsyncGenerator[Reply]:
        """One request; the answer is to be read inside. `size` is the length of a streamed body, if it is known.

        With `streams` neither direction may stand still for IDLE_S; without, the caller sets a time limit.
        """
        head = self._request_head(method, path, body, size, headers or {})
        start = _Start(head=head, body=body, chunked=size is None, without_body=method == "HEAD", streams=streams)
        connection, reply = await self._exchange(start)
        try:
            yield reply
        except (OSError, EOFError) as exc:
            raise Unavailable(f"the connection to the server broke: {exc}") from exc
        finally:
            self._release(connection, reply)

    async def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().writer.close()

    def _request_head(
        self, method: str, path: str, body: bytes | Stream, size: int | None, headers: Mapping[str, str]
    ) -> bytes:
        lines = [f"{method} {self._target.prefix}{path} HTTP/1.1\r\n", self._fixed]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else "")
        else:
            lines.append("Transfer-Encoding: chunked\r\n" if size is None else f"Content-Length: {size}\r\n")
        return "".join([*lines, "\r\n"]).encode("latin-1")

    async def _exchange(self, start: "_Start") -> tuple[_Connection, Reply]:
        connection = await self._connect()
        try:
            reply = Reply(connection, without_body=start.without_body, streams=start.streams)
            await _begin(connection.writer, start, reply)
        except (OSError, EOFError) as exc:
            connection.writer.close()
            raise Unavailable(f"the connection to the server broke: {exc or 'no answer'}") from exc
        except BaseException:
            connection.writer.close()
            raise
        return connection, reply

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.writer.close()
        try:
            async with asyncio.timeout(CONNECT_S):
                return _Connection(*await self._dial())
        except (OSError, TimeoutError) as exc:
            raise Unavailable(f"the server cannot be reached: {exc or 'no answer'}") from exc

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self._target
        if target.socket:
            return await asyncio.open_unix_connection(target.socket, limit=PIECE)
        if target.tls and self._ssl is None:
            self._ssl = ssl.create_default_context()
        name = target.host if target.tls else None
        for i, host in enumerate(self._addresses or (target.host,), 1):
            try:
                return await asyncio.open_connection(
                    host, target.port, ssl=self._ssl, server_hostname=name, limit=PIECE
                )
            except OSError:
                if i >= len(self._addresses):
                    raise
        raise AssertionError("there is always an address")

    def _release(self, connection: _Connection, reply: Reply) -> None:
        if not reply.keeps_connection or len(self._idle) >= _KEEP:
            connection.writer.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """A request as it goes over the wire, and how its answer is read."""

    head: bytes
    body: bytes | Stream
    chunked: bool
    without_body: bool
    streams: bool


async def _begin(writer: asyncio.StreamWriter, start: _Start, reply: Reply) -> None:
    """Send the request and read the answer's head; the server may answer before it has read all of a streamed body."""
    if isinstance(start.body, bytes):
        writer.write(start.head + start.body)
        await reply.begin()
        return
    sending = asyncio.ensure_future(_send(writer, start.head, start.body, chunked=start.chunked))
    answering = asyncio.ensure_future(reply.begin())
    try:
        await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            with suppress(ConnectionError):
                await sending
        await answering
        if not sending.done():
            writer.close()
    finally:
        sending.cancel()
        answering.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)


async def _send(writer: asyncio.StreamWriter, head: bytes, body: Stream, *, chunked: bool) -> None:
    writer.write(head)
    async with aclosing(body()) as pieces:
        async for piece in pieces:
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                async with asyncio.timeout(IDLE_S):
                    await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
