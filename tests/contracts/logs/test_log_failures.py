"""Kills, full disks and damaged files: what was acknowledged stays, what fails says so and can be repeated."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import zstandard

from buildyard.adapters.logs.local import LocalLogStore
from buildyard.adapters.logs.objects import S3LogStore
from buildyard.adapters.object_store import connect_s3
from buildyard.domain.errors import Conflict, NotFound, Unavailable
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, LogState, LogStore
from needs import need

LOG = LogId(12_345)
HERE = Path(__file__).parent


def chunk(data: bytes, at: int = 1) -> Chunk:
    return Chunk(Stream.OUTPUT, Moment(at), data)


def numbered(size: int) -> bytes:
    """What `writer.py` writes."""
    return b"".join(b"%09d\n" % number for number in range(size // 10 + 1))[:size]


async def content(logs: LogStore, log: LogId) -> bytes:
    return b"".join([piece async for piece in logs.read(log)])


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of a few blocks of its own."""
    folder.mkdir()
    made = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    need(made and made.returncode == 0, "the right to mount a small tmpfs (root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(ballast: Path) -> None:
    """Take all the room there is."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def files_below(folder: Path) -> list[str]:
    """All files of a folder, by relative name."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run_and_kill(folder: Path, seed: int, first: int) -> dict[LogId, tuple[int, bool]]:
    """Let the writer write, kill it at a random moment; what it acknowledged: size and whether sealed, by log."""
    argv = [sys.executable, str(HERE / "writer.py"), str(folder), str(seed), str(first)]
    acknowledged: dict[LogId, tuple[int, bool]] = {}
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        wanted = random.Random(seed).randrange(1, 150)
        for number, line in enumerate(process.stdout):
            if line.endswith(b"\n"):
                log, size, sealed = (int(word) for word in line.split())
                acknowledged[LogId(log)] = (size, bool(sealed))
            if number == wanted:
                process.kill()
    return acknowledged


@pytest.mark.covers("logs.durable")
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    for seed in range(8):
        acknowledged = run_and_kill(tmp_path, seed, 1 + 1000 * (seed // 2))
        assert acknowledged
        logs = LocalLogStore(tmp_path)
        for log, (size, sealed) in acknowledged.items():
            state = await logs.state(log)
            assert state.size >= size
            assert state.sealed or not sealed
            assert await content(logs, log) == numbered(state.size)
            lines = await logs.lines(log, 0, 10**9)
            assert [line.number for line in lines] == list(range(len(lines)))
            if not state.sealed:
                more = await logs.append(log, state.size, [chunk(b"!")])
                assert more.size == state.size + 1
                await logs.remove(log)
        await logs.close()


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 64])
async def test_a_torn_index_is_cut_back_to_its_last_whole_record(tmp_path: Path, cut: int) -> None:
    logs = LocalLogStore(tmp_path)
    for number in range(5):
        await logs.append(LOG, number * 4, [chunk(b"ab\n%d" % number)])
    await logs.close()
    index = tmp_path / "000/012/345.idx"
    os.truncate(index, index.stat().st_size - cut)

    logs = LocalLogStore(tmp_path)
    size = 4 * ((5 * 32 - cut) // 32)

    assert (await logs.state(LOG)).size == size
    assert (await logs.append(LOG, size, [chunk(b"on\n")])).size == size + 3
    assert await content(logs, LOG) == b"ab\n0ab\n1ab\n2ab\n3"[:size] + b"on\n"
    await logs.close()


@pytest.mark.parametrize("lost", [1, 3, 4, 9])
async def test_records_whose_bytes_are_missing_do_not_count(tmp_path: Path, lost: int) -> None:
    logs = LocalLogStore(tmp_path)
    for number in range(5):
        await logs.append(LOG, number * 4, [chunk(b"%04d" % number)])
    await logs.close()
    os.truncate(tmp_path / "000/012/345.log", 20 - lost)

    logs = LocalLogStore(tmp_path)

    size = 4 * ((20 - lost) // 4)
    assert await logs.state(LOG) == LogState(size, 1, sealed=False)
    assert await logs.append(LOG, size, [chunk(b"x" * 99 + b"\n")]) == LogState(size + 100, 1, sealed=False)
    await logs.close()
    logs = LocalLogStore(tmp_path)
    assert await logs.state(LOG) == LogState(size + 100, 1, sealed=False)
    await logs.close()


async def test_a_seal_that_was_cut_short_is_done_again_and_a_finished_one_counts(tmp_path: Path) -> None:
    logs = LocalLogStore(tmp_path)
    await logs.append(LOG, 0, [chunk(b"kept\n")])
    growing = {suffix: (tmp_path / f"000/012/345.{suffix}").read_bytes() for suffix in ("log", "idx")}
    (tmp_path / "000/012/345.tmp").write_bytes(b"half a seal")
    assert await logs.seal(LOG) == LogState(5, 1, sealed=True)
    await logs.close()
    for suffix, data in growing.items():
        (tmp_path / f"000/012/345.{suffix}").write_bytes(data)

    logs = LocalLogStore(tmp_path)

    assert await logs.state(LOG) == LogState(5, 1, sealed=True)
    with pytest.raises(Conflict):
        await logs.append(LOG, 5, [chunk(b"more")])
    await logs.remove(LOG)
    with pytest.raises(NotFound):
        await logs.state(LOG)
    await logs.close()


@pytest.mark.parametrize("size", [30_000, 200_000])
async def test_a_full_disk_refuses_an_append_and_takes_it_when_there_is_room(tmp_path: Path, size: int) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        logs = LocalLogStore(disk)
        await logs.append(LOG, 0, [chunk(b"first\n")])
        ballast = disk / "ballast"
        fill(ballast)
        fresh = b"".join(b"%09d\n" % number for number in range(size // 10))

        for _ in range(2):
            with pytest.raises(Unavailable, match="No space"):
                await logs.append(LOG, 6, [chunk(fresh)])
            assert await logs.state(LOG) == LogState(6, 1, sealed=False)
            assert await content(logs, LOG) == b"first\n"
        with pytest.raises(Unavailable):
            await logs.append(LogId(7), 0, [chunk(fresh)])
        with pytest.raises(NotFound):
            await logs.state(LogId(7))
        ballast.unlink()

        assert (await logs.append(LOG, 6, [chunk(fresh)])).size == 6 + size
        assert await content(logs, LOG) == b"first\n" + fresh
        await logs.close()


async def test_a_full_disk_refuses_a_seal_and_does_it_when_there_is_room(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(500_000)
    with small_disk(tmp_path / "disk", "1m") as disk:
        logs = LocalLogStore(disk)
        await logs.append(LOG, 0, [chunk(noise)])
        await logs.append(LogId(7), 0, [chunk(b"short")])
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(300_000))

        with pytest.raises(Unavailable, match="No space"):
            await logs.seal(LOG)
        assert await logs.state(LOG) == LogState(len(noise), noise.count(b"\n") + 1, sealed=False)
        assert (await logs.seal(LogId(7))).sealed
        ballast.unlink()

        assert (await logs.seal(LOG)).sealed
        assert await content(logs, LOG) == noise
        await logs.close()


async def test_a_damaged_sealed_log_is_reported_not_returned(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(300_000)
    logs = LocalLogStore(tmp_path)
    await logs.append(LOG, 0, [chunk(data)])
    await logs.seal(LOG)
    await logs.close()
    path = tmp_path / "000/012/345.zst"
    good = path.read_bytes()
    for position in (1000, len(good) - 50, len(good) - 4):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        logs = LocalLogStore(tmp_path)
        with pytest.raises(Unavailable, match="damaged"):
            await content(logs, LOG)
        await logs.close()
    path.write_bytes(good[:7])
    logs = LocalLogStore(tmp_path)
    with pytest.raises(Unavailable, match="damaged"):
        await logs.state(LOG)
    await logs.close()


@pytest.mark.covers("logs.seal")
async def test_any_zstd_tool_unpacks_a_sealed_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    logs = LocalLogStore(tmp_path)
    data = b"".join(b"line %d\n" % number for number in range(100_000))
    await logs.append(LOG, 0, [chunk(data)])
    await logs.seal(LOG)
    await logs.close()

    assert files_below(tmp_path) == ["000/012/345.zst"]
    with ExitStack() as opened:
        file = opened.enter_context((tmp_path / "000/012/345.zst").open("rb"))
        plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        assert opened.enter_context(plain).read() == data


async def test_memory_does_not_grow_with_a_log_of_300_megabytes(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "heavy.py"), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()

    assert process.returncode == 0
    assert int(output) < 64 * 1024


async def test_another_server_reads_what_was_sealed_into_s3(s3_url: str, tmp_path: Path) -> None:
    bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint=s3_url)
    here = S3LogStore(tmp_path / "here", bucket, prefix="moved/")
    data = random.Random(3).randbytes(1_500_000)
    for log, size in ((LogId(1), 10), (LogId(2), len(data))):
        await here.append(log, 0, [chunk(data[:size])])
        await here.seal(log)
    await here.close()

    there = S3LogStore(tmp_path / "there", bucket, prefix="moved/")

    assert await content(there, LogId(1)) == data[:10]
    assert await content(there, LogId(2)) == data
    with pytest.raises(Conflict):
        await there.append(LogId(1), 10, [chunk(b"more")])
    assert files_below(tmp_path / "here") == []
    await there.close()


async def test_an_object_store_that_does_not_answer_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint="http://127.0.0.1:1")
    local = LocalLogStore(tmp_path)
    await local.append(LOG, 0, [chunk(b"safe")])
    await local.close()
    logs = S3LogStore(tmp_path, bucket)

    with pytest.raises(Unavailable):
        await logs.seal(LOG)

    await logs.close()
    local = LocalLogStore(tmp_path)
    assert await content(local, LOG) == b"safe"
    await local.close()
