"""What goes by rule, what stays whatever the rules say, and that nothing half gone is left behind."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from buildyard.adapters.blobs.objects import ObjectBlobStore
from buildyard.adapters.object_store import connect_s3
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Forbidden, Gone, Invalid, NotFound, Unavailable
from buildyard.domain.ids import LogId, Sha256
from buildyard.domain.retention import Bounds, What
from buildyard.domain.specs import FolderSource, JobSpec
from buildyard.domain.states import Result
from buildyard.engine import builds, collecting, files, garbage, log_reading, retention, watching
from buildyard.engine.engine import Engine
from buildyard.ports import BlobStore
from buildyard.protocol import Finished, OutputFile
from buildyard.store import audit, kept, removing
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from buildyard.store.statements import Statement
from buildyard.store.tables import metadata
from buildyard.store.transactions import Transaction
from contracts.conftest import s3_url
from invariants import check_invariants
from world import WORKER, Hand, World, job, one_piece

__all__ = ["s3_url"]
DAY = 86_400.0
LONG = 2 * 3600.0
MAIN = job("main", outputs=("out",))


async def ended(
    world: World,
    hand: Hand,
    pipeline: Pipeline,
    result: Result = Result.SUCCESS,
    *,
    kept_bytes: bytes = b"",
    folder: bytes = b"",
) -> BuildView:
    """A finished build with a log, an artifact if it succeeded, and a source if one is given."""
    source = None
    if folder:
        info = await files.store_blob(world.engine, WORKER, one_piece(folder))
        source = FolderSource(sha256=info.sha256, size=info.size)
    view = await world.submit(pipeline=pipeline, source=source)
    grant = await hand.take()
    outputs = []
    if result is Result.SUCCESS and kept_bytes:
        blob = await files.store_blob(world.engine, WORKER, one_piece(kept_bytes))
        outputs = [OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)]
    await hand.report(
        hand.started(grant),
        hand.step_finished(grant, 0),
        hand.step_started(grant, 1),
        hand.output(grant, 1, f"log of {view.build.id}\n".encode()),
        hand.step_finished(grant, 1, result, None),
        Finished(attempt=grant.attempt, token=grant.token, result=result, outputs=outputs),
    )
    hand.held.clear()
    world.clock.advance(60)
    return await world.build(view)


async def rule(world: World, what: What, bounds: Bounds, pipeline: str = "") -> None:
    """Say what is kept."""
    await world.engine.run(retention.set_rule, world.owner, world.project.uid, pipeline, what, bounds)


async def collect(world: World, *, dry: bool = False) -> garbage.Progress:
    """All of `buildyard gc`."""
    total, cursor = garbage.Progress(), ""
    while True:
        done = await garbage.collect_garbage(world.engine, SYSTEM, cursor, dry=dry)
        for what, count in done.counts.items():
            total.add(what, count, done.sizes[what])
        if not (cursor := done.cursor):
            return total


async def remaining(world: World) -> list[int]:
    """The ids of the builds that there are, oldest first."""
    views, total = await world.engine.read(builds.list_builds, world.owner, world.project.uid, limit=100, offset=0)
    assert total == len(views)
    return sorted(view.build.id for view in views)


async def log_of(world: World, view: BuildView) -> LogId:
    """The log of a build's only step."""
    (found,) = (await world.jobs(view)).values()
    return LogId(found.attempts[-1].logs[-1].id)


async def rows(world: World) -> dict[str, int]:
    """How many rows each table has."""

    async def count(tx: Transaction, _actor: Actor) -> dict[str, int]:
        return {
            table.name: (await tx.fetch(Statement(select(func.count()).select_from(table))))[0][0]
            for table in metadata.sorted_tables
        }

    return await world.engine.read(count, SYSTEM)


async def references_are_right(tx: Transaction, _actor: Actor) -> None:
    """Each blob counts exactly the rows that name it."""
    blobs, artifacts = metadata.tables["blobs"], metadata.tables["artifacts"]
    caches, revisions = metadata.tables["caches"], metadata.tables["revisions"]
    for digest, references in await tx.fetch(Statement(select(blobs.c.sha256, blobs.c.references))):
        counted = 0
        for column in (artifacts.c.sha256, caches.c.sha256, revisions.c.source_blob):
            counted += (await tx.fetch(Statement(select(func.count()).where(column == digest))))[0][0]
        assert references == counted, digest


