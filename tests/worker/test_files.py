"""Sources, inputs, outputs and caches of jobs."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildyard.domain.specs import CacheSpec, FolderSource, Limits
from buildyard.domain.states import Cause, Result
from buildyard.worker.archives import pack
from buildyard.worker.placing import place_file
from needs import need
from worker.conftest import Working
from worker.model_server import Attempt, Fault, ModelServer
from worker.test_steps import job


async def run(server: ModelServer, working: Working, spec: object, **grant: object) -> Attempt:
    """Run one job to its end."""
    attempt = server.submit(spec, **grant)  # type: ignore[arg-type]
    async with working():
        await attempt.finished()
    return attempt


async def packed(folder: Path) -> bytes:
    """An archive of a folder."""
    return b"".join([piece async for piece in pack(folder, ["**"])])


@pytest.mark.covers("workspace.folder")
async def test_an_uploaded_folder_is_laid_into_the_workspace(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    (tmp_path / "upload/sub").mkdir(parents=True)
    (tmp_path / "upload/sub/file").write_text("content\n")
    data = await packed(tmp_path / "upload")
    source = FolderSource(sha256=server.store(data), size=len(data))

    attempt = await run(server, working, job("cat sub/file"), folder=source)

    assert attempt.output() == "content\n"
    assert "source: uploaded folder" in attempt.said()


async def test_a_source_that_is_missing_is_an_error_of_the_source(server: ModelServer, working: Working) -> None:
    attempt = await run(server, working, job("true"), folder=FolderSource(sha256="0" * 64, size=1))

    assert (attempt.end.result, attempt.end.cause) == (Result.ERROR, Cause.SOURCE)
    assert attempt.result(0) is Result.ERROR
    assert attempt.begun == []
    assert "no such blob" in attempt.said()


@pytest.mark.covers("workspace.inputs")
async def test_inputs_are_laid_in_with_their_modes(server: ModelServer, working: Working) -> None:
    inputs = [
        server.store_input("bin/tool", b"#!/bin/sh\necho tool\n", 0o755),
        server.store_input("data/deep/er/file", b"x" * 1_000_000),
        server.store_input("data/link", b"deep/er/file", link=True),
        *[server.store_input(f"many/{number}", str(number).encode()) for number in range(30)],
    ]
    script = "bin/tool; wc -c < data/deep/er/file; readlink data/link; cat many/29"

    attempt = await run(server, working, job(script, executor="process"), inputs=inputs)

    assert attempt.output() == "tool\n1000000\ndeep/er/file\n29"
    assert "inputs: 33 files" in attempt.said()


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "inside/../../outside", ""])
async def test_an_input_that_is_a_link_out_of_the_workspace_is_refused(
    server: ModelServer, working: Working, target: str
) -> None:
    inputs = [server.store_input("link", target.encode(), link=True)]

    attempt = await run(server, working, job("true"), inputs=inputs)

    assert (attempt.end.result, attempt.end.cause) == (Result.ERROR, Cause.INPUTS)
    assert "leads out" in attempt.end.detail


async def test_an_input_is_not_written_through_a_link(tmp_path: Path) -> None:
    async def data():  # type: ignore[no-untyped-def]
        yield b"data"

    (tmp_path / "outside").mkdir()
    (tmp_path / "workspace").mkdir()
    os.symlink(tmp_path / "outside", tmp_path / "workspace/folder")

    with pytest.raises(OSError, match="folder"):
        await place_file(tmp_path / "workspace", "folder/file", 0o644, data())

    assert list((tmp_path / "outside").iterdir()) == []


async def test_an_input_that_was_damaged_is_an_error_of_inputs(server: ModelServer, working: Working) -> None:
    file = server.store_input("file", b"right")
    server.blobs[file.sha256] = b"wrong"
    attempt = server.submit(job("true"), inputs=[file])

    async with working(patience_s=0.1):
        await attempt.finished()

    assert (attempt.end.result, attempt.end.cause) == (Result.ERROR, Cause.INPUTS)
    assert "file arrived damaged" in attempt.end.detail


@pytest.mark.covers("workspace.inputs")
async def test_inputs_survive_a_connection_that_breaks_in_their_middle(server: ModelServer, working: Working) -> None:
    inputs = [server.store_input("file", b"x" * 1_000_000)]
    server.fault = lambda call: Fault.CUT if call.name == "GET blobs" and call.number < 2 else Fault.NONE

    attempt = await run(server, working, job("wc -c < file", executor="process"), inputs=inputs)

    assert attempt.output() == "1000000\n"


async def test_outputs_are_stored_by_content_before_the_end_is_told(server: ModelServer, working: Working) -> None:
    script = """
        mkdir -p dist/sub
        echo small > dist/small
        head -c 300000 /dev/zero > dist/sub/big
        echo '#!/bin/sh' > tool; chmod 755 tool
        ln -s small dist/link
        echo other > other
    """
    attempt = await run(server, working, job(script, executor="process", outputs=("dist/", "tool")))

    kept = {file.path: (server.blobs[file.sha256], file.mode & 0o111 != 0) for file in attempt.end.outputs}
    assert kept == {
        "dist/link": (b"small\n", False),
        "dist/small": (b"small\n", False),
        "dist/sub/big": (bytes(300_000), False),
        "tool": (b"#!/bin/sh\n", True),
    }
    assert "outputs: 4 files" in attempt.said(1)


async def test_scripts_of_steps_are_no_outputs(server: ModelServer, working: Working) -> None:
    attempt = await run(server, working, job("write f x", "write g y", outputs=("**",)))

    assert [file.path for file in attempt.end.outputs] == ["f", "g"]


@pytest.mark.parametrize("missing", ["dist/file", "dist/*.whl"])
async def test_an_output_that_was_not_made_is_a_failure(server: ModelServer, working: Working, missing: str) -> None:
    attempt = await run(server, working, job("write f x", outputs=("f", missing)))

    assert (attempt.end.result, attempt.end.cause) == (Result.FAILURE, Cause.OUTPUTS)
    assert missing in attempt.end.detail
    assert missing in attempt.said(1)
    assert attempt.result(1) is Result.SUCCESS


@pytest.mark.covers("executors.limits.output")
async def test_outputs_over_the_limit_end_the_job_so(server: ModelServer, working: Working) -> None:
    spec = job("write f 0123456789", outputs=("f",), limits=Limits(output_bytes=10))

    attempt = await run(server, working, spec)

    assert attempt.end.result is Result.OUTPUT_LIMIT
    assert "outputs of 11 bytes are over the limit of 10 bytes" in attempt.said(1)
    assert server.blobs == {}


@pytest.mark.covers("engine.cache.success_only")
async def test_nothing_is_kept_of_a_failed_job(server: ModelServer, working: Working) -> None:
    spec = job("write f x\nwrite c/f x\nexit 1", outputs=("f",), caches=(CacheSpec(path="c"),))

    attempt = await run(server, working, spec)

    assert attempt.end.outputs == []
    assert server.blobs == {}


async def test_a_blob_store_that_fails_makes_a_failed_job_with_a_clear_error(
    server: ModelServer, working: Working
) -> None:
    server.refuse_blobs = (503, "the blob store does not answer")
    attempt = server.submit(job("write f x", outputs=("f",)))

    async with working(patience_s=0.3):
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.STORAGE)
    assert end.detail == "outputs could not be stored: the blob store does not answer"


async def test_an_upload_that_the_server_refuses_early_ends_with_its_words(
    server: ModelServer, working: Working
) -> None:
    server.refuse_blobs = (507, "the server's disk is full")
    attempt = server.submit(job("head -c 5000000 /dev/zero > f", executor="process", outputs=("f",)))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.STORAGE)
    assert "the server's disk is full" in end.detail


async def test_an_upload_survives_a_server_that_breaks_the_connection(server: ModelServer, working: Working) -> None:
    server.fault = lambda call: (
        Fault.DROP_BEFORE if call.name.startswith(("PUT", "HEAD")) and call.number == 0 else Fault.NONE
    )
    spec = job("head -c 5000000 /dev/zero > f", executor="process", outputs=("f",))

    attempt = await run(server, working, spec)

    assert [server.blobs[file.sha256] for file in attempt.end.outputs] == [bytes(5_000_000)]


@pytest.mark.covers("engine.cache.restore")
async def test_a_cache_is_saved_and_restored_by_the_next_run(server: ModelServer, working: Working) -> None:
    spec = job("cat .cache/n\nappend .cache/n x", caches=(CacheSpec(path=".cache"),))
    saving = job("append .cache/n x", caches=(CacheSpec(path=".cache"),))

    first = await run(server, working, saving)
    second = await run(server, working, spec)
    third = await run(server, working, spec)

    assert "cache .cache: nothing is stored yet" in first.said()
    assert "cache .cache: saved" in first.said(1)
    assert "cache .cache: restored" in second.said()
    assert [second.output(), third.output()] == ["x\n", "x\nx\n"]
    assert [len(attempt.end.caches) for attempt in (first, second, third)] == [1, 1, 1]


async def test_a_cache_that_did_not_change_is_not_saved_again(server: ModelServer, working: Working) -> None:
    spec = job("true", caches=(CacheSpec(path=".cache"),))
    await run(server, working, job("append .cache/n x", caches=(CacheSpec(path=".cache"),)))

    attempt = await run(server, working, spec)

    assert "cache .cache: unchanged" in attempt.said(1)
    assert attempt.end.caches == []


@pytest.mark.covers("engine.cache.key")
async def test_the_contents_of_key_files_choose_the_cache(server: ModelServer, working: Working) -> None:
    spec = job("append .cache/n x\ncat .cache/n", caches=(CacheSpec(path=".cache", key_files=("*.lock",)),))

    attempts = [
        await run(server, working, spec, inputs=[server.store_input("a.lock", text)]) for text in (b"1", b"2", b"1")
    ]

    assert [attempt.output() for attempt in attempts] == ["x\n", "x\n", "x\nx\n"]
    assert len(server.caches) == 2


async def test_a_cache_that_cannot_be_restored_or_saved_is_no_failure(server: ModelServer, working: Working) -> None:
    damaged = b"this is no archive"
    server.caches[".cache", ""] = server.store(damaged)
    spec = job("true", "write .cache/n x", caches=(CacheSpec(path=".cache"), CacheSpec(path="never/made")))

    attempt = await run(server, working, spec)

    assert attempt.end.result is Result.SUCCESS
    assert "cache .cache: not restored" in attempt.said()
    assert "cache .cache: saved" in attempt.said(2)
    assert "cache never/made: not saved: it is not there" in attempt.said(2)


async def test_a_cache_whose_restore_broke_off_leaves_nothing_half_there(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    (tmp_path / "c/.cache").mkdir(parents=True)
    (tmp_path / "c/.cache/first").write_text("x")
    (tmp_path / "c/.cache/second").write_bytes(os.urandom(2_000_000))
    whole = await packed(tmp_path / "c")
    server.caches[".cache", ""] = server.store(whole[: len(whole) // 2])

    attempt = await run(server, working, job("ls -A", executor="process", caches=(CacheSpec(path=".cache"),)))

    assert "not restored" in attempt.said()
    assert ".cache" not in attempt.output().split()


@pytest.mark.parametrize(("call", "step"), [("GET blobs", 0), ("PUT blobs", 1)])
async def test_a_job_is_cancelled_while_files_travel(
    server: ModelServer, working: Working, call: str, step: int
) -> None:
    stuck = asyncio.get_running_loop().create_future()
    server.before = lambda seen: stuck if seen.name == call else None
    inputs = [server.store_input("file", b"x")]
    attempt = server.submit(job("write f x", outputs=("f",)), inputs=inputs if step == 0 else [])

    async with working():
        await server.until(lambda: server.calls[call])
        server.cancel(attempt)
        end = await attempt.finished()

    assert end.result is Result.CANCELLED
    assert "cancelled on the server" in attempt.said(step)
    assert attempt.result(step) is (Result.CANCELLED if step == 0 else Result.SUCCESS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    need(mounting.returncode == 0, "the right to mount a tmpfs (root)")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_is_an_error_of_storage(server: ModelServer, working: Working, small_disk: Path) -> None:
    attempt = server.submit(job("true"), inputs=[server.store_input("file", bytes(2_000_000))])

    async with working(folder=small_disk / "state"):
        end = await attempt.finished()
        following = server.submit(job("print fine"))
        await following.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.STORAGE)
    assert "no room on the worker's disk" in attempt.said()
    assert following.output() == "fine\n"


async def test_a_cache_on_a_full_disk_is_an_error_of_storage(
    server: ModelServer, working: Working, small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "c/.cache").mkdir(parents=True)
    (tmp_path / "c/.cache/file").write_bytes(bytes(4_000_000))
    server.caches[".cache", ""] = server.store(await packed(tmp_path / "c"))
    attempt = server.submit(job("true", caches=(CacheSpec(path=".cache"),)))

    async with working(folder=small_disk / "state"):
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.STORAGE)
