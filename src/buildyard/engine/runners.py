"""Steps run by a script on someone's machine: look at one, claim it, keep it, send its output.

Such a runner has no session: the fencing token of its attempt is all that it shows. The server speaks the worker
protocol's words for it, so that both kinds of runners leave the same marks.
"""

import time
from dataclasses import dataclass, replace

from buildyard.domain.access import SYSTEM, Actor, Owner, Permission, Visibility, may
from buildyard.domain.blocking import Gate, Held, has_room
from buildyard.domain.builds import Attempt, Build, Job, State, Step
from buildyard.domain.errors import Conflict, Invalid, NotFound, Stale, TooLarge
from buildyard.domain.fairness import Usage
from buildyard.domain.ids import SECOND, LogId, Moment, StepId, Uid, WorkerId
from buildyard.domain.labels import Offer, fits
from buildyard.domain.specs import JobSpec
from buildyard.domain.states import Phase, Result, Stream
from buildyard.domain.transitions import finished
from buildyard.engine import leasing, progress, revisions
from buildyard.engine.build_access import require_build
from buildyard.engine.claiming import LONGEST_WAIT, SLOW_POLL
from buildyard.engine.engine import Engine, system_clock
from buildyard.engine.planning import with_variables
from buildyard.engine.settling import locked_build
from buildyard.engine.usage import compute_usage
from buildyard.ports import Chunk, LogState
from buildyard.protocol import Ack, Answer, JobGrant, PinRevision, Progress, Started, StepFinished, StepStarted
from buildyard.store import attempts, audit, builds, jobs, kept, locks, pipelines, workers
from buildyard.store.attempts import GrantFacts
from buildyard.store.transactions import Transaction

RUNNER = "http-runner"
"""The worker that stands for all scripts together."""

LOOKED_AT = 8
"""So many steps of a queue a script looks at for one that names no secrets."""

