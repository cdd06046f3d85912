"""The disk of the data folder fills up, and is freed again."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest

from buildyard.domain.errors import EngineError, LimitReached, Unavailable
from e2e.faults.disk import MIB, fill
from e2e.running import (
    Oracle,
    finished,
    has_logged,
    http_get,
    job_of,
    nothing_left,
    script,
    served,
    step_log,
    submit,
    working,
)

LIMIT = {"BUILDYARD_WORKERS": "0", "BUILDYARD_EXECUTOR": "process", "BUILDYARD_LIMIT_FREE_DISK": "8MiB"}


@pytest.mark.covers("engine.faults.disk_full", "engine.limits.queue", "logs.durable")
async def test_a_full_disk_refuses_new_work_and_loses_nothing(small_disk: Path, oracle: Oracle, tmp_path: Path) -> None:
    async with served(small_disk, **LIMIT) as yard:
        client = yard.client()
        token = await yard.token("runner")
        async with working(yard.url, token, tmp_path / "worker", "roomy"):
            done = await submit(client, done=script("d", "seq 1 5000 | tee kept", outputs=["kept"]))
            await finished(client, done)
            words = [oracle.say("runs $BUILDYARD_ATTEMPT"), "echo before", oracle.gate("go"), "seq 1 200000"]
            build = await submit(client, long=script("l", "\n".join([*words, oracle.say("printed")]), "echo end"))
            await has_logged(client, build, "long", b"before\n")

            ballast = fill(small_disk, leave=4 * MIB)
            with pytest.raises(LimitReached, match="disk is nearly full"):
                await submit(client, refused=script("r", "true"))
            ballast = fill(small_disk, leave=0)
            oracle.open_gate("go")
            await oracle.hears("printed")
            with pytest.raises((LimitReached, Unavailable), match=r"disk|space|full"):
                await client.upload(_large)
            with suppress(EngineError):
                await client.retry(done.uid, "perhaps there is room")
            head, _ = await http_get(f"{yard.url}/live")
            assert head.startswith("HTTP/1.1 200")
            assert (await client.tree(build.uid)).build.phase == "running"
            assert len(await step_log(client, await client.tree(done.uid), "done")) > 5000

            ballast.unlink()
            tree = await finished(client, build)
            assert tree.build.result == "success"
            assert oracle.heard == ["runs 1", "printed"]
            assert len(job_of(tree, "long").attempts) == 1
            numbers = "".join(f"{number}\n" for number in range(1, 200_001))
            assert await step_log(client, tree, "long") == f"before\n{numbers}".encode()
            again = await submit(client, again=script("a", "true"))
            assert (await finished(client, again)).build.result == "success"
            await nothing_left(tmp_path / "worker")
        await yard.restart()
        assert (await client.tree(done.uid)).build.result == "success"


async def _large() -> AsyncGenerator[bytes]:
    for _ in range(32):
        yield os.urandom(MIB)
        await asyncio.sleep(0)
