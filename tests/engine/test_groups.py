"""Concurrency groups, and builds that start later."""

import asyncio

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import Invalid
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.specs import Concurrency, GitSource, JobSpec, LockSpec, PipelineSpec
from buildyard.domain.states import Cause, Phase, Result
from buildyard.engine import builds, clockwork, pipelines
from buildyard.engine.builds import Submission
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from invariants import check_invariants
from world import QUEUE_LIMIT, World, job

QUEUE = Concurrency(group="deploy")
NEWEST = Concurrency(group="deploy", cancel_older=True)


async def define(world: World, concurrency: Concurrency, *jobs: JobSpec, name: str = "main") -> Pipeline:
    spec = PipelineSpec(jobs=jobs or (job("a"), job("b", "a")), concurrency=concurrency)
    return await world.engine.run(
        pipelines.create_pipeline, world.owner, world.project.uid, name, spec, defined_by="test"
    )


async def submit(world: World, pipeline: Pipeline, *, delay: float = 0, branch: str = "") -> BuildView:
    source = GitSource(url="https://example.org/x.git", branch=branch) if branch else None
    start_at = Moment(world.clock.now + int(delay * SECOND)) if delay else None
    return await world.engine.run(
        builds.submit_build,
        world.owner,
        world.project.uid,
        pipeline.uid,
        Submission(source=source, start_at=start_at),
        queue_limit=QUEUE_LIMIT,
    )


async def phases(world: World, *views: BuildView) -> list[Phase]:
    await world.engine.read(check_invariants, SYSTEM)
    return [(await world.build(view)).build.state.phase for view in views]


@pytest.mark.covers("blockers.groups.queue", "blockers.words")
async def test_builds_of_a_group_run_one_after_the_other_in_order(world: World) -> None:
    hand = await world.hand()
    pipeline = await define(world, QUEUE)
    views = [await submit(world, pipeline) for _ in range(3)]
    assert await phases(world, *views) == [Phase.QUEUED, Phase.WAITING, Phase.WAITING]
    first = (await world.jobs(views[2]))["a"]
    assert first.waits_for == f"waits for its turn in the group deploy, held by build {views[0].build.id}, 1 ahead"
    assert (await world.jobs(views[2]))["b"].waits_for == "waits for a"
    for n, view in enumerate(views):
        grant = await hand.take()
        assert grant.build == view.build.id
        await hand.finish(grant)
        assert (await phases(world, *views))[n + 1 :] == [Phase.WAITING] * (2 - n)
        await hand.finish(await hand.take(), Result.FAILURE)
    assert [await world.result(view) for view in views] == [Result.FAILURE] * 3


@pytest.mark.covers("blockers.groups.limit", "blockers.groups.names")
async def test_a_group_may_have_several_and_branches_have_groups_of_their_own(world: World) -> None:
    hand = await world.hand()
    pipeline = await define(world, Concurrency(group="${pipeline}-$branch", limit=2), job("a"))
    views = [await submit(world, pipeline, branch="main") for _ in range(3)]
    other = await submit(world, pipeline, branch="other")
    assert await phases(world, *views, other) == [Phase.QUEUED, Phase.QUEUED, Phase.WAITING, Phase.QUEUED]
    assert "group main-main, held by" in (await world.jobs(views[2]))["a"].waits_for
    assert len(await hand.claim(9)) == 3
    with pytest.raises(Invalid, match="longer than 500"):
        await submit(world, pipeline, branch="x" * 600)


@pytest.mark.covers("blockers.groups.cancel_older")
async def test_the_newest_ends_those_before_it_as_skipped_if_they_never_ran_else_as_cancelled(world: World) -> None:
    hand = await world.hand()
    pipeline = await define(world, NEWEST)
    never = await submit(world, pipeline)
    running = await submit(world, pipeline)
    state = (await world.build(never)).build.state
    assert (state.result, state.cause) == (Result.SKIPPED, Cause.SUPERSEDED)
    assert state.detail == f"superseded by build {running.build.id}"
    grant = await hand.take()
    waiting = await submit(world, pipeline)
    assert await phases(world, running, waiting) == [Phase.LEASED, Phase.WAITING]
    assert (await hand.beat()).cancel == [grant.attempt]
    newest = await submit(world, pipeline)
    assert await world.result(waiting) is Result.SKIPPED
    await hand.finish(grant, Result.CANCELLED)
    state = (await world.build(running)).build.state
    assert (state.result, state.cause) == (Result.CANCELLED, Cause.SUPERSEDED)
    jobs = await world.jobs(running)
    assert {one.job.state.cause for one in jobs.values()} == {Cause.SUPERSEDED}
    assert await phases(world, newest) == [Phase.QUEUED]
    await hand.run_all()
    assert await world.result(newest) is Result.SUCCESS