_BUSY = {
    Phase.WAITING: "the step waits for steps that it depends on",
    Phase.LEASED: "the step is held by a runner already",
    Phase.RUNNING: "the step is held by a runner already",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What a script for a step must know before anyone has claimed it; nothing secret."""

    job: Job
    spec: JobSpec
    facts: GrantFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A step that the bearer of `token` holds, or held: its latest attempt with that attempt's steps and logs."""

    token: str
    job: Job
    build: Build
    attempt: Attempt
    spec: JobSpec
    facts: GrantFacts
    steps: tuple[Step, ...]
    log_of: dict[StepId, LogId]
    has_inputs: bool

    @property
    def is_open(self) -> bool:
        """Whether the attempt still runs."""
        return self.attempt.state.phase is not Phase.FINISHED


@dataclass(frozen=True, slots=True)
class Heard:
    """How much of a log is stored, and whether the runner shall stop."""

    size: int
    stop: bool


async def plan_of_step(tx: Transaction, actor: Actor, uid: str) -> StepPlan:
    """What a script for this step must know."""
    job = await jobs.get_by_uid(tx, uid)
    facts = await attempts.grant_facts(tx, job.id)
    await require_build(tx, actor, Permission.READ, await builds.get(tx, job.build), "step")
    return StepPlan(job=job, spec=with_variables(pipelines.decode_spec(facts.spec), facts.environment), facts=facts)


async def hold_of_step(tx: Transaction, actor: Actor, uid: str, token: str) -> Hold:
    """The attempt that a token stands for. Raises Stale if it is lost, or is not the step's latest."""
    job = await jobs.get_by_uid(tx, uid)
    facts = await attempts.grant_facts(tx, job.id)
    await require_build(tx, actor, Permission.REPORT, await builds.get(tx, job.build), "step")
    made = await attempts.of_job(tx, job.id)
    if not made or made[-1].token_hash != leasing.fencing_digest(token) or made[-1].state.lost:
        raise Stale("the token does not hold this step, or does no longer")
    spec = with_variables(pipelines.decode_spec(facts.spec), facts.environment)
    return Hold(
        token=token,
        job=job,
        build=await builds.get(tx, job.build),
        attempt=made[-1],
        spec=spec,
        facts=facts,
        steps=tuple(await attempts.steps_of(tx, made[-1].id)),
        log_of={log.step: log.id for log in await attempts.logs_of(tx, made[-1].id)},
        has_inputs=bool(spec.needs) and bool(await kept.inputs_of(tx, job.id)),
    )


async def open_hold(tx: Transaction, actor: Actor, uid: str, token: str) -> Hold:
    """As `hold_of_step`, but an attempt that has ended is no longer held."""
    hold = await hold_of_step(tx, actor, uid, token)
    if not hold.is_open:
        raise Stale("the step has been reported as finished")
    return hold


async def lease_step(tx: Transaction, actor: Actor, uid: str, *, lease: float) -> str:
    """Let a runner have this queued step; gives the fencing token."""
    job = await jobs.get_by_uid(tx, uid)
    build = await builds.get(tx, job.build)
    await require_build(tx, actor, Permission.REPORT, build, "step")
    build = await locked_build(tx, job.build)
    job = await jobs.get(tx, job.id, lock=True)
    if job.state.phase is not Phase.QUEUED:
        ended = f"the step has finished: {job.state.result.word}" if job.state.result is not None else ""
        raise Conflict(ended or _BUSY[job.state.phase])
    if build.manifest:
        raise Conflict("the step was made of a manifest, which workers run: leave it to one")
    if (await pipelines.job_spec(tx, job.spec)).secrets:
        raise Conflict("the step names secrets, which are given to workers only: leave it to one")
    return (await _lease(tx, actor, build, job, lease=lease)).token


async def lease_next_step(
    tx: Transaction, actor: Actor, offer: Offer, *, usage: Usage, lease: float
) -> tuple[Uid, str] | None:
    """Let a runner have the step whose turn it is among those that it fits and may report on: its uid and token."""
    queues = await _queues(tx, actor, offer)
    while chosen := queues.pick(usage, 1):
        (lane,) = chosen
        queues = replace(queues, lanes=[one for one in queues.lanes if one.id != lane])
        for job in await jobs.first_of_lane(tx, lane, LOOKED_AT):
            build = await builds.get(tx, job.build)
            if not build.manifest and not (await pipelines.job_spec(tx, job.spec)).secrets:
                grant = await _lease(tx, actor, build, job, lease=lease)
                return job.uid, grant.token
    return None


async def has_step(tx: Transaction, actor: Actor, offer: Offer) -> bool:
    """Whether `lease_next_step` would find one now."""
    return bool((await _queues(tx, actor, offer)).lanes)


async def _queues(tx: Transaction, actor: Actor, offer: Offer) -> leasing.Queues:
    busy = [one for one in await jobs.busy_lanes(tx) if _may_serve(actor, offer, one)]
    worker = await workers.find(tx, RUNNER)
    return await leasing.queues_with_room(tx, worker.id if worker else WorkerId(0), busy)


def _may_serve(actor: Actor, offer: Offer, busy: jobs.BusyLane) -> bool:
    owner = Owner(busy.lane.project, busy.lane.account, Visibility.PRIVATE)
    return may(actor, Permission.REPORT, owner) and fits(offer, leasing.requirement(busy.requirement_key))


async def _lease(tx: Transaction, actor: Actor, build: Build, job: Job, *, lease: float) -> JobGrant:
    worker = await workers.find(tx, RUNNER) or await workers.find_or_add(tx, RUNNER)
    await workers.seen(tx, worker)
    await _require_room(tx, worker.id, job)
    until = Moment(tx.now + int(lease * SECOND))
    (grant,) = await leasing.lease_jobs(tx, worker.id, RUNNER, [job], until=until)
    details = {"build": build.uid, "attempt": grant.number}
    await audit.add(tx, actor, "step.claim", job.uid, project=build.project, details=details)
    return grant


async def _require_room(tx: Transaction, worker: WorkerId, job: Job) -> None:
    """Raise Conflict if a lock of the worker that the job needs is taken; all scripts together are one worker."""
    if job.gates & Gate.WORKER_LOCKS:
        held = await locks.held_on_worker(tx, worker)
        for name, most in (await pipelines.job_spec(tx, job.spec)).require.locks:
            if not has_room(held.get(name, Held()), most):
                raise Conflict(f"the step waits for the lock {name}, which another runner holds")


async def renew_hold(tx: Transaction, actor: Actor, uid: str, token: str, *, lease: float) -> Hold:
    """Keep a held step for another `lease` seconds."""
    hold = await open_hold(tx, actor, uid, token)
    until = Moment(tx.now + int(lease * SECOND))
    if not await attempts.renew(tx, hold.attempt.id, leasing.fencing_digest(token), until):
        raise Stale("the token does not hold this step any longer")
    return replace(hold, attempt=replace(hold.attempt, leased_until=until))


# --- around the use-cases -----------------------------------------------------------------------


async def claim_step(engine: Engine, actor: Actor, uid: str, *, token: str = "") -> Hold:
    """Take a queued step; or, with the token of one that is held, be told once more what belongs to it."""
    if not token:
        token = await engine.run(lease_step, actor, uid, lease=engine.policy.lease_seconds)
    hold = await engine.run(renew_hold, actor, uid, token, lease=engine.policy.lease_seconds)
    await record(engine, hold, [Started(attempt=hold.attempt.id, token=token)])
    return hold


async def claim_next_step(engine: Engine, actor: Actor, offer: Offer, *, wait_s: float) -> tuple[Uid, str] | None:
    """The step whose turn it is, leased; waits for one at most `wait_s` seconds."""
    deadline = time.monotonic() + min(max(wait_s, 0.0), LONGEST_WAIT)
    async with engine.bus.subscribe("work") as work:
        while True:
            if await engine.read(has_step, actor, offer):
                if engine.usage.stale:
                    engine.usage.put(await engine.read(compute_usage, SYSTEM))
                usage, lease = engine.usage.usage, engine.policy.lease_seconds
                found = await engine.run(lease_next_step, actor, offer, usage=usage, lease=lease)
                if found is not None:
                    return found
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            await work.wait(min(left, SLOW_POLL))


async def add_output(
    engine: Engine, actor: Actor, uid: str, token: str, *, number: int, offset: int, data: bytes
) -> Heard:
    """Store output of a held step's command `number` (0: what came before the first), and keep the hold.

    The first call for a command, also without data, says that it runs now, and that those before it ended well.
    """
    hold = await engine.run(renew_hold, actor, uid, token, lease=engine.policy.lease_seconds)
    if number >= len(hold.steps):
        raise NotFound(f"the step has no command {number}")
    if offset + len(data) > hold.spec.limits.log_bytes:
        raise TooLarge(f"the log is over the limit of {hold.spec.limits.log_bytes} bytes")
    step = hold.steps[number]
    if step.state.phase is Phase.FINISHED:
        raise Conflict(f"command {number} has ended")
    if step.state.phase is Phase.QUEUED:
        await record(engine, hold, begin_command(hold, number))
    log = hold.log_of[step.id]
    chunks = [Chunk(Stream.OUTPUT, system_clock(), data)] if data else []
    size = (await engine.logs.append(log, offset, chunks)).size if chunks else await log_size(engine, log)
    return Heard(size, hold.job.cancel_requested)


async def pin_commit(engine: Engine, actor: Actor, uid: str, token: str, commit: str) -> str:
    """Tell which commit a held step's branch turned out to be; gives the one that all steps of its build check out."""
    hold = await engine.read(open_hold, actor, uid, token)
    found = PinRevision(attempt=hold.attempt.id, token=token, commit=commit)
    return (await engine.run(revisions.pin_revision, SYSTEM, found)).commit


def begin_command(hold: Hold, number: int) -> list[Progress]:
    """What to record when a command begins: the ends of those before it, then its start."""
    if number == 0:
        return [Started(attempt=hold.attempt.id, token=hold.token)]
    earlier = [step for step in hold.steps[:number] if step.state.phase is not Phase.FINISHED]
    items: list[Progress] = [end_command(hold, step, finished(Result.SUCCESS)) for step in earlier]
    return [*items, StepStarted(attempt=hold.attempt.id, token=hold.token, step=hold.steps[number].id)]


def end_command(hold: Hold, step: Step, end: State, *, exit_status: int | None = None) -> StepFinished:
    """What to record when a command ended so."""
    assert end.result is not None
    return StepFinished(
        attempt=hold.attempt.id,
        token=hold.token,
        step=step.id,
        log=hold.log_of[step.id],
        log_size=0,
        result=end.result,
        cause=end.cause,
        detail=end.detail,
        exit_status=exit_status,
    )


async def record(engine: Engine, hold: Hold, items: list[Progress]) -> None:
    """Seal the logs of commands that ended and write the moves; raises Stale if the attempt ended meanwhile."""
    refused = await engine.run(progress.record_progress, SYSTEM, items, await seal_logs(engine, items))
    check_taken(refused.get(hold.attempt.id))


def check_taken(refusal: Ack | None) -> None:
    """Raise what a refused report means."""
    if refusal is not None:
        raise (Stale if refusal.answer is Answer.STALE else Invalid)(refusal.detail)


async def seal_logs(engine: Engine, items: list[Progress]) -> dict[int, LogState]:
    """Seal the log of each command that ended."""
    return {item.log: await engine.logs.seal(LogId(item.log)) for item in items if isinstance(item, StepFinished)}


async def log_size(engine: Engine, log: LogId) -> int:
    """How many bytes are stored of a log, 0 for one that was not begun."""
    try:
        return (await engine.logs.state(log)).size
    except NotFound:
        return 0
