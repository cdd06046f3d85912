"""The HTTP client: connections, bodies, refusals, time limits."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buildyard.client.http import HttpClient, Target
from buildyard.client.worker import WorkerClient
from buildyard.domain.errors import (
    EngineError,
    Incompatible,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from receiving import make_certificate
from worker.model_server import ModelServer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], object]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server by hand: `serve(reader, writer, number)` for each connection; the address."""
    count = 0
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer, count)  # type: ignore[misc]  # coroutine functions all
        except (ConnectionError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """A request's head."""
    return await reader.readuntil(b"\r\n\r\n")


@pytest.fixture
async def server() -> AsyncIterator[tuple[ModelServer, WorkerClient]]:
    """A model server on a port and a client of it."""
    model = ModelServer()
    port = await model.start()
    client = WorkerClient(f"http://127.0.0.1:{port}", "secret")
    yield model, client
    await client.close()
    await model.stop()


Served = tuple[ModelServer, WorkerClient]


async def pieces(*data: bytes) -> AsyncGenerator[bytes]:
    """A streamed body."""
    for piece in data:
        yield piece


@pytest.mark.parametrize(
    ("url", "authority", "socket", "prefix"),
    [
        ("http://h", "h", "", ""),
        ("http://h:81/yard/", "h:81", "", "/yard"),
        ("https://h:443", "h", "", ""),
        ("https://[::1]:8443", "[::1]:8443", "", ""),
        ("unix:///run/a%20b", "localhost", "/run/a b", ""),
    ],
)
def test_addresses_are_understood(url: str, authority: str, socket: str, prefix: str) -> None:
    target = Target.parse(url)

    assert (target.authority, target.socket, target.prefix) == (authority, socket, prefix)


@pytest.mark.parametrize("url", ["", "h:80", "ftp://h", "http://", "http://h:x", "unix://relative", "unix:"])
def test_other_addresses_are_invalid(url: str) -> None:
    with pytest.raises(Invalid, match="not a server's address"):
        Target.parse(url)


async def test_bodies_of_any_size_travel_both_ways_by_any_means(server: Served) -> None:
    model, client = server
    data = bytes(range(256)) * 20_000
    for body, size in [
        (data, None),
        (lambda: pieces(data[:1000], b"", data[1000:]), None),
        (lambda: pieces(data), len(data)),
    ]:
        stored = await client.put_blob(body, size=size)
        assert model.blobs == {stored.sha256: data}
        assert b"".join([piece async for piece in client.read_blob(stored.sha256)]) == data
        assert await client.has_blob(stored.sha256)
        model.blobs.clear()
    assert not await client.has_blob("0" * 64)


async def test_calls_one_after_another_share_a_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

    async with serving(serve) as url:
        client = HttpClient(url)
        answers = [await client.call("GET", "/", timeout=10) for _ in range(5)]
        await client.close()

    assert answers == [(200, b"1")] * 5


async def test_a_kept_connection_that_the_server_closed_is_replaced(server: Served) -> None:
    _, other = server

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

    async with serving(serve) as url:
        client = HttpClient(url)
        for number in (b"1", b"2", b"3"):
            assert await client.call("GET", "/", timeout=10) == (200, number)
            await other.has_blob("0" * 64)
            await other.has_blob("0" * 64)
        await client.close()


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole")

    async with serving(serve) as url:
        client = HttpClient(url)
        assert await client.call("GET", "/", timeout=10) == (200, b"whole")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
async def test_answers_that_break_off_or_are_no_http_mean_unavailable(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_head(reader)
        writer.write(answer)

    async with serving(serve) as url:
        client = HttpClient(url)
        with pytest.raises(Unavailable):
            await client.call("GET", "/", timeout=10)


async def test_no_answer_in_time_means_unavailable() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await asyncio.Event().wait()

    async with serving(serve) as url:
        client = HttpClient(url)
        with pytest.raises(Unavailable, match=r"did not answer within 0\.05 s"):
            await client.call("GET", "/", timeout=0.05)


async def test_no_server_means_unavailable(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:1", f"unix://{tmp_path}/none"):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await HttpClient(url).call("GET", "/", timeout=10)


async def test_an_upload_that_is_refused_before_its_end_stops_with_the_servers_words() -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_head(reader)
        body = b"\x81\xa5error\xa8too much"
        writer.write(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await asyncio.Event().wait()

    async with serving(serve) as url:
        client = WorkerClient(url, "secret")
        with pytest.raises(TooLarge, match="too much"):
            await client.put_blob(endless)
        await client.close()

    assert sent < 100_000_000


async def test_a_body_that_fails_on_this_side_raises_its_own_error(server: Served) -> None:
    _, client = server

    async def failing() -> AsyncGenerator[bytes]:
        yield b"some"
        raise NotFound("the file is gone")

    with pytest.raises(NotFound, match="the file is gone"):
        await client.put_blob(failing)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthenticated),
        (404, NotFound),
        (413, TooLarge),
        (426, Incompatible),
        (507, LimitReached),
        (503, Unavailable),
    ],
)
async def test_refusals_become_errors_with_the_servers_words(
    server: Served, status: int, error: type[EngineError]
) -> None:
    model, client = server
    model.refuse_blobs = (status, "the words")

    with pytest.raises(error, match="the words"):
        await client.put_blob(b"x")


async def test_a_proxys_refusal_without_our_words_still_says_its_status() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>")

    async with serving(serve) as url:
        client = WorkerClient(url, "secret")
        with pytest.raises(Unavailable, match="the server answered 502"):
            await client.put_blob(b"x")
        await client.close()


async def test_a_checked_address_is_the_one_connected_to_whatever_the_name_says() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        head = await read_head(reader)
        name = head.partition(b"Host: ")[2].partition(b"\r\n")[0]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))
        await writer.drain()

    async with serving(answer) as url:
        port = url.rpartition(":")[2]
        client = HttpClient(f"http://no-such-host.invalid:{port}", addresses=["127.255.255.254", "127.0.0.1"])
        assert await client.call("GET", "/", timeout=30) == (200, f"no-such-host.invalid:{port}".encode())
        await client.close()

        client = HttpClient(url, addresses=["127.255.255.254"])
        with pytest.raises(Unavailable):
            await client.call("GET", "/", timeout=30)


async def test_a_certificate_is_checked_for_the_name_where_the_address_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        known = HttpClient(f"https://localhost:{port}", addresses=["127.0.0.1"])
        assert await known.call("POST", "/", b"x", timeout=30) == (204, b"")
        other = HttpClient(f"https://other.example.org:{port}", addresses=["127.0.0.1"])
        with pytest.raises(Unavailable, match="certificate"):
            await other.call("POST", "/", b"x", timeout=30)


async def test_headers_without_end_are_not_read_to_their_end() -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: %b\r\n" % (b"x" * 1000) * 100)
            await writer.drain()

    async with serving(chatter) as url:
        with pytest.raises(Unavailable):
            await HttpClient(url).call("GET", "/", timeout=30)
