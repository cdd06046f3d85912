"""A client of the Docker Engine API, which Docker and Podman serve on a socket.

Paths carry no version: each engine then speaks its own newest one. What differs between engines is left to those who
read the answers; errors are told in the engine's own words.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from buildyard.adapters.containers.frames import FrameParser
from buildyard.client.http import HttpClient, Stream, Target
from buildyard.domain import states
from buildyard.domain.errors import Conflict, EngineError, Invalid, NotFound, Unavailable

CALL_S = 120.0
_CONNECT_S = 10.0
_PIECE = 256 * 1024
_NOT_MODIFIED = 304
_WORDS = 600


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself. `rootless`: it runs without root, so that root inside is its own user outside."""

    name: str
    version: str
    cgroup_driver: str
    rootless: bool


class Connection:
    """A connection to one process of a container: its output comes, its input may be given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, terminal: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = FrameParser(terminal=terminal)

    async def output(self) -> AsyncIterator[tuple[states.Stream, bytes]]:
        """Output as it comes, in order, until the process has ended. Raises Unavailable if the connection breaks."""
        try:
            while data := await self._reader.read(_PIECE):
                for stream, piece in self._parser.feed(data):
                    yield stream, piece
        except OSError as exc:
            raise Unavailable(f"the connection to the container broke: {exc}") from exc

    async def write(self, data: bytes) -> None:
        """Give the process input. Raises Unavailable if it is gone."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as exc:
            raise Unavailable(f"the connection to the container broke: {exc}") from exc

    def close(self) -> None:
        """End the connection; the process sees the end of its input."""
        self._writer.close()


class ContainerEngine:
    """One engine, at `unix:///path` or `tcp://host:port`. Raises Unavailable when it does not answer or fails,
    NotFound for what it does not know, Conflict for what is taken or in the wrong state.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        url = f"http://{address.removeprefix('tcp://')}" if address.startswith("tcp://") else address
        self._target = Target.parse(url)
        self._http = HttpClient(url)

    async def close(self) -> None:
        """Close the kept connections."""
        await self._http.close()

    async def facts(self) -> EngineFacts:
        """What engine this is."""
        info, version = await self.call("GET", "/info"), await self.call("GET", "/version")
        names = [part.get("Name", "") for part in version.get("Components") or ()]
        return EngineFacts(
            name="Podman" if any(name.startswith("Podman") for name in names) else "Docker",
            version=version.get("Version", ""),
            cgroup_driver=info.get("CgroupDriver", ""),
            rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
        )

    async def call(self, method: str, path: str, body: object = None, *, timeout: float = CALL_S) -> Any:
        """One call with a small answer: its JSON, or nothing."""
        data = b"" if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if data else {}
        status, answer = await self._http.call(method, path, data, headers=headers, timeout=timeout)
        _check(status, answer)
        try:
            return msgspec.json.decode(answer) if answer.strip() else None
        except msgspec.DecodeError:
            return None

    @asynccontextmanager
    async def open(
        self, method: str, path: str, body: bytes | Stream = b"", *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """One call whose answer is read piece by piece inside, for as long as it takes."""
        async with self._http.open(method, path, body, headers=headers, streams=False) as reply:
            if reply.status >= 300:
                _check(reply.status, await reply.read())
            yield reply.pieces()

    async def upgrade(self, path: str, body: object = None, *, terminal: bool = False) -> Connection:
        """One call whose connection then belongs to a process of a container."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await self._dial()
        except (OSError, TimeoutError) as exc:
            raise Unavailable(f"the container engine cannot be reached: {exc or 'no answer'}") from exc
        try:
            async with asyncio.timeout(CALL_S):
                await self._begin(reader, writer, path, body)
        except BaseException as exc:
            writer.close()
            if isinstance(exc, OSError | EOFError | asyncio.LimitOverrunError):
                raise Unavailable(f"the container engine broke the connection: {exc or 'no answer'}") from exc
            raise
        return Connection(reader, writer, terminal=terminal)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.socket:
            return await asyncio.open_unix_connection(self._target.socket, limit=_PIECE)
        return await asyncio.open_connection(self._target.host, self._target.port, limit=_PIECE)

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: object) -> None:
        data = b"" if body is None else msgspec.json.encode(body)
        head = (
            f"POST {self._target.prefix}{path} HTTP/1.1\r\nHost: {self._target.authority}\r\nConnection: Upgrade\r\n"
            f"Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode("latin-1") + data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status in (101, 200):
            return
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        with contextlib.suppress(asyncio.IncompleteReadError, ValueError):
            _check(status, await reader.readexactly(int(headers.get("content-length", "0"))))
        raise Unavailable(f"the container engine answered {status}")


def path_of(*segments: str, **query: str | int) -> str:
    """A path of the engine's API; references of images keep their slashes and colons."""
    path = "".join(f"/{quote(segment, safe='/:@')}" for segment in segments)
    return f"{path}?{urlencode(query)}" if query else path


def _check(status: int, answer: bytes) -> None:
    """Raise what an answer stands for that is no success."""
    if status < 300 or status == _NOT_MODIFIED:
        return
    words = _words(answer) or f"the container engine answered {status}"
    kinds: dict[int, type[EngineError]] = {400: Invalid, 404: NotFound, 409: Conflict}
    raise kinds.get(status, Unavailable)(words)


def _words(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["message"])[:_WORDS]
    except (msgspec.DecodeError, TypeError, KeyError):
        return answer.decode(errors="replace").strip()[:_WORDS]
