"""What every blob store does, in a local folder and in S3."""

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.blobs.objects import ObjectBlobStore
from buildyard.adapters.object_store import connect_s3
from buildyard.domain.errors import NotFound, TooLarge, Unavailable
from buildyard.domain.ids import Sha256
from buildyard.ports import BlobInfo, BlobStore
from needs import need

HERE = Path(__file__).parent
SIZES = [0, 1, 1_000, 262_144, 1_048_575, 1_048_576, 1_048_577, 20_000_003]


@pytest.fixture(params=["local", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """The store under test."""
    if request.param == "local":
        local = LocalBlobStore(tmp_path / "blobs")
        await local.open()
        return local
    url = request.getfixturevalue("s3_url")
    bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint=url)
    remote = ObjectBlobStore(bucket, tmp_path / "scratch", prefix=f"blobs-{uuid4().hex}/")
    await remote.open()
    return remote


def bytes_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def name_of(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


async def stream(data: bytes, piece: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


async def content(blobs: BlobStore, name: Sha256, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.read(name, start, stop)])


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_read_back_by_its_digest(blobs: BlobStore, size: int) -> None:
    data = bytes_of(size)

    assert await blobs.put(stream(data)) == BlobInfo(name_of(data), size)
    assert await blobs.size(name_of(data)) == size
    assert await content(blobs, name_of(data)) == data


async def test_ranges_are_read_as_slices_are(blobs: BlobStore) -> None:
    data = bytes_of(9_000_000)
    name = (await blobs.put(stream(data))).sha256

    for start, stop in [(0, 1), (5, 5), (4_194_303, 4_194_305), (8_999_999, None), (1_000_000, 7_000_000), (3, 10**9)]:
        assert await content(blobs, name, start, stop) == data[start:stop]
    assert await content(blobs, name, 9_000_000) == await content(blobs, name, 10**9) == b""


async def test_pieces_may_be_empty_or_large(blobs: BlobStore) -> None:
    data = bytes_of(5_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"", data[:1], b"", data[1:4_000_000], data[4_000_000:], b""):
            yield piece

    name = (await blobs.put(pieces())).sha256
    assert await content(blobs, name) == data


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64, "0" * 63 + "\n"])
async def test_what_is_not_stored_is_not_found(blobs: BlobStore, name: str) -> None:
    with pytest.raises(NotFound):
        await blobs.size(Sha256(name))
    with pytest.raises(NotFound):
        await content(blobs, Sha256(name))


async def test_a_removed_blob_is_gone_and_removing_it_again_is_no_error(blobs: BlobStore) -> None:
    name = (await blobs.put(stream(b"short"))).sha256

    await blobs.remove(name)
    await blobs.remove(name)

    with pytest.raises(NotFound):
        await blobs.size(name)
    assert (await blobs.put(stream(b"short"))).sha256 == name
    assert await content(blobs, name) == b"short"


@pytest.mark.parametrize("size", [101, 3_000_000])
async def test_a_stream_over_the_limit_is_refused_and_not_stored(blobs: BlobStore, size: int) -> None:
    data = bytes_of(size)

    with pytest.raises(TooLarge, match=str(size - 1)):
        await blobs.put(stream(data), limit=size - 1)

    with pytest.raises(NotFound):
        await blobs.size(name_of(data))
    assert (await blobs.put(stream(data), limit=size)).size == size


async def test_a_stream_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    data = bytes_of(3_000_000)

    async def broken() -> AsyncIterator[bytes]:
        yield data
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put(broken())

    with pytest.raises(NotFound):
        await blobs.size(name_of(data))
    assert files_below(tmp_path) == []


async def test_a_cancelled_put_leaves_no_file_behind(blobs: BlobStore, tmp_path: Path) -> None:
    data = bytes_of(1_200_000)
    offered = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield data
            offered.set()

    putting = asyncio.create_task(blobs.put(endless()))
    await offered.wait()
    putting.cancel()
    with suppress(asyncio.CancelledError):
        await putting

    assert files_below(tmp_path) == []


