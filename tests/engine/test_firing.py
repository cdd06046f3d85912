"""Firing a trigger: one evaluation, a build of each pipeline, the right source, and older builds stopped."""

import asyncio

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.builds import Build
from buildyard.domain.errors import LimitReached
from buildyard.domain.ids import PipelineId, TriggerId
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Cause, Phase, Result
from buildyard.domain.triggers import Push, Spec
from buildyard.engine import builds as build_cases
from buildyard.engine.firing import Fired, Firing, fire
from buildyard.store import builds, pipelines, triggers
from buildyard.store.pipelines import Pipeline
from buildyard.store.transactions import Transaction
from invariants import check_invariants
from world import QUEUE_LIMIT, World, job, once

HELLO = GitSource(url="https://example.org/hello.git", branch="main")


async def add_trigger(
    tx: Transaction, _actor: Actor, world: World, spec: Spec, targets: list[Pipeline], name: str = "t"
) -> TriggerId:
    made = await triggers.add(tx, project=world.project.id, name=name, spec=spec, defined_by="test")
    await triggers.set_pipelines(tx, made.id, [one.id for one in targets])
    return made.id


async def set_source(tx: Transaction, _actor: Actor, pipeline: PipelineId, source: GitSource) -> None:
    await pipelines.set_source(tx, pipeline, source, enabled=True)


async def fire_now(
    tx: Transaction, _actor: Actor, trigger: TriggerId, firing: Firing, *, queue_limit: int = QUEUE_LIMIT
) -> Fired:
    return await fire(tx, await triggers.get(tx, trigger, lock=True), firing, queue_limit=queue_limit)


async def state_of(tx: Transaction, _actor: Actor, build: Build) -> Build:
    return await builds.get(tx, build.id)


@pytest.fixture
async def pair(world: World) -> tuple[TriggerId, Pipeline, Pipeline]:
    """A trigger of two pipelines."""
    first = await world.define(job("a"))
    second = await world.define(job("b"), job("c", "b"))
    for one in (first, second):
        await world.engine.run(set_source, SYSTEM, one.id, HELLO)
    return await world.engine.run(add_trigger, SYSTEM, world, Push(), [first, second]), first, second


@pytest.mark.covers("triggers.fire")
async def test_a_firing_is_one_evaluation_that_ends_with_the_worst_of_its_builds(
    world: World, pair: tuple[TriggerId, Pipeline, Pipeline]
) -> None:
    trigger, first, second = pair
    fired = await world.engine.run(fire_now, SYSTEM, trigger, Firing(reason="a push"))
    hand = await world.hand()

    assert [one.pipeline for one in fired.builds] == [first.id, second.id]
    assert {one.evaluation for one in fired.builds} == {fired.evaluation}
    while grants := await hand.claim(1):
        await hand.finish(grants[0], Result.FAILURE if grants[0].spec.name == "a" else Result.SUCCESS)
    assert await world.engine.read(evaluation_of, SYSTEM, fired) == (trigger, 0, Result.FAILURE)
    await world.engine.read(check_invariants, SYSTEM)


async def evaluation_of(tx: Transaction, _actor: Actor, fired: Fired) -> tuple[object, ...]:
    assert fired.evaluation is not None
    found = await builds.evaluation(tx, fired.evaluation)
    return found.trigger, found.builds_left, found.result


@pytest.mark.covers("triggers.source")
async def test_builds_have_the_revision_of_the_firing_or_their_own_source(
    world: World, pair: tuple[TriggerId, Pipeline, Pipeline]
) -> None:
    pushed = Firing(reason="a push", branch="topic", commit="a" * 40, message="Fix it", author="Ann")
    first = (await world.engine.run(fire_now, SYSTEM, pair[0], pushed)).builds
    second = (await world.engine.run(fire_now, SYSTEM, pair[0], Firing(reason="a clock"))).builds

    seen = [(await world.engine.read(build_cases.get_build, SYSTEM, one.uid)).revision for one in (*first, *second)]
    assert [(one.repository, one.branch, one.commit, one.message) for one in seen if one] == [
        (HELLO.url, "topic", "a" * 40, "Fix it"),
        (HELLO.url, "topic", "a" * 40, "Fix it"),
        (HELLO.url, "main", "", ""),
        (HELLO.url, "main", "", ""),
    ]


