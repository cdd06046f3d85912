"""What is kept until the server takes it: order, exact bytes, bounded memory."""

import random
from pathlib import Path

import pytest

from buildyard.domain.states import Result, Stream
from buildyard.protocol import Output, StepFinished, StepStarted
from buildyard.worker.clock import Clock
from buildyard.worker.reel import MEMORY, PIECE, Reel, output_size

STARTED = StepStarted(attempt=1, token="", step=1)


def reel(scratch: Path) -> Reel:
    """A reel that wakes nobody."""
    return Reel(1, "token", scratch, Clock(), lambda _urgent: None)


def tell_all(reel: Reel, items: int = 10, size: int = 1 << 20) -> list[object]:
    """Take everything out, as an outbox does."""
    told: list[object] = []
    while batch := reel.head(items, size):
        for item in batch:
            told.append(item)
            reel.told()
    return told


def joined(told: list[object], log: int) -> list[tuple[Stream, bytes]]:
    """Output of a log with adjacent pieces of a stream made one; checks offsets."""
    runs: list[tuple[Stream, bytes]] = []
    at = 0
    for item in told:
        if not isinstance(item, Output) or item.log != log:
            continue
        assert item.offset == at
        for chunk in item.chunks:
            at += len(chunk.data)
            if runs and runs[-1][0] is chunk.stream:
                runs[-1] = (chunk.stream, runs[-1][1] + chunk.data)
            else:
                runs.append((chunk.stream, chunk.data))
    return runs


def test_small_pieces_of_output_become_one_item(tmp_path: Path) -> None:
    told = reel(tmp_path)
    for _ in range(1000):
        told.write(5, Stream.OUTPUT, b"line\n")

    items = tell_all(told)

    assert len(items) == 1
    assert joined(items, 5) == [(Stream.OUTPUT, b"line\n" * 1000)]


def test_items_and_output_keep_their_order_and_carry_the_token_of_the_moment(tmp_path: Path) -> None:
    told = reel(tmp_path)
    told.write(5, Stream.HEADER, b"before\n")
    told.add(STARTED)
    told.write(5, Stream.OUTPUT, b"after\n")
    told.token = "newer"

    items = told.head(10, 1000)

    assert [type(item) for item in items] == [Output, StepStarted, Output]
    assert {item.token for item in items} == {"newer"}


@pytest.mark.parametrize("seed", range(5))
def test_any_output_comes_out_exactly_whatever_the_pace(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    told = reel(tmp_path)
    written: dict[int, list[tuple[Stream, bytes]]] = {5: [], 6: []}
    items: list[object] = []
    for _ in range(300):
        log = chance.choice([5, 6])
        stream = chance.choice([Stream.OUTPUT, Stream.ERROR])
        data = chance.randbytes(chance.choice([0, 1, 100, 5000, PIECE, 3 * PIECE + 1]))
        told.write(log, stream, data)
        if data:
            written[log].append((stream, data))
        if chance.random() < 0.05:
            items += tell_all(told, items=3)
    items += tell_all(told)

    for log, pieces in written.items():
        of = {stream: b"".join(data for to, data in pieces if to is stream) for stream in Stream}
        runs = joined(items, log)
        assert {stream: b"".join(data for to, data in runs if to is stream) for stream in Stream} == of
        assert b"".join(data for _, data in runs) == b"".join(data for _, data in pieces)
    assert told.is_empty
    assert told.memory == 0


def test_memory_is_bounded_while_nobody_takes_anything(tmp_path: Path) -> None:
    told = reel(tmp_path)
    for _ in range(1000):
        told.write(5, Stream.OUTPUT, b"x" * 65536)
        assert told.memory <= MEMORY
    told.add(STARTED)

    items = tell_all(told)

    assert sum(output_size(item) for item in items if isinstance(item, Output)) == 1000 * 65536
    assert isinstance(items[-1], StepStarted)
    assert (items[-1].token, items[-1].at > 0) == ("token", True)
    assert list(tmp_path.iterdir()) == []


def test_streams_that_alternate_with_every_byte_do_not_eat_memory(tmp_path: Path) -> None:
    told = reel(tmp_path)
    for _ in range(100_000):
        told.write(5, Stream.OUTPUT, b"o")
        told.write(5, Stream.ERROR, b"e")
        assert told.memory <= MEMORY

    assert joined(tell_all(told), 5) == [(Stream.OUTPUT, b"o"), (Stream.ERROR, b"e")] * 100_000


def test_a_disk_that_fails_ends_the_log_where_it_is_and_says_so(tmp_path: Path) -> None:
    told = reel(tmp_path / "missing")
    failures: list[str] = []
    told.failed = failures.append
    for _ in range(100):
        told.write(5, Stream.OUTPUT, b"x" * PIECE)
    end = StepFinished(attempt=1, token="", step=1, log=5, log_size=told.size_of(5), result=Result.ERROR)
    told.add(end)

    items = tell_all(told)

    assert len(failures) == 1
    assert "could not be kept" in failures[0]
    assert told.size_of(5) == sum(output_size(item) for item in items if isinstance(item, Output))
    assert isinstance(items[-1], StepFinished)


def test_a_closed_reel_tells_nothing(tmp_path: Path) -> None:
    told = reel(tmp_path)
    told.write(5, Stream.OUTPUT, b"x")
    told.close()
    told.write(5, Stream.OUTPUT, b"x")
    told.add(STARTED)

    assert told.head(10, 1000) == []
    assert told.is_empty
