"""Cancelling: at once what nobody holds, by wish what a worker holds."""

import asyncio

import pytest

from buildyard.domain.states import Phase, Result
from buildyard.engine import audit
from world import World, job, once

LEASE = 30


@pytest.mark.covers("engine.cancel.queued", "engine.audit")
async def test_cancelling_a_queued_build_ends_it_at_once_with_who_and_why(world: World) -> None:
    view = await world.submit(job("a"), job("b", "a"), job("c", "b"))
    cancelled = await world.cancel(view, "typo")
    assert (cancelled.build.state.phase, cancelled.build.state.result) == (Phase.FINISHED, Result.CANCELLED)
    assert set((await world.states(view)).values()) == {Result.CANCELLED}
    assert (await world.jobs(view))["a"].job.state.detail == "cancelled by bob: typo"
    entries, total = await world.engine.read(
        audit.list_audit, world.owner, project_uid=world.project.uid, action="build.cancel", limit=10, offset=0
    )
    assert (total, entries[0].actor, entries[0].reason) == (1, "bob", "typo")
    assert await (await world.hand()).claim(5) == []


async def test_the_wish_reaches_the_worker_by_heartbeat_and_by_its_open_claim(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b", "a"))
    grant = await hand.take()
    waiting = asyncio.create_task(hand.poll(0, wait=20))
    await asyncio.sleep(0)
    await world.cancel(view)
    assert (await waiting).cancel == [grant.attempt]
    assert (await hand.beat()).cancel == [grant.attempt]
    assert await world.states(view) == {"a": Phase.LEASED, "b": Result.CANCELLED}
    assert await world.result(view) is None
    await hand.finish(grant, Result.CANCELLED)
    assert await world.result(view) is Result.CANCELLED
    assert (await hand.beat()).cancel == []


@pytest.mark.covers("engine.cancel.log")
async def test_a_running_job_keeps_its_log_when_it_is_cancelled(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"))
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 1), hand.output(grant, 1, b"so far\n"))
    await world.cancel(view)
    assert (await world.states(view))["a"] is Phase.RUNNING
    await hand.report(hand.step_finished(grant, 1, Result.CANCELLED), hand.finished(grant, Result.CANCELLED))
    (only,) = (await world.jobs(view)).values()
    assert (only.job.state.result, only.attempts[0].logs[1].size) == (Result.CANCELLED, 7)


async def test_a_cancelled_job_is_not_tried_again(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a", retry=once(Result.FAILURE, Result.CANCELLED, count=5)))
    grant = await hand.take()
    await world.cancel(view)
    await hand.finish(grant, Result.FAILURE)
    assert await world.result(view) is Result.FAILURE


async def test_a_job_that_succeeds_despite_the_wish_has_succeeded(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b", "a"))
    grant = await hand.take()
    await world.cancel(view)
    await hand.finish(grant)
    assert await world.states(view) == {"a": Result.SUCCESS, "b": Result.CANCELLED}
    assert await world.result(view) is Result.CANCELLED


async def test_a_cancelled_job_whose_worker_is_lost_ends_as_cancelled(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"))
    await hand.take()
    await world.cancel(view)
    world.clock.advance(LEASE + 1)
    await world.expire()
    assert await world.result(view) is Result.CANCELLED


@pytest.mark.covers("engine.cancel.finished")
async def test_cancelling_finished_or_cancelled_work_changes_nothing(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"))
    await hand.run_all()
    before = await world.build(view)
    assert await world.cancel(view) == before
    running = await world.submit(job("a"))
    grant = await hand.take()
    once_cancelled = await world.cancel(running)
    assert await world.cancel(running) == once_cancelled
    await hand.finish(grant, Result.CANCELLED)
    _, total = await world.engine.read(
        audit.list_audit, world.owner, project_uid=world.project.uid, action="build.cancel", limit=10, offset=0
    )
    assert total == 1
