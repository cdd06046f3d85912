"""Polls of real repositories: each move of a branch starts builds once, whoever looks and whoever dies."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildyard.adapters.sources.git_watching import GitWatcher
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import LimitReached
from buildyard.domain.ids import PipelineId, TriggerId
from buildyard.domain.polling import MOST_MOVES
from buildyard.domain.pushes import Commits
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource
from buildyard.domain.triggers import Filters, Poll
from buildyard.engine import builds as build_cases
from buildyard.engine import polling
from buildyard.engine.polling import Eyes, Look, keep_looking, look_for, record_looks, take_turn
from buildyard.store import changes, pipelines, triggers
from buildyard.store.builds import BuildView
from buildyard.store.changes import Change
from buildyard.store.transactions import Transaction
from buildyard.store.triggers import TriggerState
from contracts.sources.serving import Repository
from invariants import check_invariants
from needs import need_program
from world import QUEUE_LIMIT, World, job

INTERVAL = 60


@dataclass
class Scene:
    """A repository, a poll of it, and eyes to look with."""

    world: World
    repository: Repository
    eyes: Eyes
    trigger: TriggerId

    async def look(self, *, later: float = INTERVAL) -> int:
        """Let time pass and look if it is due."""
        self.world.clock.advance(later)
        return await look_for(self.world.engine, self.eyes, self.trigger)

    async def builds(self) -> list[BuildView]:
        found, _ = await self.world.engine.read(
            build_cases.list_builds, self.world.administrator, self.world.project.uid, limit=500, offset=0
        )
        return sorted(found, key=lambda view: view.build.id)

    async def built(self) -> list[tuple[str, str]]:
        """Branch and commit of each build."""
        found = [view.revision for view in await self.builds()]
        return [(one.branch, one.commit) for one in found if one is not None]

    async def state(self) -> TriggerState:
        return await self.world.engine.read(state_of, SYSTEM, self.trigger)

    async def changes(self) -> list[Change]:
        return await self.world.engine.read(changes_of, SYSTEM, self.world)


async def state_of(tx: Transaction, _actor: Actor, trigger: TriggerId) -> TriggerState:
    return await triggers.state_of(tx, trigger)


async def changes_of(tx: Transaction, _actor: Actor, world: World) -> list[Change]:
    return await changes.of_project(tx, world.project.id)


async def make_trigger(
    tx: Transaction, _actor: Actor, world: World, spec: Poll, sources: Mapping[PipelineId, str]
) -> TriggerId:
    for pipeline, url in sources.items():
        await pipelines.set_source(tx, pipeline, GitSource(url=url, branch="main"), enabled=True)
    made = await triggers.add(tx, project=world.project.id, name="poll", spec=spec, defined_by="test")
    await triggers.set_pipelines(tx, made.id, list(sources))
    return made.id


def make_repository(folder: Path) -> Repository:
    """One with a first commit."""
    need_program("git")
    repository = Repository(folder)
    folder.mkdir(parents=True)
    repository.git("init", "-q", "-b", "main")
    repository.commit("first")
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one commit on main."""
    return make_repository(tmp_path / "hello")


@pytest.fixture
def eyes(tmp_path: Path) -> Eyes:
    """Eyes for local repositories."""
    watcher = GitWatcher(tmp_path / "looks", SourcePolicy(allow_local=True))
    return Eyes(watcher.heads, watcher.news)


async def set_up(world: World, repository: Repository, eyes: Eyes, **spec: object) -> Scene:
    """A poll of one pipeline."""
    pipeline = await world.define(job("a"))
    made = Poll(interval_s=INTERVAL, **spec)  # type: ignore[arg-type]  # fields of Poll
    trigger = await world.engine.run(make_trigger, SYSTEM, world, made, {pipeline.id: repository.url})
    return Scene(world, repository, eyes, trigger)


@pytest.fixture
async def scene(world: World, repository: Repository, eyes: Eyes) -> Scene:
    """A poll that has looked once."""
    made = await set_up(world, repository, eyes)
    assert await made.look(later=0) == 0
    return made