async def test_equal_blobs_may_be_put_at_once(blobs: BlobStore) -> None:
    data = bytes_of(2_000_000)

    found = await asyncio.gather(*(blobs.put(stream(data, 10_000 + number)) for number in range(8)))

    assert set(found) == {BlobInfo(name_of(data), len(data))}
    assert await content(blobs, name_of(data)) == data


def files_below(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()]


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


def local_on(disk: Path) -> BlobStore:
    return LocalBlobStore(disk)


def remote_on(disk: Path) -> BlobStore:
    bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint="http://127.0.0.1:1")
    return ObjectBlobStore(bucket, disk)


@pytest.mark.parametrize("store_on", [local_on, remote_on])
async def test_a_full_disk_is_unavailable_with_nothing_visible_and_its_room_is_given_back(
    tmp_path: Path, store_on: Callable[[Path], BlobStore]
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        blobs = store_on(disk)
        for _ in range(2):
            with pytest.raises(Unavailable, match="No space"):
                await blobs.put(stream(bytes_of(10_000_000)))
            assert files_below(disk) == []


async def test_a_full_disk_takes_a_blob_that_fits(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        blobs = LocalBlobStore(disk)
        with pytest.raises(Unavailable) as failed:
            await blobs.put(stream(bytes_of(10_000_000)))

        assert (await blobs.put(stream(bytes_of(3_000_000)))).size == 3_000_000, failed


async def test_an_object_store_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    blobs = remote_on(tmp_path)
    name = name_of(b"x")

    with pytest.raises(Unavailable):
        await blobs.put(stream(b"x"))
    with pytest.raises(Unavailable):
        await blobs.size(name)
    with pytest.raises(Unavailable):
        await blobs.remove(name)


async def test_what_a_killed_put_left_is_removed_at_the_next_start_but_not_what_is_being_written(
    tmp_path: Path,
) -> None:
    blobs = LocalBlobStore(tmp_path)
    await blobs.open()
    (tmp_path / "incoming" / "left-behind").write_bytes(b"half a blob")
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(2_000_000)
        started.set()
        await go_on.wait()
        yield b"end"

    putting = asyncio.create_task(blobs.put(slow()))
    await started.wait()
    await LocalBlobStore(tmp_path).open()
    go_on.set()

    assert (await putting).size == 2_000_003
    assert len(files_below(tmp_path)) == 1


async def test_a_blob_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)
    data = bytes_of(1_000_000)
    name = (await blobs.put(stream(data))).sha256
    reading = aiter(blobs.read(name))
    found = await anext(reading)

    await blobs.remove(name)

    async for piece in reading:
        found += piece
    assert found == data


async def test_memory_does_not_grow_with_a_blob_of_200_megabytes(s3_url: str, tmp_path: Path) -> None:
    for kind in ("local", "s3"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "heavy.py"), kind, str(tmp_path), s3_url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        assert int(output) < 96 * 1024


async def test_what_is_stored_is_listed_in_order_from_anywhere(blobs: BlobStore) -> None:
    assert await blobs.stored("", 10) == []
    put = sorted([(await blobs.put(stream(bytes_of(100 + n, n)))).sha256 for n in range(7)])

    found = await blobs.stored("", 10)

    assert [one.sha256 for one in found] == put
    assert sorted(one.size for one in found) == list(range(100, 107))
    assert all(abs(one.stored_at / 1e6 - time.time()) < 3600 for one in found)
    assert [one.sha256 for one in await blobs.stored(put[2], 3)] == put[3:6]
    assert [one.sha256 for one in await blobs.stored(put[6], 3)] == []
    await blobs.remove(put[0])
    assert [one.sha256 for one in await blobs.stored("", 1)] == put[1:2]
