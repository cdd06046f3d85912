"""The only moves that builds, jobs, attempts and steps can make. `docs/state-machine.md` is generated from `NEXT`."""

from dataclasses import replace

from buildyard.domain.builds import Attempt, Build, Job, State, Step
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import Moment
from buildyard.domain.specs import Retry
from buildyard.domain.states import PASSED, Cause, Phase, Result

NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.QUEUED, Phase.FINISHED}),
    Phase.QUEUED: frozenset({Phase.LEASED, Phase.FINISHED}),
    Phase.LEASED: frozenset({Phase.RUNNING, Phase.QUEUED, Phase.FINISHED}),
    Phase.RUNNING: frozenset({Phase.QUEUED, Phase.FINISHED}),
    Phase.FINISHED: frozenset(),
}


def _check(state: State, to: Phase, what: str) -> None:
    if to not in NEXT[state.phase]:
        raise Conflict(f"{what} is {state.phase.name.lower()} and cannot become {to.name.lower()}")


def finished(result: Result, cause: Cause = Cause.NONE, detail: str = "") -> State:
    """The state of work that ended."""
    return State(phase=Phase.FINISHED, result=result, cause=cause, detail=detail)


LOST = State(phase=Phase.FINISHED, lost=True)


# --- jobs ---------------------------------------------------------------------------------------


def unblock(job: Job, *, at: Moment) -> Job:
    """Take one blocker away; without blockers the job is queued."""
    if job.state.phase is not Phase.WAITING:
        return job
    left = job.blockers - 1
    if left > 0:
        return replace(job, blockers=left)
    return replace(job, blockers=0, state=State(phase=Phase.QUEUED), queued_at=at)


def lease_job(job: Job) -> Job:
    """A worker takes the job: one more attempt."""
    _check(job.state, Phase.LEASED, "the job")
    return replace(job, state=State(phase=Phase.LEASED), attempts=job.attempts + 1)


def start_job(job: Job, *, at: Moment) -> Job:
    """Its first step runs; said again, nothing changes."""
    if job.state.phase is Phase.RUNNING:
        return job
    _check(job.state, Phase.RUNNING, "the job")
    return replace(job, state=replace(job.state, phase=Phase.RUNNING), started_at=job.started_at or at)


def finish_job(job: Job, end: State, *, at: Moment) -> Job:
    """The job has ended for good."""
    _check(job.state, Phase.FINISHED, "the job")
    return replace(job, state=end, finished_at=at)


def requeue_job(job: Job, *, at: Moment, lost: bool) -> Job:
    """Its attempt came to nothing, and another may be made."""
    _check(job.state, Phase.QUEUED, "the job")
    return replace(job, state=State(phase=Phase.QUEUED), queued_at=at, lost=job.lost + lost)


def cancel_job(job: Job, *, at: Moment, detail: str) -> Job:
    """Ask for a stop: at once if no worker holds the job, else when it reports back."""
    match job.state.phase:
        case Phase.WAITING | Phase.QUEUED:
            return finish_job(job, finished(Result.CANCELLED, detail=detail), at=at)
        case Phase.LEASED | Phase.RUNNING:
            return replace(job, cancel_requested=True)
        case Phase.FINISHED:
            return job


def after_attempt(job: Job, end: State, retry: Retry, *, at: Moment) -> Job:
    """What becomes of a job whose attempt ended so: finished, or queued for another try.

    A cancelled job is never tried again; who cancelled it, and why, stays its detail.
    `retry.count` bounds tries after the results in `retry.on`; `retry.lost_count` bounds tries
    after lost attempts, which end as error (lost).
    """
    if job.cancel_requested and (end.lost or end.result is Result.CANCELLED):
        return finish_job(job, finished(Result.CANCELLED, detail=job.state.detail or "cancelled"), at=at)
    if end.lost:
        if job.lost >= retry.lost_count:
            detail = f"lost with its worker {job.lost + 1} times"
            return finish_job(replace(job, lost=job.lost + 1), finished(Result.ERROR, Cause.LOST, detail), at=at)
        return requeue_job(job, at=at, lost=True)
    assert end.result is not None
    tried = job.attempts - job.lost
    if end.result in retry.on and tried <= retry.count and not job.cancel_requested:
        return requeue_job(job, at=at, lost=False)
    return finish_job(job, end, at=at)


