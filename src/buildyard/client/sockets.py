"""WebSockets from the client's side, for terminals. The library is imported with the first one, for its memory."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from buildyard.client.http import CONNECT_S, Target
from buildyard.domain.errors import Unavailable
from buildyard.protocol import TerminalWord

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PING_S = 20.0
_LARGEST = 1024 * 1024


class HandshakeRefused(Exception):
    """The server answered with something else than a socket."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status
        self.body = body


class TerminalSocket:
    """One end of a terminal's connection: bytes are keys or output, words are messages of the protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Send keys or output; waits while the other side does not take it. Raises Unavailable if it is gone."""
        await self._send(data)

    async def say(self, word: TerminalWord) -> None:
        """Send a word."""
        await self._send(msgspec.json.encode(word).decode())

    async def receive(self) -> bytes | TerminalWord | None:
        """What comes next; None once the connection is closed. Words that are not understood are passed over."""
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                data = await self._connection.recv()
            except ConnectionClosed:
                return None
            if isinstance(data, bytes):
                return data
            try:
                word: TerminalWord = msgspec.json.decode(data, type=TerminalWord)
            except (msgspec.DecodeError, msgspec.ValidationError):
                continue
            return word

    @property
    def parting(self) -> str:
        """Why the other side closed the connection, in its words."""
        return self._connection.close_reason or ""

    async def closed(self) -> None:
        """Wait until the connection is closed."""
        await self._connection.wait_closed()

    async def close(self) -> None:
        """Close it."""
        await self._connection.close()

    async def _send(self, data: bytes | str) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(data)
        except ConnectionClosed as exc:
            raise Unavailable("the connection is closed") from exc


async def open_socket(
    url: str, path: str, headers: Mapping[str, str], query: Mapping[str, str | int] | None = None, *, patience_s: float
) -> TerminalSocket:
    """Connect within `patience_s`. Raises HandshakeRefused with the server's answer, Unavailable if none comes."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    target = Target.parse(url)
    given = f"?{urlencode(query)}" if query else ""
    uri = f"{'wss' if target.tls else 'ws'}://{target.authority}{target.prefix}{path}{given}"
    place: dict[str, Any] = {"path": target.socket, "unix": True} if target.socket else {}
    if target.tls:
        place["ssl"] = ssl.create_default_context()
    connecting = connect(
        uri,
        additional_headers=dict(headers),
        user_agent_header=None,
        compression=None,
        proxy=None,
        open_timeout=max(patience_s, CONNECT_S),
        ping_interval=PING_S,
        ping_timeout=2 * PING_S,
        close_timeout=2.0,
        max_size=_LARGEST,
        **place,
    )
    try:
        return TerminalSocket(await connecting)
    except InvalidStatus as exc:
        raise HandshakeRefused(exc.response.status_code, bytes(exc.response.body or b"")) from exc
    except (OSError, TimeoutError, EOFError, WebSocketException) as exc:
        raise Unavailable(f"the server cannot be reached: {exc or 'no answer'}") from exc