@pytest.mark.covers("blockers.groups.freed")
async def test_a_cancelled_build_leaves_its_group_whether_it_runs_or_waits(world: World) -> None:
    hand = await world.hand()
    pipeline = await define(world, QUEUE)
    first, second, third, fourth = [await submit(world, pipeline) for _ in range(4)]
    await world.cancel(second)
    grant = await hand.take()
    await world.cancel(first)
    assert await phases(world, third) == [Phase.WAITING]
    await hand.finish(grant, Result.CANCELLED)
    assert await phases(world, third, fourth) == [Phase.QUEUED, Phase.WAITING]
    await world.cancel(third)
    assert await phases(world, fourth) == [Phase.QUEUED]


@pytest.mark.covers("blockers.groups.lost")
async def test_a_lost_job_keeps_its_builds_place_until_it_is_given_up(world: World) -> None:
    hand = await world.hand()
    pipeline = await define(world, QUEUE, job("a"))
    first, second = [await submit(world, pipeline) for _ in range(2)]
    for _ in range(4):
        assert await phases(world, second) == [Phase.WAITING]
        await hand.restart()
        await hand.take()
        world.clock.advance(31)
        await world.expire()
    assert await world.result(first) is Result.ERROR
    assert await phases(world, second) == [Phase.QUEUED]


@pytest.mark.covers("blockers.schedule")
async def test_a_build_begins_when_it_is_time_and_then_stands_in_line(world: World) -> None:
    hand = await world.hand()
    pipeline = await define(world, QUEUE, job("a", locks=(LockSpec(name="db"),)))
    later = await submit(world, pipeline, delay=60)
    assert await phases(world, later) == [Phase.WAITING]
    assert (await world.jobs(later))["a"].waits_for == "waits for its start at 2027-01-15T08:01:00.000Z"
    now = await submit(world, pipeline)
    assert await phases(world, now) == [Phase.QUEUED]
    world.clock.advance(59)
    assert await clockwork.pass_what_is_due(world.engine) == 0
    grant = await hand.take()
    world.clock.advance(1)
    assert await clockwork.pass_what_is_due(world.engine) == 1
    assert "group deploy" in (await world.jobs(later))["a"].waits_for
    await hand.finish(grant)
    assert await hand.run_all() == ["a"]
    assert await world.result(later) is Result.SUCCESS


@pytest.mark.covers("blockers.schedule")
async def test_what_should_have_begun_begins_at_once_and_a_cancelled_start_does_not_come(world: World) -> None:
    pipeline = await define(world, QUEUE, job("a"))
    past = await submit(world, pipeline, delay=-5)
    assert await phases(world, past) == [Phase.QUEUED]
    later = await submit(world, pipeline, delay=5)
    await world.cancel(later)
    world.clock.advance(6)
    assert await clockwork.pass_what_is_due(world.engine) == 0
    assert await world.result(later) is Result.CANCELLED


@pytest.mark.covers("blockers.schedule.loop")
async def test_the_clockwork_wakes_for_what_is_due_and_for_news_of_it(world: World) -> None:
    pipeline = await define(world, QUEUE, job("a"))
    keeping = asyncio.create_task(clockwork.keep_appointments(world.engine))
    try:
        far = await submit(world, pipeline, delay=3600)
        near = await submit(world, pipeline, delay=0.2)
        world.clock.advance(1)
        async with asyncio.timeout(20), world.engine.bus.subscribe(f"build:{near.build.id}") as news:
            while (await world.build(near)).build.state.phase is Phase.WAITING:
                await news.wait(1)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
    assert await phases(world, near, far) == [Phase.QUEUED, Phase.WAITING]


@pytest.mark.covers("blockers.again")
async def test_a_rebuild_stands_in_line_anew(world: World) -> None:
    pipeline = await define(world, QUEUE, job("a"))
    first = await submit(world, pipeline)
    again = await world.engine.run(
        builds.rebuild_build, world.owner, first.build.uid, reason="", queue_limit=QUEUE_LIMIT
    )
    assert await phases(world, first, again) == [Phase.QUEUED, Phase.WAITING]


@pytest.mark.covers("blockers.two_servers")
async def test_of_builds_submitted_at_once_to_a_group_one_runs_and_all_end(world: World) -> None:
    hand = await world.hand()
    queueing, newest = await define(world, QUEUE, job("a")), await define(world, NEWEST, job("a"), name="newest")
    for pipeline in (queueing, newest):
        for _ in range(3):
            views = await asyncio.gather(*(submit(world, pipeline) for _ in range(4)), hand.claim(1))
            found = [view for view in views if isinstance(view, BuildView)]
            await world.engine.read(check_invariants, SYSTEM)
            for grant in list(hand.held.values()):
                await hand.finish(grant, Result.CANCELLED)
            await hand.run_all()
            assert None not in [await world.result(view) for view in found]
