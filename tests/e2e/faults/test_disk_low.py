"""A small disk runs low: what may go goes by itself, and what was refused is taken again."""

import json
from pathlib import Path

import pytest

from buildyard.client.messages import Bounds, Build, NewRule
from buildyard.client.native import NativeClient
from buildyard.domain.errors import EngineError, Gone, LimitReached
from e2e.faults.disk import MIB, fill
from e2e.running import finished, http_get, script, served, submit, tree_when, working

VARIABLES = {
    "BUILDYARD_WORKERS": "0",
    "BUILDYARD_EXECUTOR": "process",
    "BUILDYARD_LIMIT_FREE_DISK": "8MiB",
    "BUILDYARD_LIMIT_TIDY_DISK": "24MiB",
    "BUILDYARD_KEEP_GRACE_MINUTES": "0",
    "BUILDYARD_KEEP_BLOB_GRACE_MINUTES": "0",
}


async def artifact_of(client: NativeClient, build: Build) -> int:
    """How many bytes of a build's file come."""
    (found,) = (await client.artifacts(build.uid)).artifacts
    return sum([len(piece) async for piece in client.artifact(found.uid)])


async def taken_again(client: NativeClient) -> Build:
    """A build, submitted until the server takes it: it looks at the disk every few seconds."""
    build: Build | None = None
    while build is None:
        try:
            build = await submit(client, after=script("a", "true"))
        except LimitReached:
            await client.builds()
    return build


@pytest.mark.covers("engine.retention.disk", "engine.limits.queue")
async def test_what_the_rules_let_go_goes_at_once_and_new_work_is_taken_again(small_disk: Path, tmp_path: Path) -> None:
    async with served(small_disk, **VARIABLES) as yard:
        client = yard.client()
        async with working(yard.url, await yard.token("runner"), tmp_path / "worker", "roomy"):
            made = []
            for number in range(3):
                words = f"head -c {6 * MIB} /dev/urandom > kept{number}"
                made.append(await submit(client, make=script("m", words, outputs=[f"kept{number}"])))
                await finished(client, made[-1])
            fill(small_disk, leave=4 * MIB)
            with pytest.raises(LimitReached, match="disk is nearly full"):
                await submit(client, refused=script("r", "true"))
            assert await artifact_of(client, made[0]) == 6 * MIB

            await client.set_rule("e2e", NewRule(what="artifacts", bounds=Bounds(count=1)))
            after = await taken_again(client)
            await tree_when(client, after, lambda tree: tree.build.result == "success")

            for build in made[:2]:
                with pytest.raises(Gone, match="deleted by retention"):
                    await artifact_of(client, build)
            assert await artifact_of(client, made[2]) == 6 * MIB
            head, body = await http_get(f"{yard.url}/health")
            found = json.loads(body)
            assert (head[:12], found["disk"]["level"]) == ("HTTP/1.1 200", "low")
            assert found["disk"]["free_bytes"] > 8 * MIB
            _, metrics = await http_get(f"{yard.url}/metrics")
            assert b"buildyard_disk_level 1.0" in metrics
            assert b'buildyard_removed_bytes{what="artifacts"} 1.2582912e+07' in metrics

            (small_disk / "ballast").unlink()
            _, body = await http_get(f"{yard.url}/health")
            assert json.loads(body)["disk"]["level"] == "ok"
            with pytest.raises(EngineError):
                await artifact_of(client, made[0])
