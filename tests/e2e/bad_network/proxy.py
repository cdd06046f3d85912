"""A TCP proxy that treats HTTP requests badly: drops, delays, repeats and cuts them, as chance chooses."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Cut(Exception):
    """The connection ends here."""


@dataclass
class Proxy:
    """Passes requests on to a port of this machine. `troubles` are the share of requests that meet each of them."""

    port: int
    chance: random.Random
    troubles: dict[str, float]
    met: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in (serving := list(self._serving)):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._pass_on(await _message(reader), reader, writer)
        except (Cut, OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    async def _pass_on(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        trouble = self._choose()
        self.met[trouble] += 1
        if trouble == "delay":
            await asyncio.sleep(self.chance.uniform(0, 0.5))
        if trouble == "lose request":
            raise Cut
        if trouble == "cut request":
            await self._send_part(request)
            raise Cut
        if trouble == "repeat":
            await self._ask(request, reader)
        answer = await self._ask(request, reader)
        if trouble == "lose answer":
            raise Cut
        if trouble == "cut answer":
            writer.write(answer[: self.chance.randrange(len(answer))])
            await writer.drain()
            raise Cut
        writer.write(answer)
        await writer.drain()

    def _choose(self) -> str:
        point = self.chance.random()
        for trouble, share in self.troubles.items():
            if (point := point - share) < 0:
                return trouble
        return "none"

    async def _send_part(self, request: bytes) -> None:
        async with self._connected() as (_, writer):
            writer.write(request[: self.chance.randrange(len(request))])
            await writer.drain()

    async def _ask(self, request: bytes, client: asyncio.StreamReader) -> bytes:
        """The server's answer, unless the client hangs up before."""
        async with self._connected() as (reader, writer):
            writer.write(request)
            await writer.drain()
            answering = asyncio.ensure_future(_message(reader, bodiless=request.startswith(b"HEAD ")))
            hanging_up = asyncio.ensure_future(_hung_up(client))
            try:
                await asyncio.wait({answering, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    raise Cut
                return answering.result()
            finally:
                for task in (answering, hanging_up):
                    task.cancel()
                await asyncio.gather(answering, hanging_up, return_exceptions=True)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Streams]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def _hung_up(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed; the client sends nothing before it has its answer."""
    while not reader.at_eof():  # noqa: ASYNC110 - reading would take bytes away
        await asyncio.sleep(0.02)


async def _message(reader: asyncio.StreamReader, *, bodiless: bool = False) -> bytes:
    """One whole request or answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = _STATUS.match(head)
    if bodiless or (status and status[1] in (b"204", b"304")):
        return head
    if _CHUNKED.search(head):
        return head + await _chunks(reader)
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line, 16)
        data += line + await reader.readexactly(size + 2)
        if size == 0:
            return data


@asynccontextmanager
async def bad_proxy(port: int, seed: int, troubles: dict[str, float]) -> AsyncIterator[Proxy]:
    """A proxy to a port, on a port of its own."""
    proxy = Proxy(port, random.Random(seed), troubles)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.close()
        with suppress(OSError):
            await listener.wait_closed()
