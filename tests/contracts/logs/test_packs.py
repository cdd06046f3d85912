"""Short logs on the local disk share files: what that must not change, and what it saves."""

import asyncio
from pathlib import Path

import pytest

from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.errors import NotFound, Unavailable
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, LogState, LogStore

PACK, ENTRIES = "000/012.pack", "000/012.at"


async def keep(logs: LogStore, log: int, data: bytes) -> None:
    """A whole life of a log."""
    if data:
        await logs.append(LogId(log), 0, [Chunk(Stream.OUTPUT, Moment(1), data)])
    await logs.seal(LogId(log))


async def content(logs: LogStore, log: int) -> bytes:
    return b"".join([piece async for piece in logs.read(LogId(log))])


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_short_logs_of_one_thousand_share_a_pack_and_survive_a_new_opening(tmp_path: Path) -> None:
    logs = LocalLogStore(tmp_path)
    await asyncio.gather(*(keep(logs, 12_000 + number, b"log %d\n" % number) for number in range(200)))
    await keep(logs, 12_500, b"")
    await logs.close()

    assert files_below(tmp_path) == [ENTRIES, PACK]
    again = LocalLogStore(tmp_path)
    for number in range(200):
        assert await content(again, 12_000 + number) == b"log %d\n" % number
    assert await again.state(LogId(12_500)) == LogState(0, 0, sealed=True)
    with pytest.raises(NotFound):
        await again.state(LogId(12_501))
    await again.close()


async def test_what_a_crash_left_in_a_pack_without_an_entry_is_never_read(tmp_path: Path) -> None:
    logs = LocalLogStore(tmp_path)
    await keep(logs, 12_001, b"before\n")
    await logs.close()
    with (tmp_path / PACK).open("ab") as pack:
        pack.write(b"half of an object")

    logs = LocalLogStore(tmp_path)
    await keep(logs, 12_002, b"after\n")
    assert [await content(logs, 12_001), await content(logs, 12_002)] == [b"before\n", b"after\n"]
    with pytest.raises(NotFound):
        await logs.state(LogId(12_003))
    await logs.close()


@pytest.mark.parametrize(("file", "position"), [(PACK, 10), (ENTRIES, 16), (ENTRIES, 30)])
async def test_a_damaged_pack_is_reported_not_returned(tmp_path: Path, file: str, position: int) -> None:
    logs = LocalLogStore(tmp_path)
    await keep(logs, 12_001, b"some words\n")
    await logs.close()
    data = bytearray((tmp_path / file).read_bytes())
    data[position] ^= 0xFF
    (tmp_path / file).write_bytes(data)

    logs = LocalLogStore(tmp_path)
    with pytest.raises(Unavailable, match="damaged"):
        await content(logs, 12_001)
    await logs.close()


async def test_a_shortened_pack_is_reported(tmp_path: Path) -> None:
    logs = LocalLogStore(tmp_path)
    await keep(logs, 12_001, b"some words\n")
    await logs.close()
    with (tmp_path / PACK).open("r+b") as pack:
        pack.truncate(20)

    logs = LocalLogStore(tmp_path)
    with pytest.raises(Unavailable, match="damaged"):
        await logs.state(LogId(12_001))
    await logs.close()


async def test_removing_the_last_log_of_a_pack_frees_its_room(tmp_path: Path) -> None:
    logs = LocalLogStore(tmp_path)
    for log in (12_001, 12_002):
        await keep(logs, log, b"some words\n")

    await logs.remove(LogId(12_001))
    assert await content(logs, 12_002) == b"some words\n"
    await logs.remove(LogId(12_002))

    assert (tmp_path / PACK).stat().st_size == 0
    with pytest.raises(NotFound):
        await logs.state(LogId(12_002))
    await keep(logs, 12_002, b"anew\n")
    assert await content(logs, 12_002) == b"anew\n"
    await logs.close()


async def test_another_reader_of_the_folder_sees_what_is_packed_later(tmp_path: Path) -> None:
    writer, reader = LocalLogStore(tmp_path), LocalLogStore(tmp_path)
    await keep(writer, 12_001, b"one\n")
    assert await content(reader, 12_001) == b"one\n"

    await writer.remove(LogId(12_001))
    await keep(writer, 12_002, b"two\n")

    assert await content(reader, 12_002) == b"two\n"
    await writer.close()
    await reader.close()
