"""Triggers that fire by themselves, on both databases: clocks, followers, several servers, full queues."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from buildyard.bootstrap.yard import load_yard
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from buildyard.domain.ids import SECOND, BuildId, Moment
from buildyard.domain.states import Result
from buildyard.engine import build_lists, builds, triggers
from buildyard.engine.ticking import fire_due, keep_triggers
from buildyard.engine.triggers import Wish
from buildyard.engine.yard import apply_yard
from buildyard.store import builds as stored_builds
from buildyard.store.builds import BuildView, Evaluation
from buildyard.store.statements import Statement, given
from buildyard.store.tables import builds as build_rows
from buildyard.store.transactions import Transaction
from invariants import check_invariants
from world import QUEUE_LIMIT, World

HOUR = 3600
"""The clock of these tests starts at 2027-01-15 08:00 UTC."""


async def take(world: World, folder: Path, text: str) -> None:
    (folder / "yard.yml").write_text(text)
    await world.engine.run(apply_yard, SYSTEM, load_yard(folder / "yard.yml", allow_local=False))


def pipeline(name: str, trigger: str) -> str:
    return f"      {name}: {{jobs: {{{name}: {{run: make}}}}, triggers: [{trigger}]}}\n"


def project(*pipelines: str) -> str:
    return "projects:\n  p:\n    pipelines:\n" + "".join(pipelines)


async def made(world: World) -> list[BuildView]:
    """All builds, oldest first."""
    views, _ = await world.engine.read(build_lists.list_visible_builds, world.administrator, limit=100, offset=0)
    return views[::-1]


async def evaluation_of(tx: Transaction, _actor: Actor, view: BuildView) -> Evaluation:
    return await stored_builds.evaluation(tx, view.build.evaluation)


async def due_times(world: World) -> list[Moment | None]:
    found = [await world.engine.read(evaluation_of, SYSTEM, view) for view in await made(world)]
    return [one.due_at for one in found]


@pytest.mark.covers("triggers.cron")
async def test_a_clock_fires_when_it_is_due_and_says_when_it_is_next(world: World, tmp_path: Path) -> None:
    start = world.clock.now
    await take(world, tmp_path, project(pipeline("a", "cron: {line: '30 * * * *', parameters: {WHY: night}}")))

    assert await fire_due(world.engine) == 60.0
    assert await made(world) == []
    world.clock.advance(1795)
    assert await fire_due(world.engine) == 5.0
    world.clock.advance(6)
    assert await fire_due(world.engine) == 0.0
    assert await fire_due(world.engine) == 60.0

    assert await due_times(world) == [start + 1800 * SECOND]
    (view,) = await triggers_of(world)
    assert (view.state.checked_at, view.state.next_at) == (world.clock.now, start + 5400 * SECOND)
    assert (await (await world.hand()).take()).spec.environment == {"WHY": "night"}
    await world.engine.read(check_invariants, SYSTEM)


async def triggers_of(world: World) -> list[triggers.TriggerView]:
    return await world.engine.read(triggers.list_triggers, SYSTEM)


@pytest.mark.covers("triggers.cron", "triggers.cron.times")
@pytest.mark.parametrize(("missed", "hours"), [("skip", []), ("once", [5]), ("all", [1, 2, 3, 4, 5])])
async def test_moments_that_passed_without_a_server_are_treated_as_the_trigger_says(
    world: World, tmp_path: Path, missed: str, hours: list[int]
) -> None:
    start = world.clock.now
    await take(world, tmp_path, project(pipeline("a", f"cron: {{line: '0 * * * *', missed: {missed}}}")))
    world.clock.advance(5.5 * HOUR)
    await fire_due(world.engine)
    await fire_due(world.engine)

    assert await due_times(world) == [start + hour * HOUR * SECOND for hour in hours]
    world.clock.advance(0.5 * HOUR)
    await fire_due(world.engine)
    assert len(await made(world)) == len(hours) + 1


@pytest.mark.covers("triggers.cron")
async def test_servers_that_wake_at_once_fire_once_for_each_moment(world: World, tmp_path: Path) -> None:
    start = world.clock.now
    await take(world, tmp_path, project(pipeline("a", "cron: '0 * * * *'"), pipeline("b", "cron: '0 * * * *'")))
    for _ in range(3):
        world.clock.advance(HOUR)
        await asyncio.gather(*(fire_due(world.engine) for _ in range(4)))

    assert await due_times(world) == [start + hour * HOUR * SECOND for hour in (1, 1, 2, 2, 3, 3)]
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("triggers.cron")
async def test_a_clock_that_is_set_back_fires_no_moment_again(world: World, tmp_path: Path) -> None:
    text = project(pipeline("a", "cron: '0 * * * *'"))
    await take(world, tmp_path, text)
    world.clock.advance(HOUR)
    await fire_due(world.engine)
    world.clock.advance(-0.5 * HOUR)
    await take(world, tmp_path, text.replace("'0 * * * *'", "'0,30 * * * *'"))
    world.clock.advance(0.5 * HOUR)
    await fire_due(world.engine)

    assert len(await made(world)) == 1
    world.clock.advance(0.5 * HOUR)
    await fire_due(world.engine)
    assert len(await made(world)) == 2


@pytest.mark.covers("triggers.cron", "yard.apply")
async def test_a_trigger_that_is_gone_from_the_file_fires_no_more_and_one_that_is_back_starts_anew(
    world: World, tmp_path: Path
) -> None:
    text = project(pipeline("a", "cron: '0 * * * *'"))
    await take(world, tmp_path, text)
    await take(world, tmp_path, "projects: {}\n")
    world.clock.advance(3.5 * HOUR)
    await fire_due(world.engine)
    await take(world, tmp_path, text)
    await fire_due(world.engine)
    assert await made(world) == []

    world.clock.advance(0.5 * HOUR)
    await fire_due(world.engine)
    assert len(await made(world)) == 1


@pytest.mark.covers("triggers.cron", "triggers.upstream")
async def test_what_finds_no_room_in_the_queue_is_told_and_tried_again(world: World, tmp_path: Path) -> None:
    await take(world, tmp_path, project(pipeline("a", "cron: '0 * * * *'"), pipeline("b", "upstream: {pipeline: a}")))
    full = replace(world.engine, policy=replace(world.engine.policy, queue_limit=0))
    world.clock.advance(HOUR)
    await fire_due(full)
    (cron, _) = await triggers_of(world)
    assert (cron.state.error, cron.state.error_at) == ("the queue is full: at most 0 jobs may wait", world.clock.now)
    await fire_due(world.engine)
    assert await made(world) == []

    world.clock.advance(31)
    await fire_due(world.engine)
    (cron, _) = await triggers_of(world)
    assert (len(await made(world)), cron.state.error, cron.state.error_at) == (1, "", None)
    await (await world.hand()).run_all()
    await fire_due(full)
    (_, follower) = await triggers_of(world)
    assert follower.state.error == "the queue is full: at most 0 jobs may wait"
    world.clock.advance(31)
    await fire_due(world.engine)
    (_, follower) = await triggers_of(world)
    assert (len(await made(world)), follower.state.error) == (2, "")


async def fire(world: World, name: str, **values: object) -> BuildView:
    (view,) = await world.engine.run(
        triggers.fire_trigger, world.administrator, name, Wish(parameters=values), queue_limit=QUEUE_LIMIT
    )
    return view


CHAIN = project(
    pipeline("a", "manual: {name: go}"),
    pipeline("b", "upstream: {pipeline: a, parameter: FROM}"),
    pipeline("c", "upstream: {pipeline: b}"),
    pipeline("d", "upstream: {pipeline: a, results: [failure, cancelled]}"),
)


@pytest.mark.covers("triggers.upstream")
async def test_builds_follow_the_ends_they_wait_for_once_and_know_what_they_follow(
    world: World, tmp_path: Path
) -> None:
    await take(world, tmp_path, CHAIN)
    first = await fire(world, "go")
    hand = await world.hand()
    await hand.run_all()
    await asyncio.gather(*(fire_due(world.engine) for _ in range(4)))
    grant = await hand.take()
    assert (grant.pipeline, grant.spec.environment) == ("b", {"FROM": first.build.uid})
    await hand.finish(grant)
    await fire_due(world.engine)

    views = await made(world)
    assert [view.pipeline_slug for view in views] == ["a", "b", "c"]
    evaluations = [await world.engine.read(evaluation_of, SYSTEM, view) for view in views]
    assert [one.parent_build for one in evaluations] == [None, first.build.id, views[1].build.id]
    assert [one.reason for one in evaluations[1:]] == [
        "p-b-upstream after build 1 of p/a",
        "p-c-upstream after build 1 of p/b",
    ]
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("triggers.upstream")
async def test_other_results_have_other_followers(world: World, tmp_path: Path) -> None:
    await take(world, tmp_path, CHAIN)
    hand = await world.hand()
    await fire(world, "go")
    await hand.run_all({"a": Result.FAILURE})
    cancelled = await fire(world, "go")
    await world.engine.run(builds.cancel_build, world.administrator, cancelled.build.uid, reason="")
    await fire_due(world.engine)

    assert [view.pipeline_slug for view in await made(world)] == ["a", "a", "d", "d"]


@pytest.mark.covers("triggers.upstream", "triggers.trust")
@pytest.mark.parametrize("untrusted", ["false", "true"])
async def test_what_strangers_caused_is_followed_only_if_the_trigger_says_so_and_stays_untrusted(
    world: World, tmp_path: Path, untrusted: str
) -> None:
    follower = pipeline("b", f"upstream: {{pipeline: a, untrusted: {untrusted}}}")
    await take(world, tmp_path, project(pipeline("a", "manual: {name: go}"), follower))
    view = await fire(world, "go")
    await world.engine.run(distrust, SYSTEM, view.build.id)
    hand = await world.hand()
    await hand.run_all()
    await fire_due(world.engine)

    assert [grant.trusted for grant in await hand.claim(1)] == ([False] if untrusted == "true" else [])


DISTRUST = Statement(update(build_rows).where(build_rows.c.id == given("key")).values(trusted=0))


async def distrust(tx: Transaction, _actor: Actor, build: BuildId) -> None:
    await tx.execute(DISTRUST, key=build)


@pytest.mark.covers("triggers.cron", "triggers.upstream")
async def test_the_loop_wakes_when_a_build_with_followers_ends(world: World, tmp_path: Path) -> None:
    await take(world, tmp_path, CHAIN)
    running = asyncio.create_task(keep_triggers(world.engine))
    await fire(world, "go")
    hand = await world.hand()
    assert await hand.run_all() == ["a"]
    while not any(view.pipeline_slug == "b" for view in await made(world)):
        await asyncio.wait({running}, timeout=0.05)
    assert await hand.run_all() == ["b"]
    while not any(view.pipeline_slug == "c" for view in await made(world)):
        await asyncio.wait({running}, timeout=0.05)
    running.cancel()
    await asyncio.wait({running})


MANUAL = project(
    pipeline("a", "manual: {name: go, parameters: {N: {type: int, required: true}, S: {default: x}}}"),
    pipeline("b", "push: {}, cron: {line: '0 0 1 1 *', name: yearly, parameters: {DEEP: '1'}}"),
)


@pytest.mark.covers("triggers.manual")
async def test_a_person_fires_a_trigger_with_parameters_a_branch_and_a_note(world: World, tmp_path: Path) -> None:
    text = MANUAL.replace("a: {jobs", "a: {source: {git: 'https://example.org/a.git', branch: main}, jobs")
    await take(world, tmp_path, text)
    wish = Wish(parameters={"N": 5}, branch="topic", commit="b" * 40, note="try it")
    (view,) = await world.engine.run(triggers.fire_trigger, world.administrator, "go", wish, queue_limit=QUEUE_LIMIT)

    assert view.revision is not None
    assert (view.revision.branch, view.revision.commit, view.build.note) == ("topic", "b" * 40, "try it")
    assert (await (await world.hand()).take()).spec.environment == {"N": "5", "S": "x"}
    assert (await world.engine.read(evaluation_of, SYSTEM, view)).submitter == "admin"


@pytest.mark.covers("triggers.manual", "triggers.access")
async def test_wishes_that_cannot_be_are_refused_and_leave_nothing(world: World, tmp_path: Path) -> None:
    await take(world, tmp_path, MANUAL)
    refusals: list[tuple[Actor, str, Wish, type[Exception], str]] = [
        (world.administrator, "go", Wish(), Invalid, "the parameters are not valid"),
        (world.administrator, "go", Wish(parameters={"N": 1}, branch="-x"), Invalid, "the wish is not valid"),
        (world.administrator, "go", Wish(parameters={"N": 1}, commit="HEAD"), Invalid, "the wish is not valid"),
        (world.administrator, "p-b-push", Wish(), Conflict, "a trigger of kind push fires by itself"),
        (world.administrator, "none", Wish(), NotFound, "trigger none not found"),
        (world.owner, "go", Wish(parameters={"N": 1}), Forbidden, "bob may not run trigger go"),
    ]
    for who, name, wish, kind, words in refusals:
        with pytest.raises(kind, match=words):
            await world.engine.run(triggers.fire_trigger, who, name, wish, queue_limit=QUEUE_LIMIT)
    await take(world, tmp_path, "projects: {p: {}}\n")
    with pytest.raises(Conflict, match="the trigger go is disabled"):
        await fire(world, "go", N=1)

    assert await made(world) == []
