"""Leases: who holds a job, until when, and what a lost worker leaves behind."""

import pytest

from buildyard.domain.errors import Conflict, Incompatible, NotFound
from buildyard.domain.specs import Retry
from buildyard.domain.states import Cause, Phase, Result
from buildyard.engine import claiming
from buildyard.protocol import Answer, Hello
from world import WORKER, World, job, once

LEASE = 30


@pytest.mark.covers("engine.lease.heartbeat")
async def test_heartbeats_keep_a_lease_and_without_them_it_expires(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    await hand.take()
    for _ in range(5):
        world.clock.advance(LEASE - 1)
        beat = await hand.beat()
        assert (beat.drop, beat.cancel) == ([], [])
        assert await world.expire() == []
    world.clock.advance(LEASE + 1)
    assert len(await world.expire()) == 1
    assert await world.expire() == []
    assert (await world.states(view))["only"] is Phase.QUEUED
    assert (await hand.beat()).drop == list(hand.held)


@pytest.mark.covers("engine.lease.new_attempt", "engine.lease.fencing")
async def test_after_a_lost_attempt_one_new_visible_attempt_runs_and_the_old_worker_is_refused(world: World) -> None:
    slow, quick = await world.hand("slow"), await world.hand("quick")
    view = await world.submit(job("only"))
    old = await slow.take()
    await slow.report(slow.started(old), slow.step_started(old, 1), slow.output(old, 1, b"half"))
    world.clock.advance(LEASE + 1)
    await world.expire()

    new = await quick.take()
    assert (new.number, new.job) == (2, old.job)
    late = await slow.report(slow.output(old, 1, b" a log"), slow.step_finished(old, 1), slow.finished(old))
    assert [ack.answer for ack in late] == [Answer.STALE] * 3
    assert (await world.states(view))["only"] is Phase.LEASED
    await quick.finish(new, Result.FAILURE)
    first, second = (await world.jobs(view))["only"].attempts
    assert (first.attempt.state.lost, second.attempt.state.result) == (True, Result.FAILURE)
    assert first.steps[1].state.lost
    assert first.logs[1].size == 4
    assert first.logs[1].sealed_at is not None
    assert await world.result(view) is Result.FAILURE


@pytest.mark.covers("engine.recovery.server")
async def test_a_worker_that_was_away_and_returns_in_time_goes_on(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    await hand.report(hand.started(grant))
    world.clock.advance(LEASE - 5)
    welcome = await hand.hello()
    assert welcome.drop == []
    await hand.finish(grant)
    (only,) = (await world.jobs(view)).values()
    assert len(only.attempts) == 1
    assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("engine.recovery.worker", "engine.recovery.once")
async def test_a_new_process_of_the_same_worker_loses_what_the_old_one_held_at_once(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    old = await hand.take()
    await hand.report(hand.started(old))
    await hand.restart()
    (only,) = (await world.jobs(view)).values()
    assert (only.job.state.phase, only.attempts[0].attempt.state.lost) == (Phase.QUEUED, True)
    new = await hand.take()
    assert new.number == 2
    await hand.finish(new)
    assert await world.result(view) is Result.SUCCESS


async def test_a_new_process_keeps_what_it_can_prove_to_hold(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"))
    one, two = await hand.claim(2)
    hand.session = "another"
    welcome = await hand.hello(held=[one])
    assert welcome.drop == []
    hand.held.pop(two.attempt)
    await hand.finish(one)
    assert (await world.states(view))[two.spec.name] is Phase.QUEUED
    assert await hand.run_all() == [two.spec.name]


@pytest.mark.covers("engine.lease.new_attempt")
async def test_a_job_that_was_lost_too_often_ends_as_error(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("cursed", retry=once(lost_count=2)), job("next", "cursed"))
    for number in (1, 2, 3):
        assert (await hand.take()).number == number
        world.clock.advance(LEASE + 1)
        await world.expire()
        hand.held.clear()
    state = (await world.jobs(view))["cursed"].job.state
    assert (state.result, state.cause, state.detail) == (Result.ERROR, Cause.LOST, "lost with its worker 3 times")
    assert (await world.states(view))["next"] is Result.DEPENDENCY_FAILED
    assert await world.result(view) is Result.ERROR


async def test_losses_and_tries_are_counted_apart(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a", retry=once(Result.FAILURE, count=1)))
    await hand.take()
    world.clock.advance(LEASE + 1)
    await world.expire()
    hand.held.clear()
    await hand.finish(await hand.take(), Result.FAILURE)
    assert (await world.states(view))["a"] is Phase.QUEUED
    await hand.finish(await hand.take(), Result.FAILURE)
    assert await world.result(view) is Result.FAILURE


@pytest.mark.covers("engine.lease.fencing")
async def test_a_grant_that_got_lost_comes_again_and_both_copies_are_worth_the_same(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("only"))
    lost = await hand.take()
    again = (await hand.poll(1, have=[])).jobs[0]
    assert (again.attempt, again.steps, again.token) == (lost.attempt, lost.steps, lost.token)
    (ack,) = await hand.report(hand.started(lost))
    assert ack.answer is Answer.DONE
    await hand.finish(again)


async def test_the_next_attempt_of_a_job_has_another_token(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("only", retry=Retry(count=1, on=(Result.FAILURE,))))
    first = await hand.take()
    await hand.finish(first, Result.FAILURE)
    second = await hand.take()
    assert second.token != first.token
    await hand.finish(second)


async def test_a_grant_that_was_begun_does_not_come_again(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("only"))
    grant = await hand.take()
    await hand.report(hand.started(grant))
    assert (await hand.poll(1, have=[])).jobs == []
    await hand.finish(grant)


async def test_grants_that_got_lost_use_up_free_slots(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("a"), job("b"), job("c"))
    await hand.claim(2)
    again = await hand.poll(2, have=[])
    assert len(again.jobs) == 2
    assert await hand.run_all() == ["c"]
    for grant in again.jobs:
        await hand.finish(grant)


async def test_two_living_workers_cannot_share_a_name_but_a_successor_may_take_it(world: World) -> None:
    await world.hand("w1")
    with pytest.raises(Conflict, match="another worker named w1"):
        await world.hand("w1")
    world.clock.advance(LEASE + 1)
    await world.hand("w1")


async def test_a_worker_of_an_unknown_protocol_or_session_is_refused(world: World) -> None:
    hand = await world.hand()
    message = Hello(
        protocol=99, name="w2", session="s", state_id="s", version="9", labels=[], executors=[], system="", slots=1
    )
    with pytest.raises(Incompatible):
        await claiming.hello(world.engine, WORKER, message, address="", now=0)
    hand.session = "unknown"
    with pytest.raises(NotFound):
        await hand.poll()
    with pytest.raises(NotFound):
        await hand.beat()
