"""Kept folders: for whom they come back, what two savers leave, which go first, and where their bytes end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from buildyard.domain.access import SYSTEM, Actor, Visibility
from buildyard.domain.ids import ProjectId, Sha256
from buildyard.domain.retention import Bounds
from buildyard.domain.specs import CacheSpec
from buildyard.domain.states import Result
from buildyard.engine import collecting, files, projects
from buildyard.ports import BlobInfo
from buildyard.protocol import CacheFound, FindCache, Finished, JobGrant, OutputFile, SavedCache
from buildyard.store import kept
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction
from world import WORKER, Hand, World, job

LONG = 10 * 3600.0
CACHED = (CacheSpec(path=".cache"),)


async def stored(world: World, data: bytes) -> BlobInfo:
    """Bytes that a worker has sent."""

    async def stream() -> AsyncIterator[bytes]:
        yield data

    return await files.store_blob(world.engine, WORKER, stream())


async def found(world: World, grant: JobGrant, path: str = ".cache", key: str = "") -> CacheFound:
    """What a job is given for a cache."""
    wanted = FindCache(attempt=grant.attempt, token=grant.token, path=path, key=key)
    return await world.engine.run(files.find_cache, WORKER, wanted)


async def end(world: World, hand: Hand, grant: JobGrant, *data: bytes, key: str = "", **more: list[OutputFile]) -> None:
    """Report success, and these bytes as the contents of the cache."""
    blobs = [await stored(world, each) for each in data]
    caches = [SavedCache(path=".cache", key=key, sha256=blob.sha256, size=blob.size) for blob in blobs]
    finished = Finished(attempt=grant.attempt, token=grant.token, result=Result.SUCCESS, caches=caches, **more)
    acks = await hand.report(hand.started(grant), hand.step_started(grant, 1), finished)
    assert {ack.answer.name for ack in acks} == {"DONE"}
    hand.held.pop(grant.attempt)


async def run(world: World, hand: Hand, data: bytes, *, name: str = "a", project: Project | None = None) -> None:
    """A build that leaves a cache."""
    by = world.administrator
    pipeline = await world.define(job(name, caches=CACHED), project=project or world.project, by=by)
    await world.submit(pipeline=pipeline)
    await end(world, hand, await hand.take(), data)


async def another_project(world: World) -> Project:
    """A second project of the same owner."""
    return await world.engine.run(projects.create_project, world.owner, "bob", "other", visibility=Visibility.PRIVATE)


async def evict(world: World, *, limit: int = 10**9, project_limit: int = 10**9) -> int:
    """What the loop does, with these limits."""
    bounds = Bounds(0, 0, project_limit)
    return (await world.engine.run(collecting.drop_caches, SYSTEM, limit=limit, bounds=bounds)).count


async def cached(world: World, *of: Project) -> dict[str, int]:
    """The sizes of all caches, by project and step."""

    async def read(tx: Transaction, _actor: Actor) -> dict[str, int]:
        slugs = {project.id: project.slug for project in (world.project, *of)}
        return {f"{slugs[one.project]}/{one.scope}": one.size for one in await kept.oldest_caches(tx, 100)}

    return await world.engine.read(read, SYSTEM)


@pytest.mark.covers("engine.cache.restore")
async def test_a_cache_comes_back_to_the_same_step_of_the_same_project_and_to_no_other(world: World) -> None:
    hand, other = await world.hand(), await another_project(world)
    await run(world, hand, b"packed")
    blob = await stored(world, b"packed")
    specs = [job(name, caches=CACHED) for name in ("a", "b")]
    pipelines = [await world.define(*specs), await world.define(*specs, project=other)]
    for pipeline in pipelines:
        await world.submit(pipeline=pipeline)

    grants = {(grant.project, grant.spec.name): grant for grant in await hand.claim(4)}

    assert {where: (await found(world, grant)).sha256 for where, grant in grants.items()} == {
        ("hello", "a"): blob.sha256,
        ("hello", "b"): "",
        ("other", "a"): "",
        ("other", "b"): "",
    }
    assert (await found(world, grants["hello", "a"], path=".other")).sha256 == ""


@pytest.mark.covers("engine.cache.key")
async def test_caches_of_one_path_with_other_keys_lie_side_by_side(world: World) -> None:
    hand = await world.hand()
    pipeline = await world.define(job("a", caches=CACHED))
    for key in ("one", "two"):
        await world.submit(pipeline=pipeline)
        await end(world, hand, await hand.take(), key.encode(), key=key)
    await world.submit(pipeline=pipeline)

    grant = await hand.take()

    for key in ("one", "two"):
        assert (await found(world, grant, key=key)).sha256 == (await stored(world, key.encode())).sha256
    assert (await found(world, grant, key="three")).sha256 == ""


@pytest.mark.covers("engine.cache.concurrent")
async def test_two_savers_at_once_leave_one_whole_entry(world: World) -> None:
    one, two = await world.hand("one"), await world.hand("two")
    pipeline = await world.define(job("a", caches=CACHED))
    for round_ in range(5):
        for _ in range(2):
            await world.submit(pipeline=pipeline)
        left, right = await one.take(), await two.take()
        texts = [f"left {round_}".encode(), f"right {round_}, longer".encode()]

        await asyncio.gather(end(world, one, left, texts[0]), end(world, two, right, texts[1]))

        await world.submit(pipeline=pipeline)
        grant = await one.take()
        kept_now = await found(world, grant)
        assert b"".join([piece async for piece in world.engine.blobs.read(Sha256(kept_now.sha256))]) in texts
        assert await cached(world) == {"hello/a": kept_now.size}
        await end(world, one, grant)


@pytest.mark.covers("engine.cache.limits")
async def test_what_was_used_longest_ago_goes_first_until_each_limit_is_kept(world: World) -> None:
    hand, other = await world.hand(), await another_project(world)
    for name in ("old", "used", "new"):
        await run(world, hand, f"{name:10}".encode(), name=name)
        world.clock.advance(10)
    await run(world, hand, b"0123456789", name="elsewhere", project=other)
    world.clock.advance(10)
    await world.submit(job("used", caches=CACHED))
    await found(world, await hand.take())

    assert await evict(world) == 0
    assert await evict(world, project_limit=20) == 1
    assert await cached(world, other) == {"hello/used": 10, "hello/new": 10, "other/elsewhere": 10}
    assert await evict(world, limit=15) == 2
    assert await cached(world, other) == {"hello/used": 10}


@pytest.mark.covers("engine.cache.trust")
async def test_what_untrusted_work_left_is_never_found_by_trusted_work_nor_the_other_way(world: World) -> None:
    blobs = {trusted: await stored(world, b"trusted" if trusted else b"untrusted") for trusted in (True, False)}

    async def save(tx: Transaction, _actor: Actor, *, trusted: bool) -> None:
        await kept.save_cache(tx, project, **entry, trusted=trusted, sha256=blobs[trusted].sha256, size=9)

    async def find(tx: Transaction, _actor: Actor, *, trusted: bool) -> str:
        cache = await kept.find_cache(tx, project, **entry, trusted=trusted)
        return cache.sha256 if cache else ""

    project = ProjectId(world.project.id)
    entry = {"scope": "a", "path": ".cache", "key": ""}
    await world.engine.run(save, SYSTEM, trusted=False)
    assert await world.engine.read(find, SYSTEM, trusted=True) == ""

    await world.engine.run(save, SYSTEM, trusted=True)

    for trusted, blob in blobs.items():
        assert await world.engine.read(find, SYSTEM, trusted=trusted) == blob.sha256


@pytest.mark.covers("engine.artifacts.once")
async def test_the_same_bytes_are_stored_once_and_go_with_the_last_that_refers_to_them(world: World) -> None:
    hand = await world.hand()
    blob = await stored(world, b"the same")
    for name in ("one", "two"):
        await run(world, hand, b"the same", name=name)
        world.clock.advance(10)
    await stored(world, b"nothing refers to these")
    world.clock.advance(LONG)

    assert (await collecting.collect_blobs(world.engine)).count == 1
    await evict(world, limit=8)
    world.clock.advance(LONG)
    assert (await collecting.collect_blobs(world.engine)).count == 0
    assert await world.engine.blobs.size(blob.sha256) == 8

    await evict(world, limit=0)
    world.clock.advance(LONG)
    assert (await collecting.collect_blobs(world.engine)).count == 1
    assert not await world.engine.read(files.knows_blob, WORKER, blob.sha256)


@pytest.mark.covers("engine.artifacts.once")
async def test_bytes_that_an_artifact_holds_outlive_the_cache_of_the_same(world: World) -> None:
    hand = await world.hand()
    blob = await stored(world, b"the same")
    output = OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)
    await world.submit(job("a", caches=CACHED, outputs=("out",)))
    await end(world, hand, await hand.take(), b"the same", outputs=[output])

    await evict(world, limit=0)
    world.clock.advance(LONG)

    assert (await collecting.collect_blobs(world.engine)).count == 0
    assert await world.engine.blobs.size(blob.sha256) == blob.size
