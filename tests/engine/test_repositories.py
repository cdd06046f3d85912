"""Repositories with manifests: what is pushed is read at its commit and built, once, whoever dies."""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from buildyard.adapters.sources.git_files import ManifestReader
from buildyard.bootstrap.yard import load_yard
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Conflict, Unavailable
from buildyard.domain.manifest_files import FoundManifests
from buildyard.domain.pushes import Commit, PullRequestEvent, PushEvent
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Cause, Phase, Result
from buildyard.engine import builds as build_cases
from buildyard.engine.engine import Engine
from buildyard.engine.manifest_readings import LEASE_S, MOST_TRIES, find_due, keep_reading, read_one, take_turn
from buildyard.engine.receiving import Delivery, Received, receive_delivery
from buildyard.engine.yard import apply_yard
from buildyard.store import build_tags, changes, notifications, pipelines, projects
from buildyard.store.builds import BuildView
from buildyard.store.notifications import Notification
from buildyard.store.statements import Statement, given
from buildyard.store.tables import pipeline_versions
from buildyard.store.transactions import Transaction
from contracts.sources.serving import Repository
from needs import need_program
from world import QUEUE_LIMIT, World

TEXT = Statement(select(pipeline_versions.c.text).where(pipeline_versions.c.id == given("key")))
YARD = """
projects:
  site:
    pipelines:
      ci:
        source: {{git: "{url}", branch: main}}
        manifests: true
        notify: [{{email: [ada@example.org], on: always}}]
        triggers:
          - push: {{branches: ["**"], cancel_superseded: {supersede}}}
          - pull_request: {{}}
"""
MANIFEST = """# built on every push
image: alpine/edge
sources:
  - {url} # here
tasks:
  - test: make check
"""


@dataclass
class Scene:
    """A repository, a pipeline that reads it, and what a server does about it."""

    world: World
    engine: Engine
    repository: Repository
    reader: ManifestReader

    async def push(self, commit: str, *, branch: str = "main", key: str = "") -> Received:
        event = PushEvent(
            repository=(self.repository.url,),
            branch=branch,
            after=commit,
            commits=(Commit(id=commit, message="Say hello\n\nAt last.", author="Ada <ada@example.org>"),),
            sender="ada",
        )
        return await self.told(event, key or commit)

    async def told(self, event: PushEvent | PullRequestEvent, key: str) -> Received:
        delivery = Delivery(hook="main", key=key, event="push")
        return await self.engine.run(receive_delivery, SYSTEM, delivery, [event], queue_limit=QUEUE_LIMIT)

    async def due(self) -> list[int]:
        return (await self.engine.read(find_due, SYSTEM, 100))[0]

    async def read(self) -> int:
        """Read all that is due; how many builds that made."""
        made = 0
        while due := await self.due():
            for key in due:
                made += await read_one(self.engine, self.reader.read, key)
        return made

    async def builds(self) -> list[BuildView]:
        project = await self.engine.read(project_of, SYSTEM)
        found, _ = await self.engine.read(
            build_cases.list_builds, self.world.administrator, project, limit=100, offset=0
        )
        return sorted(found, key=lambda view: view.build.id)


async def project_of(tx: Transaction, _actor: Actor) -> str:
    project = await projects.find_by_slug(tx, "site")
    assert project is not None
    return project.uid


async def facts_of(tx: Transaction, _actor: Actor, view: BuildView) -> tuple[str, tuple[str, ...], str]:
    """The name of a build's pipeline, its tags and its manifest."""
    pipeline = await pipelines.get(tx, view.build.pipeline)
    tags = (await build_tags.of_builds(tx, [view.build.id]))[view.build.id]
    row = await tx.fetch_one(TEXT, key=view.build.pipeline_version)
    assert row is not None
    return pipeline.slug, tags, str(row[0])


async def rules_of(tx: Transaction, _actor: Actor, view: BuildView) -> list[Notification]:
    return await notifications.of_project(tx, view.build.project, 100)


