"""Every move of every state."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain import transitions
from buildyard.domain.builds import Attempt, Build, Job, State, Step
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import (
    AttemptId,
    BuildId,
    EvaluationId,
    JobId,
    LaneId,
    Moment,
    PipelineId,
    PipelineVersionId,
    ProjectId,
    StepId,
    Uid,
    WorkerId,
)
from buildyard.domain.specs import Retry
from buildyard.domain.states import ALLOWED_CAUSES, PASSED, Cause, JobKind, Phase, Result, goes_with

pytestmark = pytest.mark.covers("engine.states.machine")

AT = Moment(7)
phases = st.sampled_from([phase for phase in Phase if phase is not Phase.FINISHED])
results = st.sampled_from(list(Result))


def a_state(phase: Phase) -> State:
    return State(phase=phase, result=Result.SUCCESS if phase is Phase.FINISHED else None)


def a_job(phase: Phase = Phase.WAITING, **more: object) -> Job:
    made = Job(
        id=JobId(1),
        uid=Uid("u"),
        build=BuildId(1),
        spec=1,
        lane=LaneId(1),
        kind=JobKind.RUN,
        position=0,
        name="job",
        state=a_state(phase),
        blockers=1,
        cancel_requested=False,
        priority=0,
        dependants=0,
        allow_failure=False,
        attempts=1,
        lost=0,
        queued_at=None,
        started_at=None,
        finished_at=None,
        row_version=1,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # fields of Job


def a_build(jobs_left: int = 1, **more: object) -> Build:
    made = Build(
        id=BuildId(1),
        uid=Uid("u"),
        project=ProjectId(1),
        pipeline=PipelineId(1),
        pipeline_version=PipelineVersionId(1),
        evaluation=EvaluationId(1),
        revision=None,
        number=1,
        name="build",
        priority=0,
        state=State(phase=Phase.QUEUED),
        worst=Result.SKIPPED,
        jobs_total=jobs_left,
        jobs_left=jobs_left,
        cancel_requested=False,
        note="",
        rebuild_of=None,
        first_job=None,
        restarts=0,
        trusted=True,
        created_at=AT,
        started_at=None,
        finished_at=None,
        row_version=1,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # fields of Build


def an_attempt(phase: Phase) -> Attempt:
    return Attempt(
        id=AttemptId(1),
        job=JobId(1),
        number=1,
        pipeline_number=1,
        worker=WorkerId(1),
        session="s",
        token_hash=b"",
        leased_until=AT,
        state=a_state(phase),
        leased_at=AT,
        started_at=None,
        finished_at=None,
        row_version=1,
    )


def a_step(phase: Phase) -> Step:
    return Step(
        id=StepId(1),
        uid=Uid("u"),
        attempt=AttemptId(1),
        number=1,
        name="step",
        state=a_state(phase),
        exit_status=None,
        started_at=None,
        finished_at=None,
    )


@pytest.mark.parametrize("phase", Phase)
def test_finished_work_moves_nowhere_and_each_move_is_in_the_table(phase: Phase) -> None:
    moves = {
        Phase.LEASED: lambda: transitions.lease_job(a_job(phase)),
        Phase.RUNNING: lambda: transitions.start_job(a_job(phase), at=AT),
        Phase.QUEUED: lambda: transitions.requeue_job(a_job(phase), at=AT, lost=True),
        Phase.FINISHED: lambda: transitions.finish_job(a_job(phase), a_state(Phase.FINISHED), at=AT),
    }
    for to, move in moves.items():
        if to in transitions.NEXT[phase] or (to is phase is Phase.RUNNING):
            assert move().state.phase is to
        else:
            with pytest.raises(Conflict):
                move()
    assert transitions.NEXT[Phase.FINISHED] == frozenset()


@pytest.mark.covers("engine.states.result")
def test_a_result_is_there_exactly_when_work_is_finished_with_a_cause_that_fits() -> None:
    for phase, result, cause, lost in itertools.product(Phase, (None, *Result), Cause, (False, True)):
        ended = (result is not None) != lost and (phase is Phase.FINISHED)
        open_ = result is None and not lost and phase is not Phase.FINISHED
        fits = not cause or (result is not None and cause in ALLOWED_CAUSES[result])
        if (ended or open_) and fits:
            State(phase=phase, result=result, cause=cause, lost=lost)
        else:
            with pytest.raises(ValueError):
                State(phase=phase, result=result, cause=cause, lost=lost)
        if result is not None:
            assert goes_with(cause, result) == fits


@given(blockers=st.integers(1, 50))
def test_a_job_is_queued_when_its_last_blocker_goes(blockers: int) -> None:
    moved = a_job(blockers=blockers)
    for left in range(blockers - 1, 0, -1):
        moved = transitions.unblock(moved, at=AT)
        assert (moved.state.phase, moved.blockers, moved.queued_at) == (Phase.WAITING, left, None)
    moved = transitions.unblock(moved, at=AT)
    assert (moved.state.phase, moved.blockers, moved.queued_at) == (Phase.QUEUED, 0, AT)
    assert transitions.unblock(moved, at=AT) == moved


@pytest.mark.covers("engine.cancel.queued", "engine.cancel.finished")
@pytest.mark.parametrize("phase", Phase)
def test_cancel_ends_what_nobody_holds_and_asks_for_the_rest(phase: Phase) -> None:
    before = a_job(phase)
    after = transitions.cancel_job(before, at=AT, detail="why")
    if phase in (Phase.WAITING, Phase.QUEUED):
        assert (after.state.result, after.state.detail, after.finished_at) == (Result.CANCELLED, "why", AT)
    elif phase is Phase.FINISHED:
        assert after is before
    else:
        assert after == replace(before, cancel_requested=True)


@pytest.mark.covers("engine.jobs.retry")
@given(
    result=results,
    on=st.sets(results),
    count=st.integers(0, 4),
    attempts=st.integers(1, 8),
    lost=st.integers(0, 7),
    cancelled=st.booleans(),
)
def test_a_result_is_tried_again_only_as_the_rule_says(
    result: Result, on: set[Result], count: int, attempts: int, lost: int, *, cancelled: bool
) -> None:
    lost = min(lost, attempts - 1)
    before = a_job(Phase.RUNNING, attempts=attempts, lost=lost, cancel_requested=cancelled)
    after = transitions.after_attempt(before, transitions.finished(result), Retry(count=count, on=tuple(on)), at=AT)
    again = result in on and attempts - lost <= count and not cancelled
    assert after.state.phase is (Phase.QUEUED if again else Phase.FINISHED)
    assert after.lost == lost
    if not again:
        assert after.state.result is result


@pytest.mark.covers("engine.lease.new_attempt")
@given(lost=st.integers(0, 5), lost_count=st.integers(0, 5), cancelled=st.booleans())
def test_a_lost_attempt_is_made_up_for_as_often_as_the_rule_says(
    lost: int, lost_count: int, *, cancelled: bool
) -> None:
    before = a_job(Phase.LEASED, attempts=lost + 1, lost=lost, cancel_requested=cancelled)
    after = transitions.after_attempt(before, transitions.LOST, Retry(lost_count=lost_count), at=AT)
    if cancelled:
        assert after.state.result is Result.CANCELLED
    elif lost >= lost_count:
        assert (after.state.result, after.state.cause) == (Result.ERROR, Cause.LOST)
    else:
        assert (after.state.phase, after.lost) == (Phase.QUEUED, lost + 1)


@pytest.mark.covers("engine.jobs.allow_failure")
@pytest.mark.parametrize("result", Result)
def test_what_may_fail_counts_as_warnings_at_worst_and_lets_others_run(result: Result) -> None:
    strict = a_job(state=transitions.finished(result))
    lenient = replace(strict, allow_failure=True)
    assert transitions.counts_as(strict) is result
    assert transitions.lets_dependants_run(strict) == (result in PASSED)
    if result is Result.CANCELLED:
        assert transitions.counts_as(lenient) is Result.CANCELLED
        assert not transitions.lets_dependants_run(lenient)
    else:
        assert transitions.counts_as(lenient) <= max(Result.WARNINGS, result if result in PASSED else Result.WARNINGS)
        assert transitions.lets_dependants_run(lenient)


@pytest.mark.covers("engine.states.rollup")
@given(ends=st.lists(results, min_size=1, max_size=20))
def test_a_build_ends_with_its_last_job_as_badly_as_the_worst(ends: list[Result]) -> None:
    build = a_build(len(ends))
    for n, end in enumerate(ends, 1):
        build = transitions.count_job(build, end, at=AT)
        assert build.jobs_left == len(ends) - n
        assert (build.state.result is not None) == (n == len(ends))
    assert (build.state.result, build.finished_at) == (max(ends), AT)


@given(moves=st.lists(st.sampled_from([Phase.LEASED, Phase.RUNNING])))
def test_a_build_follows_its_most_advanced_job_and_never_goes_back(moves: list[Phase]) -> None:
    build = a_build()
    for n in range(len(moves)):
        build = transitions.advance_build(build, moves[n], at=AT)
        assert build.state.phase == max(Phase.QUEUED, *moves[: n + 1])
    assert (build.started_at is not None) == (Phase.RUNNING in moves)


def test_beginnings_said_twice_change_nothing() -> None:
    attempt = transitions.receive_attempt(an_attempt(Phase.LEASED), at=AT)
    assert transitions.receive_attempt(attempt, at=Moment(9)) is attempt
    running = transitions.start_attempt(attempt, at=AT)
    assert transitions.start_attempt(running, at=Moment(9)) is running
    step = transitions.start_step(a_step(Phase.QUEUED), at=AT)
    assert transitions.start_step(step, at=Moment(9)) is step
    ended = transitions.finish_step(step, transitions.finished(Result.FAILURE), at=AT, exit_status=3)
    assert transitions.finish_step(ended, transitions.finished(Result.SUCCESS), at=Moment(9)) is ended
    assert transitions.start_job(a_job(Phase.RUNNING), at=AT) == a_job(Phase.RUNNING)


def test_an_ended_attempt_moves_nowhere() -> None:
    ended = an_attempt(Phase.FINISHED)
    with pytest.raises(Conflict):
        transitions.start_attempt(ended, at=AT)
    with pytest.raises(Conflict):
        transitions.finish_attempt(ended, transitions.LOST, at=AT)


def test_a_wish_to_cancel_a_finished_build_is_no_wish() -> None:
    ended = a_build(state=transitions.finished(Result.SUCCESS))
    assert transitions.cancel_build(ended) is ended
    assert transitions.cancel_build(a_build()).cancel_requested
