"""Reports of workers: repeated, out of order, false, or of attempts that are theirs no longer."""

import msgspec
import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.builds import Attempt, Step
from buildyard.domain.ids import AttemptId
from buildyard.domain.states import Cause, Phase, Result
from buildyard.protocol import Answer, Finished, JobGrant, Output, Progress, StepFinished
from buildyard.store import attempts
from buildyard.store.transactions import Transaction
from world import World, job


async def answers(hand, *items) -> list[Answer]:  # type: ignore[no-untyped-def]  # as Hand.report
    return [ack.answer for ack in await hand.report(*items)]


@pytest.mark.covers("engine.recovery.once")
async def test_a_repeated_report_is_done_and_changes_nothing(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    output = hand.output(grant, 1, b"one\n")
    items = [
        hand.started(grant),
        hand.step_finished(grant, 0),
        hand.step_started(grant, 1),
        output,
        hand.step_finished(grant, 1),
        hand.finished(grant),
    ]
    for item in items:
        assert await answers(hand, item, item) == [Answer.DONE] * 2
        world.clock.advance(1)
    before = await world.jobs(view)
    assert await answers(hand, *items, *items) == [Answer.DONE] * 12
    assert await world.jobs(view) == before


@pytest.mark.covers("engine.recovery.once")
async def test_a_contradicting_end_changes_nothing(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    await hand.finish(grant)
    assert await answers(hand, hand.finished(grant, Result.FAILURE)) == [Answer.DONE]
    assert await world.result(view) is Result.SUCCESS


async def test_of_two_ends_in_one_report_the_first_counts(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    await hand.report(hand.finished(grant), hand.finished(grant, Result.FAILURE), hand.step_started(grant, 1))
    assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("engine.lease.fencing")
async def test_a_wrong_token_and_an_unknown_attempt_are_stale_and_change_nothing(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    wrong = Finished(attempt=grant.attempt, token="wrong", result=Result.SUCCESS)
    unknown = Finished(attempt=99, token=grant.token, result=Result.SUCCESS)
    output = Output(attempt=grant.attempt, token="wrong", log=grant.steps[0].log, offset=0, chunks=[])
    assert await answers(hand, wrong, unknown, output) == [Answer.STALE] * 3
    assert (await world.states(view))["only"] is Phase.LEASED
    await hand.finish(grant)


async def test_reports_of_many_attempts_are_answered_one_by_one(world: World) -> None:
    hand = await world.hand()
    good_view = await world.submit(job("good"))
    good = await hand.take()
    bad_view = await world.submit(job("bad"))
    bad = await hand.take()
    false = Finished(attempt=bad.attempt, token=bad.token, result=Result.SUCCESS, cause=Cause.WALL)
    assert await answers(hand, hand.finished(good), false) == [Answer.DONE, Answer.REFUSED]
    assert await world.result(good_view) is Result.SUCCESS
    assert await world.result(bad_view) is None
    await hand.finish(bad)


async def test_a_log_of_another_attempt_is_refused(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("a"), job("b"))
    mine, other = await hand.claim(2)
    foreign = Output(attempt=mine.attempt, token=mine.token, log=other.steps[1].log, offset=0, chunks=[])
    assert await answers(hand, foreign) == [Answer.REFUSED]
    for grant in (mine, other):
        await hand.finish(grant)


async def test_a_step_of_another_attempt_is_left_alone(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"))
    mine, other = await hand.claim(2)
    foreign = StepFinished(
        attempt=mine.attempt,
        token=mine.token,
        step=other.steps[1].step,
        log=mine.steps[1].log,
        log_size=0,
        result=Result.FAILURE,
    )
    await hand.report(foreign)
    steps = (await world.jobs(view))[other.spec.name].attempts[0].steps
    assert [step.state.result for step in steps] == [None, None]
    for grant in (mine, other):
        await hand.finish(grant)


@pytest.mark.covers("logs.append")
async def test_a_gap_in_a_log_and_an_end_before_its_output_must_be_sent_again(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    gap = hand.output(grant, 1, b"late", offset=5)
    early = StepFinished(
        attempt=grant.attempt,
        token=grant.token,
        step=grant.steps[1].step,
        log=grant.steps[1].log,
        log_size=9,
        result=Result.SUCCESS,
    )
    acks = await hand.report(gap, hand.finished(grant))
    assert [(ack.answer, ack.size) for ack in acks] == [(Answer.RETRY, 0)] * 2
    assert await answers(hand, early, hand.finished(grant)) == [Answer.RETRY] * 2
    assert await world.result(view) is None
    hand.written.clear()
    assert await answers(hand, hand.output(grant, 1, b"first"), gap, early, hand.finished(grant)) == [Answer.DONE] * 4
    assert await world.result(view) is Result.SUCCESS


async def test_an_end_without_a_start_is_an_end(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only", steps=2))
    grant = await hand.take()
    await hand.report(hand.finished(grant, Result.ERROR, Cause.SOURCE))
    (only,) = (await world.jobs(view)).values()
    assert (only.job.state.result, only.job.state.cause) == (Result.ERROR, Cause.SOURCE)
    assert [step.state.phase for step in only.attempts[-1].steps] == [Phase.QUEUED] * 3


def told_at(item: Progress, at: int) -> Progress:
    return msgspec.structs.replace(item, at=at)


async def test_times_are_those_the_worker_tells_even_if_all_comes_in_one_report(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    grant = await hand.take()
    leased = world.clock()
    world.clock.advance(10)
    await hand.report(
        told_at(hand.started(grant), leased + 1),
        told_at(hand.step_finished(grant, 0), leased + 2),
        told_at(hand.step_started(grant, 1), leased + 3),
        told_at(hand.step_finished(grant, 1), leased + 9),
        told_at(hand.finished(grant), leased + 10),
    )
    attempt = await latest_attempt(world, grant)
    steps = await world.engine.read(steps_of, SYSTEM, attempt.id)
    assert [(step.started_at, step.finished_at) for step in steps] == [
        (leased + 1, leased + 2),
        (leased + 3, leased + 9),
    ]
    assert (attempt.started_at, attempt.finished_at) == (leased + 1, leased + 10)
    assert (await world.build(view)).build.started_at == leased + 1


async def test_times_that_cannot_be_are_bent_to_the_nearest_that_can(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("only"))
    grant = await hand.take()
    leased = world.clock()
    world.clock.advance(10)
    heard = world.clock()
    await hand.report(
        told_at(hand.started(grant), 5),
        told_at(hand.step_finished(grant, 0), heard + 10**12),
        told_at(hand.step_started(grant, 1), leased + 1),
        told_at(hand.step_finished(grant, 1), -1),
        hand.finished(grant),
    )
    attempt = await latest_attempt(world, grant)
    steps = await world.engine.read(steps_of, SYSTEM, attempt.id)
    assert [(step.started_at, step.finished_at) for step in steps] == [(leased, heard), (heard, heard)]
    assert (attempt.started_at, attempt.finished_at) == (leased, heard)


async def latest_attempt(world: World, grant: JobGrant) -> Attempt:
    return await world.engine.read(attempt_of, SYSTEM, AttemptId(grant.attempt))


async def attempt_of(tx: Transaction, _actor: Actor, key: AttemptId) -> Attempt:
    return await attempts.get(tx, key)


async def steps_of(tx: Transaction, _actor: Actor, key: AttemptId) -> list[Step]:
    return await attempts.steps_of(tx, key)