async def changes_of(tx: Transaction, _actor: Actor, view: BuildView) -> list[str]:
    return [one.committer for one in await changes.of_evaluation(tx, view.build.evaluation)]


@pytest.fixture
async def scene(world: World, tmp_path: Path) -> Scene:
    return await made_scene(world, tmp_path)


@pytest.fixture
async def sqlite_scene(sqlite_world: World, tmp_path: Path) -> Scene:
    return await made_scene(sqlite_world, tmp_path)


async def made_scene(world: World, folder: Path, *, supersede: bool = False) -> Scene:
    need_program("git")
    repository = Repository(folder / "hello.git")
    repository.folder.mkdir(parents=True)
    repository.git("init", "-q", "-b", "main")
    repository.commit("readme", "hello")
    engine = replace(world.engine, policy=replace(world.engine.policy, allow_local_sources=True))
    path = folder / "yard.yml"
    path.write_text(YARD.format(url=repository.url, supersede=str(supersede).lower()))
    await engine.run(apply_yard, SYSTEM, load_yard(path, allow_local=True))
    return Scene(world, engine, repository, ManifestReader(folder / "mirrors", SourcePolicy(allow_local=True)))


def manifest(scene: Scene, more: str = "") -> str:
    return MANIFEST.format(url=scene.repository.url) + more


@pytest.mark.covers("sourcehut.repositories")
async def test_a_push_builds_the_manifest_at_its_commit(scene: Scene) -> None:
    commit = scene.repository.commit(".build.yml", manifest(scene))
    scene.repository.commit(".build.yml", "later: nonsense")

    received = await scene.push(commit)
    made = await scene.read()

    assert received.message == "branch main: site-ci-push reads the manifests"
    assert made == 1
    (view,) = await scene.builds()
    slug, tags, text = await scene.engine.read(facts_of, SYSTEM, view)
    assert (slug, tags) == ("ci", ("hello",))
    assert text == manifest(scene).replace(scene.repository.url, f"{scene.repository.url}#{commit}")
    assert view.build.note == "Say hello — Ada <ada@example.org>"
    assert view.revision is not None
    assert (view.revision.commit, view.revision.branch) == (commit, "main")
    assert await scene.engine.read(changes_of, SYSTEM, view) == ["ada"]
    hand = await scene.world.hand()
    (grant,) = await hand.claim()
    assert grant.git is None
    assert [(one.folder, one.git.commit) for one in grant.spec.sources] == [("hello", commit)]
    assert grant.spec.environment["GIT_REF"] == "refs/heads/main"


@pytest.mark.covers("sourcehut.repositories")
async def test_each_file_has_a_pipeline_and_at_most_four_are_built(scene: Scene) -> None:
    for name in ("b", "a", "e", "d", "c"):
        commit = scene.repository.commit(f".builds/{name}.yml", manifest(scene))
    scene.repository.commit(".builds/readme.md", "no manifest")

    await scene.push(commit)
    await scene.read()

    facts = [(await scene.engine.read(facts_of, SYSTEM, view))[:2] for view in await scene.builds()]
    assert facts == [(f"ci-{name}", ("hello", name)) for name in "abcd"]
    (view, *_) = await scene.builds()
    assert "There are 5 manifests; only the first 4 by name are built." in view.build.note
    rules = await scene.engine.read(rules_of, SYSTEM, view)
    assert len(rules) == 5
    assert len({rule.rule for rule in rules}) == 1


@pytest.mark.covers("sourcehut.repositories")
async def test_one_file_in_the_root_wins_over_the_folder(sqlite_scene: Scene) -> None:
    sqlite_scene.repository.commit(".builds/other.yml", manifest(sqlite_scene))
    commit = sqlite_scene.repository.commit(".build.yml", manifest(sqlite_scene))

    await sqlite_scene.push(commit)

    assert await sqlite_scene.read() == 1