@pytest.mark.covers("poll.first_look")
async def test_the_first_look_records_and_starts_nothing(scene: Scene) -> None:
    state = await scene.state()
    assert scene.repository.git("rev-parse", "HEAD") in state.revision
    assert (state.error, state.leased_until, state.checked_at) == ("", None, scene.world.clock.now)
    assert await scene.builds() == []
    assert await scene.look() == 0


@pytest.mark.covers("poll.first_look")
async def test_the_first_look_may_start_builds_if_it_is_asked_to(
    world: World, repository: Repository, eyes: Eyes
) -> None:
    made = await set_up(world, repository, eyes, fire_first=True)
    assert await made.look(later=0) == 1
    assert await made.look() == 0
    assert await made.built() == [("main", repository.git("rev-parse", "HEAD"))]


@pytest.mark.covers("poll.moves")
async def test_each_move_starts_a_build_once(scene: Scene) -> None:
    first = scene.repository.commit("docs/second")
    assert await scene.look() == 1
    assert await scene.look() == 0
    scene.repository.git("branch", "topic")
    second = scene.repository.commit("third")
    scene.repository.git("commit", "-q", "--amend", "-m", "Another third")
    amended = scene.repository.git("rev-parse", "HEAD")
    assert second != amended
    assert await scene.look() == 2
    scene.repository.git("branch", "-D", "topic")
    assert await scene.look() == 0
    scene.repository.git("branch", "topic", "main~2")
    assert await scene.look() == 1

    again = scene.repository.git("rev-parse", "main~2")
    assert await scene.built() == [("main", first), ("main", amended), ("topic", first), ("topic", again)]
    await scene.world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("poll.moves", "hooks.changes")
async def test_the_commits_of_a_move_are_changes(scene: Scene) -> None:
    scene.repository.commit("docs/second")
    third = scene.repository.commit("third")
    await scene.look()

    first, second = await scene.changes()
    assert (first.category, first.files, second.files) == ("poll", ("docs/second",), ("third",))
    assert second.parent == first.id
    assert first.committer == "Ada <ada@example.org>"
    (view,) = await scene.builds()
    assert view.revision is not None
    assert (view.revision.commit, view.revision.message) == (third, "Write third")
    assert view.revision.author == "Ada <ada@example.org>"


@pytest.mark.covers("poll.moves", "filters.paths", "filters.skip_words", "filters.branches")
async def test_filters_and_skip_words_hold(world: World, repository: Repository, eyes: Eyes) -> None:
    filters = Filters(branches=("main",), tags=("v*",), exclude_paths=("docs/",))
    scene = await set_up(world, repository, eyes, filters=filters)
    await scene.look(later=0)
    started = []
    for act in (
        lambda: repository.commit("docs/a"),
        lambda: repository.commit("src/a"),
        lambda: repository.git("commit", "-q", "--allow-empty", "-m", "Not now [ci skip]"),
        lambda: repository.git("branch", "topic"),
        lambda: repository.git("tag", "x1"),
        lambda: (repository.commit("later"), repository.git("tag", "-am", "x", "v1")),
    ):
        act()
        started.append(await scene.look())
    assert started == [0, 1, 0, 0, 0, 2]
    assert {branch for branch, _ in await scene.built()} == {"main", "refs/tags/v1"}


@pytest.mark.covers("poll.once")
async def test_looks_at_the_same_time_start_a_build_once(scene: Scene) -> None:
    scene.repository.commit("second")
    scene.world.clock.advance(INTERVAL)
    counts = await asyncio.gather(*(look_for(scene.world.engine, scene.eyes, scene.trigger) for _ in range(4)))

    assert sorted(counts) == [0, 0, 0, 1]
    assert len(await scene.builds()) == 1


@pytest.mark.covers("poll.once")
async def test_a_look_whose_server_died_is_taken_over_and_counts_once(scene: Scene) -> None:
    engine, clock = scene.world.engine, scene.world.clock
    after = scene.repository.commit("second")
    clock.advance(INTERVAL)
    dead = await engine.run(take_turn, SYSTEM, scene.trigger)
    assert dead is not None
    assert await scene.look(later=polling.LEASE_S - 1) == 0
    assert await scene.look(later=2) == 1

    (key,) = dead.urls
    late = {key: Look({"refs/heads/main": after})}
    assert await engine.run(record_looks, SYSTEM, dead, late, error="", queue_limit=QUEUE_LIMIT) == 0
    assert len(await scene.builds()) == 1