@pytest.mark.covers("engine.retention")
async def test_builds_beyond_each_bound_go_and_the_newest_success_stays(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(MAIN)
    results = [Result.SUCCESS, Result.FAILURE, Result.SUCCESS, Result.FAILURE, Result.FAILURE, Result.FAILURE]
    made = [(await ended(world, hand, pipeline, result)).build.id for result in results]
    world.clock.advance(3600)
    await rule(world, What.BUILDS, Bounds(count=2))

    assert (await collect(world, dry=True)).counts["builds"] == 3
    assert await remaining(world) == made
    assert (await collect(world)).counts["builds"] == 3
    assert await remaining(world) == [made[2], *made[4:]]

    newer = await ended(world, hand, pipeline)
    world.clock.advance(3600)
    await collect(world)
    assert await remaining(world) == [made[5], newer.build.id]

    await rule(world, What.BUILDS, Bounds(days=1, count=0))
    await collect(world)
    assert await remaining(world) == [made[5], newer.build.id]
    world.clock.advance(2 * DAY)
    await collect(world)
    assert await remaining(world) == [newer.build.id]
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("engine.retention")
async def test_a_removed_build_leaves_no_row_no_log_and_no_blob(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(MAIN)
    await ended(world, hand, pipeline, kept_bytes=b"newest", folder=b"newest source")
    before = await rows(world)
    doomed = [await ended(world, hand, pipeline, kept_bytes=b"kept %d" % n, folder=b"source %d" % n) for n in range(3)]
    logs = [await log_of(world, view) for view in doomed]
    await ended(world, hand, pipeline, kept_bytes=b"newest", folder=b"newest source")
    await rule(world, What.BUILDS, Bounds(count=1))
    world.clock.advance(LONG)

    taken = await collect(world)
    world.clock.advance(LONG)
    await collect(world)

    assert taken.counts["builds"] == 4
    told = {"events", "counters", "audit", "usage", "retention_rules", "settings"}
    after = await rows(world)
    assert {name: count for name, count in after.items() if name not in told and count != before[name]} == {}
    for view, log in zip(doomed, logs, strict=True):
        with pytest.raises(NotFound):
            await world.build(view)
        with pytest.raises(NotFound):
            await world.engine.logs.state(log)
    assert len(await world.engine.blobs.stored("", 100)) == after["blobs"] == 2
    await world.engine.read(references_are_right, SYSTEM)
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("engine.retention")
async def test_a_deleted_log_and_artifact_say_so_and_when(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(MAIN)
    view = await ended(world, hand, pipeline, kept_bytes=b"12345")
    await ended(world, hand, pipeline, kept_bytes=b"newest")
    log = await log_of(world, view)
    ((artifact, _),) = await world.engine.read(builds.list_artifacts, world.owner, view.build.uid)
    await rule(world, What.LOGS, Bounds(days=1))
    await rule(world, What.ARTIFACTS, Bounds(size=10))
    world.clock.advance(1.5 * DAY)

    taken = await collect(world)

    assert (taken.counts["logs"], taken.counts["artifacts"], taken.sizes["artifacts"]) == (2, 1, 5)
    with pytest.raises(Gone, match=r"deleted by retention on 20\d\d-\d\d-\d\dT"):
        await world.engine.read(watching.require_log, world.owner, log)
    with pytest.raises(Gone, match="the artifact was deleted by retention"):
        await world.engine.read(builds.get_artifact, world.owner, artifact.uid)
    ((shown, _),) = await world.engine.read(builds.list_artifacts, world.owner, view.build.uid)
    assert (shown.path, shown.size, shown.sha256, shown.removed_at) == ("out", 5, "", world.clock.now)
    (found,) = (await world.jobs(view)).values()
    whole = await world.engine.read(log_reading.get_job_log, world.owner, found.job.uid)
    sections = await log_reading.measure(world.engine, whole)
    text = b"".join([part async for part in log_reading.read_sections(world.engine, sections, 0, 10**6)])
    assert text.count(b"--- this log was deleted by retention on ") == 2
    with pytest.raises(NotFound):
        await world.engine.logs.state(log)
    await world.engine.read(references_are_right, SYSTEM)
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("engine.retention", "engine.retention.keep")
async def test_a_kept_build_loses_nothing_until_the_mark_is_taken_away(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(MAIN)
    view = await ended(world, hand, pipeline, kept_bytes=b"precious")
    for _ in range(2):
        await ended(world, hand, pipeline)
    for what in (What.BUILDS, What.LOGS, What.ARTIFACTS):
        await rule(world, what, Bounds(days=1))
    marked = await world.engine.run(retention.keep_build, world.owner, view.build.uid, keep=True, reason="a release")
    world.clock.advance(3 * DAY)

    assert marked.build.keep
    assert (await collect(world)).counts["builds"] == 1
    assert view.build.id in await remaining(world)
    await world.engine.read(watching.require_log, world.owner, await log_of(world, view))
    ((artifact, _),) = await world.engine.read(builds.list_artifacts, world.owner, view.build.uid)
    found = await world.engine.read(builds.get_artifact, world.owner, artifact.uid)
    assert b"".join([piece async for piece in world.engine.blobs.read(found.sha256)]) == b"precious"

    await world.engine.run(retention.keep_build, world.owner, view.build.uid, keep=False)
    await collect(world)
    assert view.build.id not in await remaining(world)


@pytest.mark.covers("engine.retention.keep")
async def test_logs_of_a_build_that_is_no_longer_kept_go_although_later_ones_went_before(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(MAIN)
    views = [await ended(world, hand, pipeline) for _ in range(4)]
    await rule(world, What.LOGS, Bounds(count=1))
    await world.engine.run(retention.keep_build, world.owner, views[1].build.uid, keep=True)
    world.clock.advance(DAY)

    assert (await collect(world)).counts["logs"] == 2 * 2
    assert "logs" not in (await collect(world)).counts
    await world.engine.run(retention.keep_build, world.owner, views[1].build.uid, keep=False)
    assert (await collect(world)).counts["logs"] == 2


@pytest.mark.covers("engine.retention")
async def test_unfinished_and_just_finished_builds_and_what_their_jobs_need_stay(world: World) -> None:
    hand = await world.hand()
    first: JobSpec = job("make", outputs=("out",))
    pipeline = await world.define(first, job("use", "make"))
    view = await world.submit(pipeline=pipeline)
    blob = await files.store_blob(world.engine, WORKER, one_piece(b"an input"))
    grant = await hand.take()
    outputs = [OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)]
    await hand.report(
        hand.started(grant), Finished(attempt=grant.attempt, token=grant.token, result=Result.SUCCESS, outputs=outputs)
    )
    hand.held.clear()
    for what in (What.BUILDS, What.LOGS, What.ARTIFACTS):
        await rule(world, what, Bounds(days=1))
    await world.define(MAIN)
    world.clock.advance(30 * DAY)
    await hand.hello()

    assert (await collect(world)).counts == {}

    grant = await hand.take()
    assert [one.sha256 for one in grant.inputs] == [blob.sha256]
    assert await world.engine.blobs.size(blob.sha256) == blob.size
    await hand.finish(grant, Result.FAILURE)
    await rule(world, What.BUILDS, Bounds(count=1))
    again = await world.submit(pipeline=pipeline)
    await hand.finish(await hand.take(), Result.FAILURE)
    assert "builds" not in (await collect(world)).counts
    world.clock.advance(3600)
    assert (await collect(world)).counts["builds"] == 1
    assert await remaining(world) == [again.build.id]
    assert view.build.id != again.build.id


@pytest.mark.covers("engine.retention.rules")
async def test_a_pipeline_may_say_otherwise_than_its_project_and_that_than_the_server(world: World) -> None:
    hand = await world.hand()
    engine = replace(world.engine, policy=replace(world.engine.policy, retention={What.LOGS: Bounds(9, 8, 7)}))
    pipeline = await world.define(MAIN)
    await rule(world, What.LOGS, Bounds(count=3))
    await rule(world, What.LOGS, Bounds(size=0), pipeline.slug)

    async def holds(slug: str = "") -> Bounds:
        found = await engine.read(retention.list_rules, world.owner, world.project.uid, slug, policy=engine.policy)
        return next(one.holds for one in found if one.what is What.LOGS)

    assert await holds() == Bounds(9, 3, 7)
    assert await holds(pipeline.slug) == Bounds(9, 3, 0)
    await rule(world, What.LOGS, Bounds())
    assert await holds(pipeline.slug) == Bounds(9, 8, 0)
    await rule(world, What.LOGS, Bounds(), pipeline.slug)
    assert await holds(pipeline.slug) == Bounds(9, 8, 7)

    with pytest.raises(Invalid, match="caches belong to a project"):
        await rule(world, What.CACHES, Bounds(days=1), pipeline.slug)
    with pytest.raises(NotFound, match="no pipeline"):
        await rule(world, What.LOGS, Bounds(days=1), "nope")
    entries, _ = await engine.read(_audit, world.owner, "retention.set")
    assert len(entries) == 4
    assert hand


async def _audit(tx: Transaction, _actor: Actor, action: str) -> tuple[list[audit.Entry], int]:
    return await audit.search(tx, project=None, action=action, limit=100, offset=0)


@pytest.mark.covers("engine.retention.rules")
async def test_caches_go_by_age_and_count_of_their_project(world: World) -> None:
    async def save(tx: Transaction, _actor: Actor, key: str, blob: str) -> None:
        await kept.save_cache(
            tx, world.project.id, scope="a", path="p", key=key, trusted=True, sha256=Sha256(blob), size=1
        )

    for key in ("one", "two", "three", "four"):
        blob = await files.store_blob(world.engine, WORKER, one_piece(key.encode()))
        await world.engine.run(save, SYSTEM, key, blob.sha256)
        world.clock.advance(DAY)
    await rule(world, What.CACHES, Bounds(count=3))
    assert (await collect(world, dry=True)).counts["caches"] == 1
    assert (await collect(world)).counts["caches"] == 1
    await rule(world, What.CACHES, Bounds(days=2))
    assert (await collect(world)).counts == {"caches": 1}


@pytest.mark.covers("engine.retention.crash")
async def test_whenever_a_sweep_dies_the_next_one_finishes_what_it_began(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(MAIN)
    views = [await ended(world, hand, pipeline, kept_bytes=b"kept %d" % n) for n in range(4)]
    logs = [await log_of(world, view) for view in views]
    world.clock.advance(LONG)
    engine = world.engine
    for view, log in zip(views[:2], logs[:2], strict=True):
        await engine.run(retention.lose, SYSTEM, view.build.id, What.BUILDS, settled=0)
        if view is views[1]:
            await engine.run(removing_some, SYSTEM, view, 2)
            await engine.logs.remove(log)  # dies between the bytes and the row
    await rule(world, What.BUILDS, Bounds(count=1))  # as if it had gone on to the third
    await engine.run(retention.lose, SYSTEM, views[2].build.id, What.LOGS, settled=0)

    for _ in range(2):
        world.clock.advance(LONG)
        await collect(world)

    assert await remaining(world) == [views[3].build.id]
    for log in logs[:3]:
        with pytest.raises(NotFound):
            await engine.logs.state(log)
    assert (await rows(world))["log_removals"] == 0
    assert len(await engine.blobs.stored("", 100)) == 1
    await engine.read(references_are_right, SYSTEM)
    await engine.read(check_invariants, SYSTEM)


async def removing_some(tx: Transaction, _actor: Actor, view: BuildView, most: int) -> bool:
    """A part of a removal."""
    return await removing.remove_rows(tx, view.build.id, most)


@pytest.mark.covers("engine.retention.crash")
async def test_a_build_of_many_rows_goes_in_many_small_transactions(world: World) -> None:
    hand = await world.hand()
    pipeline = await world.define(*(job(f"j{n}", steps=3) for n in range(40)))
    view = await world.submit(pipeline=pipeline)
    await hand.run_all()
    await world.submit(pipeline=pipeline)
    await hand.run_all()
    world.clock.advance(LONG)
    await world.engine.run(retention.lose, SYSTEM, view.build.id, What.BUILDS, settled=0)

    sizes = [sum((await rows(world)).values())]
    while not await world.engine.run(removing_some, SYSTEM, view, 30):
        sizes.append(sum((await rows(world)).values()))

    assert len(sizes) > 10
    assert max(a - b for a, b in itertools.pairwise(sizes)) <= 2 * 30
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("engine.retention.crash")
async def test_bytes_that_a_crash_left_without_a_row_are_found_and_removed(world: World) -> None:
    engine = world.engine
    known = await files.store_blob(engine, WORKER, one_piece(b"known"))
    lost = await engine.blobs.put(one_piece(b"the server died before it wrote the row"))
    half = await files.store_blob(engine, WORKER, one_piece(b"the server died when the bytes were gone"))
    world.clock.advance(LONG)
    assert await engine.run(collecting.doom_blob, SYSTEM, half.sha256, grace=3600.0)
    await engine.blobs.remove(half.sha256)
    await engine.run(files.touch_blob, SYSTEM, known)

    assert (await collecting.remove_orphans(engine)).count == 1
    assert [one.sha256 for one in await engine.blobs.stored("", 10)] == [known.sha256]
    with pytest.raises(NotFound):
        await engine.blobs.size(lost.sha256)

    world.clock.advance(collecting.kept.REMOVAL_S + 1)
    await engine.run(files.touch_blob, SYSTEM, known)
    world.clock.advance(1800)
    await engine.run(files.touch_blob, SYSTEM, known)
    world.clock.advance(1800)
    assert (await collecting.collect_blobs(engine)).count == 1
    assert (await rows(world))["blobs"] == 1
    again = await files.store_blob(engine, WORKER, one_piece(b"the server died before it wrote the row"))
    assert await engine.blobs.size(again.sha256) == again.size


@pytest.mark.covers("engine.retention.savers")
async def test_of_two_collectors_one_may_remove_a_blob_and_a_saver_meanwhile_is_told_to_send_again(
    world: World,
) -> None:
    engine = world.engine
    info = await files.store_blob(engine, WORKER, one_piece(b"same"))
    world.clock.advance(LONG)

    first, second = await asyncio.gather(
        *(engine.run(collecting.doom_blob, SYSTEM, info.sha256, grace=3600.0) for _ in range(2))
    )
    assert sorted([first, second]) == [False, True]
    with pytest.raises(Unavailable, match="send it again"):
        await files.store_blob(engine, WORKER, one_piece(b"same"))
    assert not await engine.read(files.knows_blob, WORKER, info.sha256)

    await engine.blobs.remove(info.sha256)
    await engine.run(collecting.forget_blob, SYSTEM, info.sha256, info.size)
    again = await files.store_blob(engine, WORKER, one_piece(b"same"))
    assert await engine.blobs.size(again.sha256) == 4


@pytest.fixture(params=["local", "s3"])
async def blobs(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> BlobStore:
    """A blob store of each kind."""
    if request.param == "local":
        return world.engine.blobs
    bucket = connect_s3(
        "buildyard", access_key_id="any", secret_access_key="any", endpoint=request.getfixturevalue("s3_url")
    )
    remote = ObjectBlobStore(bucket, tmp_path / "scratch", prefix=f"retention-{uuid4().hex}/")
    await remote.open()
    return remote


@pytest.mark.covers("engine.retention.savers")
async def test_savers_and_collectors_of_the_same_bytes_never_leave_a_row_without_bytes(
    world: World, blobs: BlobStore
) -> None:
    """Collectors that wait for nothing against savers that refer at once: what is referred to is there."""
    eager = replace(world.engine, blobs=blobs, policy=replace(world.engine.policy, blob_grace_seconds=-1.0))
    going = True

    async def refer(tx: Transaction, _actor: Actor, key: str, digest: Sha256) -> None:
        await kept.save_cache(tx, world.project.id, scope=key, path="p", key="", trusted=True, sha256=digest, size=4)

    async def let_go(tx: Transaction, _actor: Actor, key: str) -> None:
        cache = await kept.find_cache(tx, world.project.id, scope=key, path="p", key="", trusted=True)
        assert cache is not None
        await kept.drop_cache(tx, cache)

    async def save(key: str) -> int:
        saved = 0
        for _ in range(15):
            try:
                info = await files.store_blob(eager, WORKER, one_piece(b"same"))
                await eager.run(refer, SYSTEM, key, info.sha256)
            except Unavailable:
                continue
            saved += 1
            assert await eager.blobs.size(info.sha256) == 4, "a row refers to bytes that are not there"
            await eager.run(let_go, SYSTEM, key)
        return saved

    async def gather() -> None:
        while going:
            await collecting.collect_blobs(eager)
            await collecting.remove_orphans(eager)
            await asyncio.sleep(0)

    collectors = [asyncio.create_task(gather()) for _ in range(2)]
    try:
        await asyncio.gather(save("a"), save("b"))
    finally:
        going = False
        await asyncio.gather(*collectors)
    await world.engine.read(references_are_right, SYSTEM)


async def test_who_may_not_configure_may_set_no_rule_and_who_may_not_run_may_keep_nothing(world: World) -> None:
    stranger = await world.user("eve")
    view = await ended(world, await world.hand(), await world.define(MAIN))
    with pytest.raises(NotFound):
        await world.engine.run(retention.set_rule, stranger, world.project.uid, "", What.LOGS, Bounds(days=1))
    with pytest.raises(NotFound):
        await world.engine.run(retention.keep_build, stranger, view.build.uid, keep=True)
    with pytest.raises(Forbidden):
        await garbage.collect_garbage(world.engine, world.owner)
    with pytest.raises(Invalid, match="cursor"):
        await garbage.collect_garbage(world.engine, world.administrator, "nonsense")


def test_every_reference_to_what_retention_removes_has_an_index() -> None:
    """Deleting a row looks for what refers to it; without an index that reads a whole table."""
    removed = {"builds", "jobs", "attempts", "steps", "logs", "artifacts", "blobs", "evaluations", "revisions"}
    lacking = []
    for table in metadata.tables.values():
        firsts = {next(iter(index.columns)).name for index in table.indexes if index.columns}
        for constraint in table.constraints:
            columns = list(getattr(constraint, "columns", ()))
            if type(constraint).__name__ in ("PrimaryKeyConstraint", "UniqueConstraint") and columns:
                firsts.add(columns[0].name)
        lacking += [
            f"{table.name}.{key.parent.name}"
            for key in table.foreign_keys
            if key.column.table.name in removed and key.parent.name not in firsts
        ]
    assert lacking == []


@pytest.fixture
async def small(world: World, tmp_path: Path) -> Engine:
    """An engine that believes its disk to be low, whatever it is."""
    enough = 2**60
    return replace(world.engine, stored_in=str(tmp_path), policy=replace(world.engine.policy, tidy_disk_bytes=enough))


@pytest.mark.covers("engine.retention.disk")
async def test_on_a_disk_that_runs_low_caches_go_at_once_and_their_bytes_soon(world: World, small: Engine) -> None:
    async def save(tx: Transaction, _actor: Actor, digest: Sha256) -> None:
        await kept.save_cache(tx, world.project.id, scope="a", path="p", key="", trusted=True, sha256=digest, size=5)

    info = await files.store_blob(small, WORKER, one_piece(b"cache"))
    await small.run(save, SYSTEM, info.sha256)
    world.clock.advance(LONG)
    small.require_space()

    await garbage.Tidier(small).look()
    assert (await rows(world))["caches"] == 0
    assert await small.blobs.size(info.sha256) == 5

    world.clock.advance(collecting.SHORT_GRACE + 1)
    await garbage.Tidier(small).look()
    with pytest.raises(NotFound):
        await small.blobs.size(info.sha256)
