"""What every log store does, on the local disk and with sealed logs in S3."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from buildyard.adapters.logs.chunked import ChunkedLogs
from buildyard.domain.errors import Conflict, NotFound
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, Line, LogState, LogStore

LOG = LogId(12_345)
OUT, ERR, HEAD = Stream.OUTPUT, Stream.ERROR, Stream.HEADER


def chunk(stream: Stream, at: int, data: bytes) -> Chunk:
    return Chunk(stream, Moment(at), data)


def line(number: int, stream: Stream, at: int, data: bytes) -> Line:
    return Line(number, stream, Moment(at), data)


async def content(logs: LogStore, log: LogId, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in logs.read(log, start, stop)])


def open_below(folder: Path) -> int:
    """How many files of a folder this process has open."""
    paths = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            paths.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(path.startswith(f"{folder}/") for path in paths)


async def test_both_stores_keep_the_port(logs: ChunkedLogs) -> None:
    port: LogStore = logs

    assert await port.append(LOG, 0, [chunk(OUT, 1, b"x")]) == LogState(1, 1, sealed=False)


async def test_an_append_begins_a_log_and_tells_how_far_it_got(logs: LogStore) -> None:
    state = await logs.append(LOG, 0, [chunk(OUT, 1, b"one\ntwo\nthr")])

    assert state == await logs.state(LOG) == LogState(size=11, lines=3, sealed=False)
    assert await content(logs, LOG) == b"one\ntwo\nthr"


async def test_an_empty_append_begins_an_empty_log(logs: LogStore) -> None:
    assert await logs.append(LOG, 0, []) == LogState(0, 0, sealed=False)
    assert await content(logs, LOG) == b""
    assert await logs.lines(LOG, 0, 10) == []


async def test_an_unknown_log_is_not_found(logs: LogStore) -> None:
    with pytest.raises(NotFound):
        await logs.state(LOG)
    with pytest.raises(NotFound):
        await logs.lines(LOG, 0, 1)
    with pytest.raises(NotFound):
        await content(logs, LOG)


@pytest.mark.covers("logs.append")
@pytest.mark.parametrize("sealed", [False, True])
async def test_a_repeated_append_changes_nothing(logs: LogStore, sealed: bool) -> None:
    chunks = [chunk(OUT, 1, b"one\n"), chunk(ERR, 2, b"two")]
    await logs.append(LOG, 0, chunks)
    if sealed:
        await logs.seal(LOG)

    assert await logs.append(LOG, 0, chunks) == LogState(7, 2, sealed=sealed)
    assert await logs.append(LOG, 4, chunks[1:]) == LogState(7, 2, sealed=sealed)
    assert await content(logs, LOG) == b"one\ntwo"


async def test_of_an_overlapping_append_only_the_new_tail_is_stored(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"one\ntw")])

    state = await logs.append(LOG, 4, [chunk(OUT, 2, b"two\nthree")])

    assert state == LogState(13, 3, sealed=False)
    assert await logs.lines(LOG, 0, 9) == [line(0, OUT, 1, b"one"), line(1, OUT, 1, b"two"), line(2, OUT, 2, b"three")]


@pytest.mark.covers("logs.append")
async def test_a_gap_is_a_conflict(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"abc")])

    with pytest.raises(Conflict):
        await logs.append(LOG, 4, [chunk(OUT, 2, b"e")])
    with pytest.raises(Conflict):
        await logs.append(LogId(7), 1, [chunk(OUT, 2, b"e")])
    assert await content(logs, LOG) == b"abc"
    with pytest.raises(NotFound):
        await logs.state(LogId(7))


@pytest.mark.covers("logs.seal")
async def test_a_sealed_log_takes_no_new_bytes(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"abc")])

    assert await logs.seal(LOG) == await logs.seal(LOG) == LogState(3, 1, sealed=True)
    with pytest.raises(Conflict):
        await logs.append(LOG, 3, [chunk(OUT, 2, b"d")])
    assert await content(logs, LOG) == b"abc"


async def test_sealing_an_unknown_log_makes_an_empty_one(logs: LogStore) -> None:
    assert await logs.seal(LOG) == await logs.state(LOG) == LogState(0, 0, sealed=True)
    assert await content(logs, LOG) == b""
    assert [piece async for piece in logs.follow(LOG)] == []


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_change_of_stream_ends_a_line_for_numbering_only(logs: LogStore, sealed: bool) -> None:
    chunks = [
        chunk(OUT, 1, b"ab"),
        chunk(OUT, 2, b"cd"),
        chunk(ERR, 3, b"x\ny"),
        chunk(OUT, 4, b"e\n\nf"),
        chunk(HEAD, 5, b"h"),
    ]
    await logs.append(LOG, 0, chunks)
    if sealed:
        await logs.seal(LOG)

    assert await logs.state(LOG) == LogState(12, 7, sealed=sealed)
    assert await content(logs, LOG) == b"abcdx\nye\n\nfh"
    assert await logs.lines(LOG, 0, 99) == [
        line(0, OUT, 1, b"abcd"),
        line(1, ERR, 3, b"x"),
        line(2, ERR, 3, b"y"),
        line(3, OUT, 4, b"e"),
        line(4, OUT, 4, b""),
        line(5, OUT, 4, b"f"),
        line(6, HEAD, 5, b"h"),
    ]


async def test_a_line_goes_on_across_appends_of_its_stream_but_not_across_another_one(logs: LogStore) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"half")])
    await logs.append(LOG, 4, [chunk(OUT, 2, b" whole\n")])
    await logs.append(LOG, 11, [chunk(OUT, 3, b"cut")])
    await logs.append(LOG, 14, [chunk(ERR, 4, b"!")])
    await logs.append(LOG, 15, [chunk(OUT, 5, b"rest\n")])

    assert await logs.lines(LOG, 0, 9) == [
        line(0, OUT, 1, b"half whole"),
        line(1, OUT, 3, b"cut"),
        line(2, ERR, 4, b"!"),
        line(3, OUT, 5, b"rest"),
    ]


@pytest.mark.parametrize("sealed", [False, True])
async def test_negative_line_numbers_count_from_the_end(logs: LogStore, sealed: bool) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"0\n1\n2\n3\n4")])
    if sealed:
        await logs.seal(LOG)

    assert [found.data for found in await logs.lines(LOG, -2, 10)] == [b"3", b"4"]
    assert [found.number for found in await logs.lines(LOG, -3, 2)] == [2, 3]
    assert [found.number for found in await logs.lines(LOG, -99, 2)] == [0, 1]
    assert await logs.lines(LOG, 5, 1) == await logs.lines(LOG, 2, 0) == []


@pytest.mark.parametrize("sealed", [False, True])
async def test_ranges_outside_the_log_are_empty(logs: LogStore, sealed: bool) -> None:
    await logs.append(LOG, 0, [chunk(OUT, 1, b"abcdef")])
    if sealed:
        await logs.seal(LOG)

    assert await content(logs, LOG, 2, 4) == b"cd"
    assert await content(logs, LOG, 4, 99) == b"ef"
    assert await content(logs, LOG, 6) == await content(logs, LOG, 99) == await content(logs, LOG, 3, 3) == b""


@pytest.mark.parametrize("sealed", [False, True])
async def test_an_endless_line_is_answered_by_its_first_mebibyte(logs: LogStore, sealed: bool) -> None:
    long = b"x" * 5_000_000
    await logs.append(LOG, 0, [chunk(OUT, 1, b"a\n" + long + b"\nb\n")])
    if sealed:
        await logs.seal(LOG)

    found = await logs.lines(LOG, 0, 9)

    assert [(one.number, len(one.data)) for one in found] == [(0, 1), (1, 1024 * 1024), (2, 1)]
    assert await content(logs, LOG, 2, 2 + len(long)) == long


async def test_an_answer_of_lines_is_bounded_and_can_be_continued(logs: LogStore) -> None:
    data = b"".join(b"%07d" % number + b"z" * 992 + b"\n" for number in range(20_000))
    await logs.append(LOG, 0, [chunk(OUT, 1, data)])

    some = await logs.lines(LOG, 0, 20_000)
    more = await logs.lines(LOG, len(some), 1)

    assert 8_000 <= len(some) < 9_000
    assert more[0].number == len(some)
    assert int(more[0].data[:7]) == len(some)


async def test_logs_survive_a_new_opening_of_the_store(open_logs: Callable[[], ChunkedLogs]) -> None:
    first = open_logs()
    await first.append(LOG, 0, [chunk(OUT, 1, b"one\ntw")])
    await first.append(LogId(9_876_543_210), 0, [chunk(ERR, 1, b"kept")])
    await first.seal(LogId(9_876_543_210))
    await first.close()

    second = open_logs()

    assert await second.append(LOG, 6, [chunk(OUT, 2, b"o\n")]) == LogState(8, 2, sealed=False)
    assert await second.lines(LOG, 1, 1) == [line(1, OUT, 1, b"two")]
    assert await second.state(LogId(9_876_543_210)) == LogState(4, 1, sealed=True)


async def test_a_removed_log_is_gone_and_its_id_may_begin_anew(logs: LogStore) -> None:
    for sealed in (False, True):
        await logs.append(LOG, 0, [chunk(OUT, 1, b"old")])
        if sealed:
            await logs.seal(LOG)
        await logs.remove(LOG)
        with pytest.raises(NotFound):
            await logs.state(LOG)

    await logs.remove(LOG)
    assert await logs.append(LOG, 0, [chunk(ERR, 2, b"new")]) == LogState(3, 1, sealed=False)
    assert await logs.lines(LOG, 0, 1) == [line(0, ERR, 2, b"new")]


async def test_files_that_are_used_again_show_nothing_of_the_log_before(logs: LogStore) -> None:
    for number in range(100):
        text = b"log %d\n" % number
        await logs.append(LogId(number), 0, [chunk(OUT, number, text)])
        assert await content(logs, LogId(number)) == text
        await logs.seal(LogId(number))

    for number in range(100):
        assert await logs.lines(LogId(number), 0, 2) == [line(0, OUT, number, b"log %d" % number)]


async def test_many_logs_grow_at_once_with_few_open_files(logs: LogStore, tmp_path: Path) -> None:
    numbers = [LogId(number) for number in range(600)]
    for part in range(3):
        await asyncio.gather(*(logs.append(log, part * 6, [chunk(OUT, part, b"%05d\n" % log)]) for log in numbers))

    assert open_below(tmp_path) <= 300
    for log in numbers:
        assert await content(logs, log) == b"%05d\n" % log * 3


async def test_seals_that_meet_are_all_kept(open_logs: Callable[[], ChunkedLogs]) -> None:
    logs = open_logs()
    numbers = [LogId(number * 500) for number in range(60)]
    for log in numbers:
        await logs.append(log, 0, [chunk(OUT, 1, b"%d" % log)])

    states = await asyncio.gather(*(logs.seal(log) for log in numbers))

    assert all(state.sealed for state in states)
    again = open_logs()
    assert [await content(again, log) for log in numbers] == [b"%d" % log for log in numbers]


async def test_an_append_that_meets_a_seal_is_either_in_or_refused(logs: LogStore) -> None:
    for number in range(20):
        log = LogId(number)
        await logs.append(log, 0, [chunk(OUT, 1, b"a")])
        added, sealed = await asyncio.gather(
            logs.append(log, 1, [chunk(OUT, 1, b"b" * 100_000)]), logs.seal(log), return_exceptions=True
        )
        assert isinstance(sealed, LogState)
        assert sealed.size == (1 if isinstance(added, Conflict) else 100_001)
        assert len(await content(logs, log)) == sealed.size


async def test_a_cancelled_append_or_seal_leaves_a_whole_log(logs: LogStore) -> None:
    data = b"x" * 3_000_000
    task = asyncio.create_task(logs.append(LOG, 0, [chunk(OUT, 1, data)]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await logs.append(LOG, 0, [chunk(OUT, 1, data)]) == LogState(3_000_000, 1, sealed=False)

    task = asyncio.create_task(logs.seal(LOG))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await logs.seal(LOG) == LogState(3_000_000, 1, sealed=True)
    assert await content(logs, LOG) == data