def counts_as(job: Job) -> Result:
    """How a finished job enters its build's result: failures of an `allow_failure` job are warnings at worst."""
    assert job.state.result is not None
    if job.allow_failure and job.state.result not in PASSED and job.state.result is not Result.CANCELLED:
        return Result.WARNINGS
    return job.state.result


def lets_dependants_run(job: Job) -> bool:
    """Whether jobs that need this finished one may run."""
    return job.state.result in PASSED or (job.allow_failure and counts_as(job) is Result.WARNINGS)


# --- attempts and steps -------------------------------------------------------------------------


def receive_attempt(attempt: Attempt, *, at: Moment) -> Attempt:
    """Its worker has it and makes its workspace; said again, nothing changes."""
    return attempt if attempt.started_at is not None else replace(attempt, started_at=at)


def start_attempt(attempt: Attempt, *, at: Moment) -> Attempt:
    """The worker began to run commands; said again, nothing changes."""
    if attempt.state.phase is Phase.RUNNING:
        return attempt
    _check(attempt.state, Phase.RUNNING, "the attempt")
    return replace(attempt, state=State(phase=Phase.RUNNING), started_at=attempt.started_at or at)


def finish_attempt(attempt: Attempt, end: State, *, at: Moment) -> Attempt:
    """The attempt ended, or was lost; it is terminal from then on."""
    _check(attempt.state, Phase.FINISHED, "the attempt")
    return replace(attempt, state=end, finished_at=at)


def start_step(step: Step, *, at: Moment) -> Step:
    """Its command runs; a step that runs or has ended stays as it is."""
    if step.state.phase >= Phase.RUNNING:
        return step
    return replace(step, state=State(phase=Phase.RUNNING), started_at=at)


def finish_step(step: Step, end: State, *, at: Moment, exit_status: int | None = None) -> Step:
    """The step ended; one that has ended stays as it is."""
    if step.state.phase is Phase.FINISHED:
        return step
    return replace(step, state=end, finished_at=at, exit_status=exit_status)


# --- builds -------------------------------------------------------------------------------------


def advance_build(build: Build, to: Phase, *, at: Moment) -> Build:
    """Follow its most advanced job: leased at the first lease, running at the first step."""
    if build.state.phase >= to:
        return build
    started = build.started_at or (at if to is Phase.RUNNING else None)
    return replace(build, state=State(phase=to), started_at=started)


def note_first_job(build: Build, job: Job) -> Build:
    """Remember which job was leased first."""
    return build if build.first_job is not None else replace(build, first_job=job.id)


def count_job(build: Build, result: Result, *, at: Moment) -> Build:
    """One more of its jobs has finished so; with the last one the build is finished."""
    left, worst = build.jobs_left - 1, max(build.worst, result)
    counted = replace(build, jobs_left=left, worst=worst)
    if left > 0:
        return counted
    end = finished(worst)
    if build.superseded_by is not None and worst in (Result.SKIPPED, Result.CANCELLED):
        end = finished(worst, Cause.SUPERSEDED, f"superseded by build {build.superseded_by}")
    return replace(counted, state=end, finished_at=at, started_at=build.started_at)


def cancel_build(build: Build) -> Build:
    """Note the wish; the build ends when its last job does."""
    if build.state.phase is Phase.FINISHED:
        return build
    return replace(build, cancel_requested=True)


def supersede_build(build: Build, by: Build) -> Build:
    """Note that a newer build of its concurrency group takes its place."""
    if build.state.phase is Phase.FINISHED:
        return build
    return replace(build, cancel_requested=True, superseded_by=by.id)


def has_run(build: Build) -> bool:
    """Whether a worker ever held one of its jobs."""
    return build.first_job is not None


def explain_cancel(build: Build, job: Job) -> Job:
    """A job of a superseded build that was cancelled for it says so."""
    state = job.state
    if build.superseded_by is None or state.result is not Result.CANCELLED or state.cause:
        return job
    return replace(job, state=replace(state, cause=Cause.SUPERSEDED))