@pytest.mark.covers("sourcehut.repositories")
async def test_what_is_wrong_with_a_manifest_is_a_failed_build_that_says_so(scene: Scene) -> None:
    commit = scene.repository.commit(".build.yml", "image: alpine\ntasks:\n  - Bad Name: x\nsources: 7\n")

    await scene.push(commit)
    await scene.read()

    (view,) = await scene.builds()
    state = view.build.state
    assert (state.phase, state.result, state.cause) == (Phase.FINISHED, Result.ERROR, Cause.CONFIGURATION)
    assert ".build.yml has faults" in state.detail
    assert "Task name 'Bad Name' is invalid" in state.detail
    assert "sources" in state.detail
    assert state.detail in view.build.note
    with pytest.raises(Conflict, match="nothing to run"):
        await scene.engine.run(
            build_cases.rebuild_build,
            scene.world.administrator,
            view.build.uid,
            reason="again",
            queue_limit=QUEUE_LIMIT,
        )


@pytest.mark.covers("sourcehut.repositories")
@pytest.mark.parametrize("content", [b"x" * 20_000, b"\xff\xfe"], ids=["too large", "no text"])
async def test_a_file_that_cannot_be_read_is_said(sqlite_scene: Scene, content: bytes) -> None:
    (sqlite_scene.repository.folder / ".build.yml").write_bytes(content)
    commit = sqlite_scene.repository.commit("other")

    await sqlite_scene.push(commit)
    await sqlite_scene.read()

    (view,) = await sqlite_scene.builds()
    assert "must be text in UTF-8 of less than 16384 bytes" in view.build.state.detail


@pytest.mark.covers("sourcehut.repositories")
async def test_a_link_is_no_manifest(sqlite_scene: Scene) -> None:
    (sqlite_scene.repository.folder / ".build.yml").symlink_to("/etc/passwd")
    commit = sqlite_scene.repository.commit("other")

    await sqlite_scene.push(commit)

    assert await sqlite_scene.read() == 0
    assert await sqlite_scene.due() == []


@pytest.mark.covers("sourcehut.repositories")
async def test_a_missing_secret_is_a_failed_build(sqlite_scene: Scene) -> None:
    commit = sqlite_scene.repository.commit(".build.yml", manifest(sqlite_scene, "secrets: [deploy]\n"))

    await sqlite_scene.push(commit)
    await sqlite_scene.read()

    (view,) = await sqlite_scene.builds()
    assert view.build.state.cause is Cause.CONFIGURATION
    assert "there is no secret deploy" in view.build.state.detail


@pytest.mark.covers("sourcehut.repositories")
async def test_a_manifest_may_refuse_pushes(sqlite_scene: Scene) -> None:
    rule = "submitter: {git.sr.ht: {allow-refs: [refs/heads/main]}}\n"
    commit = sqlite_scene.repository.commit(".build.yml", manifest(sqlite_scene, rule))
    sqlite_scene.repository.git("branch", "other")

    await sqlite_scene.push(commit, branch="other", key="1")
    refused = await sqlite_scene.read()
    await sqlite_scene.push(commit, branch="main", key="2")
    taken = await sqlite_scene.read()

    assert (refused, taken) == (0, 1)


def fork_of(scene: Scene) -> PullRequestEvent:
    """A pull request of a stranger who changed the manifest."""
    base = scene.repository.commit(".build.yml", manifest(scene))
    scene.repository.git("checkout", "-q", "-b", "theirs")
    head = scene.repository.commit(".build.yml", manifest(scene).replace("make check", "rm -rf /"))
    scene.repository.git("update-ref", "refs/pull/7/head", head)
    scene.repository.git("checkout", "-q", "main")
    scene.repository.git("branch", "-qD", "theirs")
    assert base != head
    return PullRequestEvent(
        repository=(scene.repository.url,),
        number=7,
        head_commit=head,
        head_branch="theirs",
        base_branch="main",
        fetch_ref="refs/pull/7/head",
        is_fork=True,
        title="Better checks",
        sender="mallory",
    )


