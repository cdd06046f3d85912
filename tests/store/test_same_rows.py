"""The same story, told to both databases with the same clock and the same identifiers, leaves the same rows."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.bus.memory import MemoryBus
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.access import SYSTEM, Actor, Visibility
from buildyard.domain.ids import Sha256
from buildyard.domain.notifications import Action, Condition, Rule, WebhookTarget
from buildyard.domain.retention import NO_BOUNDS, Bounds, What
from buildyard.domain.specs import Approval, FolderSource, GitSource, LockSpec
from buildyard.domain.states import Result
from buildyard.engine import (
    audit,
    build_lists,
    builds,
    collecting,
    files,
    garbage,
    identity,
    images,
    loops,
    notifications,
    pipelines,
    projects,
    retention,
)
from buildyard.engine.engine import Database, Engine, Policy
from buildyard.engine.usage import UsageBook, compute_usage
from buildyard.protocol import FindCache, Finished, OutputFile, SavedCache
from buildyard.store.postgres import PostgresDatabase
from buildyard.store.sqlite import SqliteDatabase
from buildyard.store.statements import Statement
from buildyard.store.tables import metadata
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, WORKER, Clock, Hand, World, job, once, one_piece, settle_in

Rows = dict[str, list[tuple[object, ...]]]
NOT_TOLD = {"hash"}
"""Columns that hold what is random."""


async def dump(tx: Transaction, _actor: Actor) -> Rows:
    """All rows of all tables."""
    found: Rows = {}
    for table in metadata.sorted_tables:
        columns = [column for column in table.columns if column.name not in NOT_TOLD]
        keys = table.primary_key.columns
        rows = await tx.fetch(Statement(select(*columns).order_by(*keys)))
        found[table.name] = [tuple(row) for row in rows]
    return found


async def tell(world: World) -> list[object]:
    """A long story; gives what was read on the way."""
    engine, owner = world.engine, world.owner
    heard: list[object] = []
    hand = Hand(world, "w1", ("linux",), session="session-1", state_id="state")
    await hand.hello()
    public = await engine.run(projects.create_project, owner, "bob", "Über ß/ä", visibility=Visibility.PUBLIC)
    await engine.run(projects.create_project, owner, "bob", "hello")
    await engine.run(images.create_image, owner, slug="deb", url="docker://x/deb:12", public=False)
    hook = WebhookTarget(url="https://example.org/hook", started=True)
    means = notifications.Means(actions=(Action.WEBHOOK,), credentials=(), allow_local=False)
    for condition in (Condition.ALWAYS, Condition.CHANGED):
        rule = Rule(target=hook, condition=condition)
        await engine.run(notifications.add_notification, owner, world.project.uid, rule, means)
    folder = await files.store_blob(engine, WORKER, one_piece(b"folder"))
    graph = await world.define(
        job("a", outputs=("out",), labels=["linux"]),
        job("b", "a", retry=once(Result.FAILURE), priority=3),
        job("c", "b", allow_failure=True),
        job("d", "a", "c"),
        job("e"),
    )
    good = await world.submit(pipeline=graph, source=FolderSource(sha256=folder.sha256, size=folder.size))
    bad = await world.submit(pipeline=graph, source=GitSource(url="https://example.org/x.git", branch="main"))
    (first,) = await hand.claim(1)
    await hand.report(hand.started(first), hand.step_started(first, 1), hand.output(first, 1, b"text\nmore"))
    blob = await files.store_blob(engine, WORKER, one_piece(b"out"))
    outputs = [OutputFile(path="out", sha256=Sha256(blob.sha256), size=3, mode=0o644)]
    caches = [SavedCache(path="cache", key="k", sha256=blob.sha256, size=3)]
    await hand.report(
        hand.step_finished(first, 1),
        Finished(attempt=first.attempt, token=first.token, result=Result.SUCCESS, outputs=outputs, caches=caches),
    )
    hand.held.clear()
    world.clock.advance(7)
    for _ in range(2):
        for grant in await hand.claim(2):
            await hand.finish(grant, Result.FAILURE if grant.spec.name in "bc" else Result.SUCCESS)
            world.clock.advance(1.5)
    await hand.claim(1)
    world.clock.advance(31)
    heard.append(await world.expire())
    hand.held.clear()
    grants = await hand.claim(3)
    wanted = FindCache(attempt=grants[0].attempt, token=grants[0].token, path="cache", key="k")
    heard.append(await engine.run(files.find_cache, WORKER, wanted))
    heard.append((await world.cancel(bad, "enough")).build)
    heard.append(await hand.beat())
    await hand.restart()
    hand.session = "session-2"
    await hand.hello()
    again = await engine.run(builds.rebuild_build, owner, good.build.uid, reason="again", queue_limit=QUEUE_LIMIT)
    heard.append(await hand.run_all({"e": Result.TIMEOUT}))
    lock = (LockSpec(name="db"),)
    one, other = await world.submit(job("l", locks=lock)), await world.submit(job("l", locks=lock))
    heard.append(await hand.run_all())
    await world.submit(job("m", locks=lock), job("n", locks=lock), job("o", approval=Approval(roles=("admin",))))
    for view in (good, bad, again, one, other):
        heard.append(await world.jobs(view))
        heard.append(await world.build(view))
        heard.append(await engine.read(builds.list_artifacts, owner, view.build.uid))
    heard.append(await engine.read(builds.list_builds, owner, world.project.uid, limit=2, offset=1))
    heard.append(await engine.read(build_lists.list_visible_builds, owner, limit=5, offset=0))
    heard.append(await engine.read(build_lists.list_visible_builds, world.administrator, limit=5, offset=0))
    heard.append(await engine.read(audit.list_audit, owner, project_uid=public.uid, action=None, limit=9, offset=0))
    heard.append(
        await engine.read(
            audit.list_audit, world.administrator, project_uid=None, action="build.create", limit=9, offset=0
        )
    )
    heard.append(await engine.read(pipelines.list_pipelines, owner, world.project.uid))
    heard.append(await engine.read(projects.list_projects, owner))
    heard.append(
        await engine.read(notifications.list_deliveries, owner, world.project.uid, state=None, below=1000, limit=1000)
    )
    heard.append(await engine.read(images.list_images, owner, public=None))
    heard.append(await engine.read(identity.list_users, world.administrator))
    heard.append(await engine.read(compute_usage, SYSTEM))
    world.clock.advance(7200)
    heard.append(await engine.run(loops.mark_workers_gone, SYSTEM))
    heard.append(await engine.run(loops.drop_old_events, SYSTEM, keep=7215.0))
    heard.append(await engine.run(collecting.drop_caches, SYSTEM, limit=0, bounds=NO_BOUNDS))
    heard.append(await collecting.collect_blobs(engine))
    await engine.run(retention.set_rule, owner, world.project.uid, "", What.LOGS, Bounds(count=1))
    await engine.run(retention.set_rule, owner, world.project.uid, "", What.BUILDS, Bounds(count=4))
    for _ in range(2):
        heard.append(await garbage.collect_garbage(engine, SYSTEM))
        world.clock.advance(7200)
    return heard


async def told_to(database: Database, clock: Clock, folder: Path) -> tuple[list[object], Rows]:
    logs, blobs = LocalLogStore(folder / "logs"), LocalBlobStore(folder / "blobs")
    await blobs.open()
    engine = Engine(
        database=database,
        logs=logs,
        blobs=blobs,
        bus=MemoryBus(),
        policy=Policy(public_url=""),
        usage=UsageBook(),
    )
    world = await settle_in(engine, clock)
    heard = await tell(world)
    rows = await engine.read(dump, SYSTEM)
    await logs.close()
    return heard, rows


def numbered() -> Callable[[], str]:
    """Identifiers one after the other."""
    count = itertools.count()
    return lambda: f"00000000-0000-7000-8000-{next(count):012x}"


@pytest.mark.covers("proof.both_databases")
async def test_the_same_story_leaves_the_same_rows(sqlite_path: Path, postgres_url: str, tmp_path: Path) -> None:
    clock = Clock()
    sqlite = SqliteDatabase(sqlite_path, clock=clock, fresh_uid=numbered(), wake=lambda _topics: None)
    await sqlite.open()
    heard, rows = await told_to(sqlite, clock, tmp_path / "sqlite")
    await sqlite.close()
    clock = Clock()
    postgres = PostgresDatabase(postgres_url, clock=clock, fresh_uid=numbered(), wake=lambda _topics: None)
    await postgres.open()
    heard_there, rows_there = await told_to(postgres, clock, tmp_path / "postgres")
    await postgres.close()
    assert heard == heard_there
    for table, found in rows.items():
        assert found == rows_there[table], table
    empty = {table for table, found in rows.items() if not found}
    assert empty <= {
        "renames", "tokens", "groups", "group_builds", "build_access", "servers", "settings", "caches", "sessions",
            "triggers", "trigger_pipelines", "trigger_upstreams", "trigger_states", "ended_upstreams",
            "manifest_readings", "build_tags", "build_secrets", "subscriptions", "terminals",
            "changes", "evaluation_changes", "hook_deliveries",
        "log_removals", "test_result_sets", "test_results", "metrics", "delivery_attempts",
        "secrets", "secret_uses",
    }  # fmt: skip
