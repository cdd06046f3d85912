"""Taking yard files into force, one after the other, on both databases."""

import asyncio
from pathlib import Path

import pytest

from buildyard.bootstrap.yard import load_yard
from buildyard.domain.access import SYSTEM, Actor, Visibility
from buildyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from buildyard.domain.specs import PipelineSpec
from buildyard.domain.yard import Yard
from buildyard.engine import builds, identity, pipelines, projects, triggers
from buildyard.engine.builds import Submission
from buildyard.engine.yard import apply_yard
from buildyard.engine.yard_book import YardBook, look_at_yard, take_yard
from buildyard.store import pipelines as stored_pipelines
from buildyard.store import projects as stored_projects
from buildyard.store.pipelines import Pipeline
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, World, job

FIRST = """\
projects:
  site:
    pipelines:
      build:
        source: {git: https://example.org/site.git, branch: main}
        jobs: {make: {run: make}}
        triggers: [cron: "0 3 * * *", manual: {name: force}]
      docs: {jobs: {docs: {run: make docs}}, triggers: [upstream: {pipeline: build}]}
workers: {w1: {password_file: w1.secret, labels: [linux]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w1.secret").write_text("a-secret-of-24-characters\n")
    return tmp_path


def book(folder: Path, text: str) -> YardBook:
    path = folder / "yard.yml"
    path.write_text(text)
    return YardBook(path=str(path), load=lambda: load_yard(path, allow_local=False))


def yard(folder: Path, text: str) -> Yard:
    path = folder / "yard.yml"
    path.write_text(text)
    return load_yard(path, allow_local=False)


async def take(world: World, folder: Path, text: str) -> list[str]:
    """What taking this text into force changed."""
    changes = await world.engine.run(apply_yard, SYSTEM, yard(folder, text))
    return [f"{one.act} {one.kind} {one.name}" for one in changes]


async def pipeline_of(tx: Transaction, _actor: Actor, project: str, slug: str) -> Pipeline:
    found = await stored_projects.find_by_slug(tx, project)
    assert found is not None
    pipeline = await stored_pipelines.find_by_slug(tx, found.id, slug)
    assert pipeline is not None
    return pipeline


@pytest.mark.covers("yard.apply", "yard.schema")
async def test_a_first_file_makes_all_that_it_names_and_again_nothing(world: World, folder: Path) -> None:
    assert await take(world, folder, FIRST) == [
        "add project site",
        "add pipeline site/build",
        "add pipeline site/docs",
        "add trigger site-build-cron",
        "add trigger force",
        "add trigger site-docs-upstream",
        "add worker w1",
    ]
    assert await take(world, folder, FIRST) == []

    project = await world.engine.read(projects.find_project, SYSTEM, "site")
    assert project is not None
    assert (project.visibility, project.account_name) == (Visibility.PUBLIC, "admin")
    shown = await world.engine.read(triggers.list_triggers, SYSTEM, "site")
    assert [(one.trigger.name, one.pipelines, one.state.next_at is None) for one in shown] == [
        ("site-build-cron", ("build",), False),
        ("force", ("build",), True),
        ("site-docs-upstream", ("docs",), True),
    ]


@pytest.mark.covers("yard.apply")
async def test_what_did_not_change_keeps_its_version_and_what_is_gone_is_disabled(world: World, folder: Path) -> None:
    await take(world, folder, FIRST)
    before = await world.engine.read(pipeline_of, SYSTEM, "site", "build")
    docs = await world.engine.read(pipeline_of, SYSTEM, "site", "docs")
    project = await world.engine.read(projects.find_project, SYSTEM, "site")
    assert project is not None
    old = await world.engine.run(
        builds.submit_build, SYSTEM, project.uid, docs.uid, Submission(), queue_limit=QUEUE_LIMIT
    )
    second = FIRST.replace("    pipelines:", "    name: The site\n    private: true\n    pipelines:").partition(
        "      docs:"
    )

    assert await take(world, folder, second[0]) == [
        "change project site",
        "disable pipeline site/docs",
        "disable trigger site-docs-upstream",
        "disable worker w1",
    ]
    after = await world.engine.read(pipeline_of, SYSTEM, "site", "build")
    assert (after.latest_version, after.disabled_at) == (before.latest_version, None)
    assert (await world.engine.read(builds.get_build, SYSTEM, old.build.uid)).build.pipeline == docs.id
    for again in (
        lambda: world.engine.run(builds.rebuild_build, SYSTEM, old.build.uid, reason="", queue_limit=QUEUE_LIMIT),
        lambda: world.engine.run(
            builds.submit_build, SYSTEM, project.uid, docs.uid, Submission(), queue_limit=QUEUE_LIMIT
        ),
    ):
        with pytest.raises(Conflict, match="the workflow docs is disabled: yard file no longer has it"):
            await again()

    assert await take(
        world, folder, FIRST.replace("make docs", "make -C docs").replace("branch: main", "branch: dev")
    ) == [
        "change project site",
        "change pipeline site/build",
        "enable pipeline site/docs",
        "enable trigger site-docs-upstream",
        "change worker w1",
    ]
    assert (await world.engine.read(pipeline_of, SYSTEM, "site", "docs")).latest_version != docs.latest_version


@pytest.mark.covers("yard.owner")
async def test_a_file_takes_over_nothing_that_others_made(world: World, folder: Path) -> None:
    await take(world, folder, FIRST)
    site = await world.engine.read(projects.find_project, SYSTEM, "site")
    assert site is not None
    await world.engine.run(
        pipelines.create_pipeline, SYSTEM, site.uid, "own", PipelineSpec(jobs=(job("a"),)), defined_by="test"
    )
    text = FIRST + "  w2: {password_file: w2.secret}\n"
    text = text.replace("workers:", "  hello: {}\n  bob: {}\nworkers:").replace("      docs:", "      own:")
    text = text.replace("{w1: {password_file: w1.secret, labels: [linux]}}", "\n  w1: {password_file: w1.secret}")
    admin = await world.engine.read(identity.actor_of_user, SYSTEM, "admin")
    secret = (await world.engine.run(identity.create_token, admin, "admin", ("runner",), name="mine")).secret
    (folder / "w2.secret").write_text(secret)

    with pytest.raises(Invalid) as raised:
        await take(world, folder, text)

    assert {fault.path for fault in raised.value.faults} == {
        "projects.hello", "projects.bob", "projects.site.pipelines.own", "workers.w2.password_file",
    }  # fmt: skip
    assert await take(world, folder, FIRST) == []


@pytest.mark.covers("yard.owner")
async def test_other_apis_cannot_change_what_a_file_defined(world: World, folder: Path) -> None:
    await take(world, folder, FIRST)
    site = await world.engine.read(projects.find_project, SYSTEM, "site")
    assert site is not None

    with pytest.raises(Forbidden, match="was defined by yard file; change it there"):
        await world.engine.run(
            pipelines.define_pipeline, SYSTEM, site.uid, "build", PipelineSpec(jobs=(job("a"),)), defined_by="run"
        )


@pytest.mark.covers("yard.workers")
async def test_the_secret_of_a_worker_fixes_its_labels_and_can_be_changed(world: World, folder: Path) -> None:
    await take(world, folder, FIRST)
    first = "a-secret-of-24-characters"
    assert (await world.engine.read(identity.actor_of_token, SYSTEM, first)).only_project is None
    assert await world.engine.read(identity.fixed_labels, SYSTEM, f"Bearer {first}") == ("linux",)

    (folder / "w1.secret").write_text("another-secret-of-24-chars")
    text = FIRST.replace("labels: [linux]", "labels: [arm], project: site")
    assert await take(world, folder, text) == ["add worker w1", "disable worker w1"]
    assert not await world.engine.read(identity.is_valid_token, SYSTEM, first)
    assert (await world.engine.read(identity.actor_of_token, SYSTEM, "another-secret-of-24-chars")).only_project
    (folder / "w1.secret").write_text(first)
    await take(world, folder, FIRST)
    assert await world.engine.read(identity.is_valid_token, SYSTEM, first)


@pytest.mark.covers("yard.reload", "yard.apply")
async def test_a_bad_file_changes_nothing_and_the_old_one_stays_in_force(world: World, folder: Path) -> None:
    kept = book(folder, FIRST)
    await take_yard(world.engine, SYSTEM, kept)
    book(folder, FIRST.replace("run: make}", "run: [make]}"))

    with pytest.raises(Invalid, match=r"yard\.yml has faults"):
        await take_yard(world.engine, SYSTEM, kept)
    status = await look_at_yard(world.engine, SYSTEM, kept)
    assert (kept.problem, kept.current) == ("yard.yml has faults", yard(folder, FIRST))
    book(folder, FIRST.replace("site:", "hello:"))
    with pytest.raises(Invalid, match="the yard file cannot take effect"):
        await take_yard(world.engine, SYSTEM, kept)

    assert [fault.path for fault in status.faults] == ["projects.site.pipelines.build.jobs.make.run"]
    assert await take(world, folder, FIRST) == []


@pytest.mark.covers("yard.command")
async def test_looking_shows_what_would_change_and_changes_nothing(world: World, folder: Path) -> None:
    looked = await look_at_yard(world.engine, SYSTEM, book(folder, FIRST))

    assert len(looked.changes) == 7
    assert await world.engine.read(projects.find_project, SYSTEM, "site") is None
    for who in (world.owner,):
        with pytest.raises(Forbidden):
            await look_at_yard(world.engine, who, book(folder, FIRST))
        with pytest.raises(Forbidden):
            await take_yard(world.engine, who, book(folder, FIRST))
    with pytest.raises(NotFound, match="BUILDYARD_YARD"):
        await take_yard(world.engine, SYSTEM, YardBook())


@pytest.mark.covers("yard.apply")
async def test_servers_that_take_the_same_file_at_once_make_it_once(world: World, folder: Path) -> None:
    wanted = yard(folder, FIRST)
    made = await asyncio.gather(*(world.engine.run(apply_yard, SYSTEM, wanted) for _ in range(4)))

    assert sorted(len(changes) for changes in made) == [0, 0, 0, 7]