@pytest.mark.covers("sourcehut.repositories")
async def test_a_fork_is_built_as_the_base_branch_says_after_an_approval_without_secrets(scene: Scene) -> None:
    pull = fork_of(scene)

    await scene.told(pull, "pull")
    await scene.read()

    (view,) = await scene.builds()
    _, _, text = await scene.engine.read(facts_of, SYSTEM, view)
    assert "make check" in text
    assert f"{scene.repository.url}#{pull.head_commit}" in text
    assert (view.build.trusted, view.build.state.phase) == (False, Phase.WAITING)
    assert view.build.note == "Better checks — mallory"
    assert view.revision is not None
    assert (view.revision.commit, view.revision.branch) == (pull.head_commit, "refs/pull/7/head")


@pytest.mark.covers("sourcehut.repositories")
async def test_a_newer_push_takes_the_place_of_the_older_one(sqlite_world: World, tmp_path: Path) -> None:
    scene = await made_scene(sqlite_world, tmp_path, supersede=True)
    first = scene.repository.commit(".build.yml", manifest(scene))
    second = scene.repository.commit(".build.yml", manifest(scene, "# more\n"))

    await scene.push(first)
    await scene.push(second)
    await scene.read()

    older, newer = await scene.builds()
    assert (older.build.state.result, newer.build.state.phase) == (Result.CANCELLED, Phase.QUEUED)


@pytest.mark.covers("sourcehut.repositories")
async def test_a_turn_whose_server_died_is_taken_again_and_counts_once(scene: Scene) -> None:
    commit = scene.repository.commit(".build.yml", manifest(scene))
    await scene.push(commit)
    (key,) = await scene.due()

    turn = await scene.engine.run(take_turn, SYSTEM, key)
    while_taken = (await scene.due(), await scene.engine.run(take_turn, SYSTEM, key))
    scene.world.clock.advance(LEASE_S + 1)
    made = await scene.read()

    assert turn is not None
    assert while_taken == ([], None)
    assert made == 1
    assert len(await scene.builds()) == 1


@pytest.mark.covers("sourcehut.repositories")
async def test_a_repository_that_cannot_be_read_is_tried_again_and_then_told_of(sqlite_scene: Scene) -> None:
    async def broken(source: GitSource) -> FoundManifests:
        raise Unavailable(f"could not read {source.url}: no route to host")

    await sqlite_scene.push("1" * 40)
    for _ in range(MOST_TRIES):
        (key,) = await sqlite_scene.due()
        assert await read_one(sqlite_scene.engine, broken, key) == 0
        sqlite_scene.world.clock.advance(1000)

    (view,) = await sqlite_scene.builds()
    assert (view.build.state.result, view.build.state.cause) == (Result.ERROR, Cause.SOURCE)
    assert "no route to host" in view.build.state.detail
    assert await sqlite_scene.due() == []


@pytest.mark.covers("sourcehut.repositories")
async def test_firings_of_a_pipeline_are_read_in_order(sqlite_scene: Scene) -> None:
    commit = sqlite_scene.repository.commit(".build.yml", manifest(sqlite_scene))
    await sqlite_scene.push(commit, key="1")
    await sqlite_scene.push(commit, key="2")

    assert len(await sqlite_scene.due()) == 1


@pytest.mark.covers("sourcehut.repositories")
async def test_a_full_queue_puts_the_reading_off(sqlite_scene: Scene) -> None:
    commit = sqlite_scene.repository.commit(".build.yml", manifest(sqlite_scene))
    await sqlite_scene.push(commit)
    narrow = replace(sqlite_scene.engine, policy=replace(sqlite_scene.engine.policy, queue_limit=0))

    full = await replace(sqlite_scene, engine=narrow).read()
    sqlite_scene.world.clock.advance(60)

    assert (full, await sqlite_scene.read()) == (0, 1)


@pytest.mark.covers("sourcehut.repositories")
async def test_the_loop_reads_what_is_pushed(sqlite_scene: Scene) -> None:
    commit = sqlite_scene.repository.commit(".build.yml", manifest(sqlite_scene))
    loop = asyncio.create_task(keep_reading(sqlite_scene.engine, sqlite_scene.reader.read))
    try:
        await sqlite_scene.push(commit)
        async with asyncio.timeout(60):
            while not await sqlite_scene.builds():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