@pytest.mark.covers("poll.errors")
async def test_an_unreachable_repository_is_shown_left_alone_longer_and_longer_and_recovers(scene: Scene) -> None:
    away = scene.repository.folder.with_name("away")
    scene.repository.folder.rename(away)
    await scene.look()
    failed = await scene.state()
    assert "could not read" in failed.error
    assert failed.error_at == scene.world.clock.now

    pauses = []
    for _ in range(9):
        state = await scene.state()
        assert state.next_at is not None
        pauses.append((state.next_at - scene.world.clock.now) // 1_000_000)
        await scene.look(later=pauses[-1])
    assert pauses == [60, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert (await scene.state()).error_at == failed.error_at

    away.rename(scene.repository.folder)
    scene.repository.commit("second")
    assert await scene.look(later=3600) == 1
    recovered = await scene.state()
    assert (recovered.error, recovered.error_at) == ("", None)


@pytest.mark.covers("poll.errors")
async def test_one_repository_that_is_away_does_not_hold_up_another(
    world: World, repository: Repository, eyes: Eyes, tmp_path: Path
) -> None:
    other = make_repository(tmp_path / "other")
    first, second = await world.define(job("a")), await world.define(job("a"))
    sources = {first.id: repository.url, second.id: other.url}
    trigger = await world.engine.run(make_trigger, SYSTEM, world, Poll(interval_s=INTERVAL), sources)
    scene = Scene(world, repository, eyes, trigger)
    await scene.look(later=0)
    other.folder.rename(tmp_path / "away")
    repository.commit("second")

    assert await scene.look() == 1
    assert "could not read" in (await scene.state()).error
    (view,) = await scene.builds()
    assert view.build.pipeline == first.id


@pytest.mark.covers("poll.once")
async def test_a_full_queue_loses_no_move(scene: Scene) -> None:
    engine = scene.world.engine
    scene.repository.commit("second")
    scene.world.clock.advance(INTERVAL)
    turn = await engine.run(take_turn, SYSTEM, scene.trigger)
    assert turn is not None
    (key,) = turn.urls
    looks = {key: Look(await scene.eyes.heads(scene.repository.url))}
    with pytest.raises(LimitReached):
        await engine.run(record_looks, SYSTEM, turn, looks, error="", queue_limit=0)
    await engine.run(record_looks, SYSTEM, turn, {}, error="the queue is full", queue_limit=0)

    assert (await scene.state()).error == "the queue is full"
    assert await scene.look() == 1


@pytest.mark.covers("poll.moves")
async def test_of_very_many_moves_the_rest_has_its_turn_soon(world: World, repository: Repository, eyes: Eyes) -> None:
    async def nothing_new(_url: str, _ref: str, _before: str, _after: str) -> Commits:
        return Commits()

    scene = await set_up(world, repository, Eyes(eyes.heads, nothing_new))
    await scene.look(later=0)
    head = repository.git("rev-parse", "HEAD")
    for number in range(MOST_MOVES + 7):
        repository.git("update-ref", f"refs/heads/topic{number:03}", head)
    assert await scene.look() == MOST_MOVES
    assert await scene.look(later=1) == 7
    assert await scene.look(later=1) == 0


@pytest.mark.covers("poll.once")
async def test_the_clockwork_looks_when_it_is_due_and_only_then(scene: Scene) -> None:
    engine = scene.world.engine
    looked = asyncio.Event()

    async def heads(url: str) -> Mapping[str, str]:
        looked.set()
        return await scene.eyes.heads(url)

    clockwork = asyncio.create_task(keep_looking(engine, Eyes(heads, scene.eyes.news)))
    try:
        scene.repository.commit("second")
        assert await engine.read(polling.due_polls, SYSTEM, 9) == []
        scene.world.clock.advance(INTERVAL)
        await asyncio.wait_for(looked.wait(), 60)
        async with asyncio.timeout(60):
            while not await scene.builds():  # noqa: ASYNC110 - what another task commits sets no event
                await asyncio.sleep(0.05)
    finally:
        clockwork.cancel()
        await asyncio.gather(clockwork, return_exceptions=True)
    assert len(await scene.builds()) == 1
