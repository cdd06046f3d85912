"""The object store is away for a while."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from buildyard.domain.errors import Unavailable
from e2e.door import door_to
from e2e.running import Oracle, finished, http_get, nothing_left, script, served, step_log, submit


@pytest.mark.covers("engine.faults.blob_store")
async def test_without_its_object_store_the_server_says_so_stays_up_and_goes_on_when_it_is_back(
    oracle: Oracle, s3_url: str, tmp_path: Path
) -> None:
    async with door_to(int(s3_url.rpartition(":")[2])) as door:
        options = f"endpoint=http://127.0.0.1:{door.port},access_key_id=any,secret_access_key=any"
        settings = {
            "BUILDYARD_EXECUTOR": "process",
            "BUILDYARD_WORKERS": "1",
            "BUILDYARD_BLOBS_URL": "s3://buildyard/faults",
            "BUILDYARD_BLOBS_OPTIONS": options,
        }
        async with served(tmp_path / "data", **settings) as yard:
            client = yard.client()
            words = [oracle.say("runs $BUILDYARD_ATTEMPT"), oracle.gate("go"), "seq 1 1000 | tee made"]
            makes = script("m", "\n".join(words), outputs=["made"])
            build = await submit(client, makes=makes, uses=script("u", "tail -n 1 made", needs=["makes"]))
            await oracle.hears("runs 1")
            await door.shut()
            oracle.open_gate("go")
            with pytest.raises(Unavailable, match="object store"):
                await client.upload(_pieces)
            head, _ = await http_get(f"{yard.url}/live")
            assert head.startswith("HTTP/1.1 200")
            head, body = await http_get(f"{yard.url}/health")
            assert head.startswith("HTTP/1.1 503")
            assert b"blob store" in body
            assert (await client.tree(build.uid)).build.phase in ("leased", "running")

            await door.open()
            tree = await finished(client, build)
            assert tree.build.result == "success"
            assert oracle.heard == ["runs 1"]
            printed = "".join(f"{number}\n" for number in range(1, 1001)).encode()
            assert (await step_log(client, tree, "makes")).startswith(printed)
            assert await step_log(client, tree, "uses") == b"1000\n"
            (artifact,) = (await client.artifacts(build.uid)).artifacts
            assert b"".join([piece async for piece in client.artifact(artifact.uid)]) == printed
            await nothing_left(yard.data / "worker")


async def _pieces() -> AsyncGenerator[bytes]:
    yield b"a packed folder"
    await asyncio.sleep(0)