@pytest.mark.covers("triggers.fire")
async def test_a_full_queue_takes_all_builds_of_a_firing_or_none(
    world: World, pair: tuple[TriggerId, Pipeline, Pipeline]
) -> None:
    with pytest.raises(LimitReached):
        await world.engine.run(fire_now, SYSTEM, pair[0], Firing(reason="a push"), queue_limit=2)

    assert (await world.engine.read(build_cases.list_builds, SYSTEM, world.project.uid, limit=9, offset=0))[1] == 0
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("triggers.superseded")
async def test_a_newer_build_of_a_branch_stops_the_older_ones_of_that_branch_only(
    world: World, pair: tuple[TriggerId, Pipeline, Pipeline]
) -> None:
    def push(ref: str) -> Firing:
        return Firing(reason="a push", ref=ref, cancel_superseded=True)

    main = (await world.engine.run(fire_now, SYSTEM, pair[0], push("branch main"))).builds
    topic = (await world.engine.run(fire_now, SYSTEM, pair[0], push("branch topic"))).builds
    hand = await world.hand()
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 1))
    newer = (await world.engine.run(fire_now, SYSTEM, pair[0], push("branch main"))).builds

    now = [await world.engine.read(state_of, SYSTEM, one) for one in (*main, *topic, *newer)]
    assert grant.build == main[0].id
    assert [one.cancel_requested for one in now] == [True, True, False, False, False, False]
    assert now[1].state.result is Result.CANCELLED
    waiting = await world.engine.read(build_cases.list_jobs, SYSTEM, main[1].uid)
    assert {(one.job.state.cause, one.job.state.detail) for one in waiting} == {
        (Cause.SUPERSEDED, "superseded by a newer build of branch main")
    }
    await hand.finish(grant, Result.CANCELLED)
    assert (await world.engine.read(state_of, SYSTEM, main[0])).state.result is Result.CANCELLED
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("triggers.superseded")
async def test_of_many_firings_at_once_only_the_last_is_left(
    world: World, pair: tuple[TriggerId, Pipeline, Pipeline]
) -> None:
    other = await world.engine.run(add_trigger, SYSTEM, world, Push(), [pair[1]], "other")
    firing = Firing(reason="a push", ref="branch main", cancel_superseded=True)
    await asyncio.gather(
        *(world.engine.run(fire_now, SYSTEM, (pair[0], other)[n % 2], firing) for n in range(8)),
    )

    views, _ = await world.engine.read(build_cases.list_builds, SYSTEM, world.project.uid, limit=50, offset=0)
    for pipeline in pair[1:]:
        left = [one for one in views if one.build.pipeline == pipeline.id and one.build.state.phase < Phase.FINISHED]
        assert len(left) == 1
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("triggers.parameters", "triggers.trust")
async def test_parameters_and_distrust_last_through_repeats(
    world: World, pair: tuple[TriggerId, Pipeline, Pipeline]
) -> None:
    firing = Firing(reason="a wish", parameters={"WHY": "a 'b' $c\nd"}, trusted=False, only=frozenset({pair[1].id}))
    (build,) = (await world.engine.run(fire_now, SYSTEM, pair[0], firing)).builds
    again = await world.engine.run(
        build_cases.rebuild_build, world.owner, build.uid, reason="", queue_limit=QUEUE_LIMIT
    )
    hand = await world.hand()

    for key in (build.id, again.build.id):
        grant = await hand.take()
        assert (grant.build, grant.spec.environment["WHY"], grant.trusted) == (key, "a 'b' $c\nd", False)
        await hand.finish(grant)


@pytest.mark.covers("triggers.parameters")
async def test_parameters_win_over_variables_of_the_jobs(world: World) -> None:
    pipeline = await world.define(job("a", environment={"WHY": "none", "OTHER": "x"}, retry=once()))
    trigger = await world.engine.run(add_trigger, SYSTEM, world, Push(), [pipeline])
    await world.engine.run(fire_now, SYSTEM, trigger, Firing(reason="a wish", parameters={"WHY": "fun"}))

    assert (await (await world.hand()).take()).spec.environment == {"WHY": "fun", "OTHER": "x"}
