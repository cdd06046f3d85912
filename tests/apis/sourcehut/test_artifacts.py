"""Kept files at their addresses: by range, as attachments, for those who may see the job."""

import asyncio
from pathlib import Path

import pytest

from apis.sourcehut.serving import Site
from buildyard.apis.sourcehut.addresses import artifact_url
from buildyard.domain.access import SYSTEM
from buildyard.domain.retention import Bounds, What
from buildyard.domain.states import Result
from buildyard.engine import builds, files, garbage, retention
from buildyard.protocol import Finished, OutputFile
from buildyard.store.builds import BuildView
from buildyard.store.kept import Artifact
from world import WORKER, World, job, one_piece


async def kept(world: World, path: str, data: bytes) -> tuple[BuildView, Artifact]:
    """A finished build with one artifact."""
    view = await world.submit(job("a"))
    hand = await world.hand()
    grant = await hand.take()
    blob = await files.store_blob(world.engine, WORKER, one_piece(data))
    outputs = [OutputFile(path=path, sha256=blob.sha256, size=blob.size, mode=0o644)]
    await hand.report(
        hand.started(grant),
        hand.step_started(grant, 1),
        hand.step_finished(grant, 1),
        Finished(attempt=grant.attempt, token=grant.token, result=Result.SUCCESS, outputs=outputs),
    )
    ((artifact, _),) = await world.engine.read(builds.list_artifacts, world.owner, view.build.uid)
    return view, artifact


@pytest.mark.covers("sourcehut: GET /logs/:id/artifacts/:uid/:name", "sourcehut.artifacts")
async def test_an_artifact_is_read_by_its_address_whole_and_by_range(site: Site, tmp_path: Path) -> None:
    view, artifact = await kept(site.world, "dist/ä b.html", b"<script>" * 1000)
    address, owner = artifact_url(site.url, view.build.id, artifact.uid, artifact.path), site.world.owner

    whole = await site.get(address, by=owner)
    assert (whole.status, whole.data) == (200, b"<script>" * 1000)
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-disposition"] == "attachment; filename=\"__b.html\"; filename*=UTF-8''%C3%A4%20b.html"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in whole.headers["content-security-policy"]
    part = await site.get(address, by=owner, Range="bytes=7990-", If_Range=whole.headers["etag"])
    assert (part.status, part.data, part.headers["content-range"]) == (206, b"t><script>", "bytes 7990-7999/8000")
    beyond = await site.get(address, by=owner, Range="bytes=8000-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */8000")
    assert (await site.get(address, by=owner, method="HEAD")).headers["content-length"] == "8000"
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--fail", "-OJ", "-H", f"Authorization: token {await site.token(owner)}", address),
        cwd=tmp_path,
    )
    assert await process.wait() == 0
    assert [path.read_bytes() for path in saved_in(tmp_path)] == [whole.data]


def saved_in(folder: Path) -> list[Path]:
    """The files that a client saved."""
    return [path for path in folder.iterdir() if path.name.endswith("b.html")]


@pytest.mark.covers("sourcehut.artifacts.access")
async def test_an_artifact_is_hidden_from_strangers_and_says_when_it_was_removed(site: Site) -> None:
    world = site.world
    view, artifact = await kept(world, "out", b"bytes")
    address = artifact_url(site.url, view.build.id, artifact.uid, artifact.path)
    eve = await world.user("eve")

    assert [(await site.get(address, by=by)).status for by in (None, eve, world.owner)] == [404, 404, 200]
    other = artifact_url(site.url, view.build.id + 1, artifact.uid, artifact.path)
    assert (await site.get(other, by=world.owner)).status == 404
    assert (await site.get(f"/logs/{view.build.id}/artifacts/x/out", by=world.owner)).status == 404

    await world.engine.run(retention.set_rule, world.owner, world.project.uid, "", What.ARTIFACTS, Bounds(days=1))
    world.clock.advance(3 * 86400)
    again = await world.engine.run(builds.rebuild_build, world.owner, view.build.uid, reason="", queue_limit=9)
    assert await (await world.hand("w2")).run_all() == ["a"]
    assert await world.result(again) is Result.SUCCESS  # the newest success loses nothing
    await garbage.collect_garbage(world.engine, SYSTEM, "", dry=False)
    gone = await site.get(address, by=world.owner)
    assert (gone.status, "deleted by retention" in gone.text) == (410, True)
