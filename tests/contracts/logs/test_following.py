"""Following logs: everyone gets everything, in order, from memory that does not grow with the followers."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from buildyard.adapters.logs.chunked import ChunkedLogs
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, LogStore

LOG = LogId(4_711)
OUT, ERR = Stream.OUTPUT, Stream.ERROR


def chunk(stream: Stream, at: int, data: bytes) -> Chunk:
    return Chunk(stream, Moment(at), data)


async def all_bytes(chunks: AsyncIterator[Chunk]) -> bytes:
    return b"".join([chunk.data async for chunk in chunks])


@pytest.mark.covers("logs.follow")
async def test_a_follower_gets_what_was_there_then_what_comes_then_the_end(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"old"), chunk(ERR, 2, b"err")])
    following = aiter(logs.follow(LOG))

    assert [await anext(following), await anext(following)] == [chunk(OUT, 1, b"old"), chunk(ERR, 2, b"err")]
    await logs.append(LOG, 6, [chunk(OUT, 3, b"new")])
    assert await anext(following) == chunk(OUT, 3, b"new")
    await logs.seal(LOG)
    with pytest.raises(StopAsyncIteration):
        await anext(following)


async def test_a_log_that_is_not_begun_yet_is_waited_for(logs: LogStore) -> None:
    following = asyncio.create_task(all_bytes(logs.follow(LOG)))
    await asyncio.sleep(0)

    await logs.append(LOG, 0, [chunk(OUT, 1, b"at last")])
    await logs.seal(LOG)

    async with asyncio.timeout(30):
        assert await following == b"at last"


async def test_following_may_start_anywhere_also_ahead(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"0123"), chunk(ERR, 2, b"4567")])
    following = [asyncio.create_task(all_bytes(logs.follow(LOG, start))) for start in (0, 2, 4, 7, 8, 10)]
    await asyncio.sleep(0)
    await logs.append(LOG, 8, [chunk(OUT, 3, b"89ab")])
    await logs.seal(LOG)

    async with asyncio.timeout(30):
        assert await asyncio.gather(*following) == [b"0123456789ab"[start:] for start in (0, 2, 4, 7, 8, 10)]
    assert await all_bytes(logs.follow(LOG, 3)) == b"3456789ab"
    assert await all_bytes(logs.follow(LOG, 99)) == b""


@pytest.mark.covers("logs.follow")
async def test_five_hundred_followers_get_every_byte(logs: LogStore) -> None:
    following = [asyncio.create_task(all_bytes(logs.follow(LOG, start % 50))) for start in range(500)]
    expected = b""
    for number in range(100):
        piece = b"line %d\n" % number * (number % 7 + 1)
        await logs.append(LOG, len(expected), [chunk(OUT, number, piece)])
        expected += piece
        if number % 10 == 0:
            await asyncio.sleep(0)
    await logs.seal(LOG)

    async with asyncio.timeout(60):
        found = await asyncio.gather(*following)

    assert found == [expected[start % 50 :] for start in range(500)]


@pytest.mark.covers("logs.follow")
async def test_followers_share_the_bytes_they_are_given(logs: LogStore) -> None:
    await logs.append(LOG, 0, [])
    following = [aiter(logs.follow(LOG)) for _ in range(3)]
    waiting = [asyncio.create_task(anext(one)) for one in following]
    await asyncio.sleep(0)
    fresh = chunk(OUT, 1, b"shared" * 1000)

    await logs.append(LOG, 0, [fresh])

    async with asyncio.timeout(30):
        assert all(found.data is fresh.data for found in await asyncio.gather(*waiting))


async def test_a_slow_follower_gets_everything_although_little_is_kept_for_it(logs: LogStore) -> None:
    slow = aiter(logs.follow(LOG))
    await logs.append(LOG, 0, [chunk(OUT, 0, b"first")])
    found = (await anext(slow)).data
    expected = b"first"
    for number in range(100):
        piece = bytes([number]) * 100_000
        await logs.append(LOG, len(expected), [chunk(OUT, number, piece)])
        expected += piece
    await logs.seal(LOG)

    async with asyncio.timeout(60):
        found += await all_bytes(slow)

    assert found == expected


async def test_followers_of_a_removed_log_are_told(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"x")])
    following = aiter(logs.follow(LOG))
    await anext(following)
    waiting = asyncio.create_task(anext(following))
    await asyncio.sleep(0)

    await logs.remove(LOG)

    with pytest.raises(NotFound):
        async with asyncio.timeout(30):
            await waiting


async def test_a_follower_that_left_is_not_missed(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"x")])
    leaving = asyncio.create_task(all_bytes(logs.follow(LOG)))
    staying = asyncio.create_task(all_bytes(logs.follow(LOG)))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    await logs.append(LOG, 1, [chunk(OUT, 1, b"y")])
    await logs.seal(LOG)

    async with asyncio.timeout(30):
        assert await staying == b"xy"


async def test_closing_the_store_ends_its_followers(open_logs: Callable[[], ChunkedLogs]) -> None:
    logs = open_logs()
    await logs.append(LOG, 0, [chunk(OUT, 1, b"x")])
    following = asyncio.create_task(all_bytes(logs.follow(LOG)))
    await asyncio.sleep(0)

    await logs.close()

    async with asyncio.timeout(30):
        assert await following == b"x"
