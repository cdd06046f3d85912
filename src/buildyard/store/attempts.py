"""Attempts with their steps and logs: who holds what until when."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from buildyard.domain.builds import Attempt, Job, Log, State, Step
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import (
    AttemptId,
    BuildId,
    JobId,
    LogId,
    Moment,
    PipelineId,
    ProjectId,
    StepId,
    Uid,
    WorkerId,
)
from buildyard.domain.states import Phase
from buildyard.store import events
from buildyard.store.builds import state_of
from buildyard.store.statements import Row, Statement, Value, given, insertion
from buildyard.store.tables import (
    accounts,
    attempts,
    builds,
    images,
    job_specs,
    jobs,
    logs,
    pipelines,
    projects,
    revisions,
    steps,
    usage,
    workers,
)
from buildyard.store.transactions import Transaction

_ATTEMPT = (
    attempts.c.id,
    attempts.c.job,
    attempts.c.number,
    attempts.c.pipeline_number,
    attempts.c.worker,
    attempts.c.session,
    attempts.c.token_hash,
    attempts.c.leased_until,
    attempts.c.phase,
    attempts.c.result,
    attempts.c.cause,
    attempts.c.detail,
    attempts.c.lost,
    attempts.c.leased_at,
    attempts.c.started_at,
    attempts.c.finished_at,
    attempts.c.row_version,
    attempts.c.kept_until,
)
_STEP = (
    steps.c.id,
    steps.c.uid,
    steps.c.attempt,
    steps.c.number,
    steps.c.name,
    steps.c.phase,
    steps.c.result,
    steps.c.cause,
    steps.c.detail,
    steps.c.lost,
    steps.c.exit_status,
    steps.c.started_at,
    steps.c.finished_at,
)
_LOG = (
    logs.c.id,
    logs.c.attempt,
    logs.c.step,
    logs.c.slug,
    logs.c.size,
    logs.c.lines,
    logs.c.sealed_at,
    logs.c.removed_at,
)
_OPEN = attempts.c.phase < int(Phase.FINISHED)

BY_ID = Statement(select(*_ATTEMPT).where(attempts.c.id == given("key")))
BY_ID_LOCKED = Statement(select(*_ATTEMPT).where(attempts.c.id == given("key")).with_for_update(key_share=True))
PLACE = Statement(select(attempts.c.id, attempts.c.job, attempts.c.build).where(attempts.c.id == given("key")))
OF_JOB = Statement(select(*_ATTEMPT).where(attempts.c.job == given("of")).order_by(attempts.c.number))
OPEN_OF_WORKER = Statement(select(*_ATTEMPT).where(attempts.c.worker == given("of"), _OPEN).order_by(attempts.c.id))
EXPIRED = Statement(
    select(attempts.c.id)
    .where(_OPEN, attempts.c.leased_until < given("before"))
    .order_by(attempts.c.leased_until)
    .limit(given("most"))
)
ADD = insertion(attempts)
MOVE = Statement(
    update(attempts)
    .where(attempts.c.id == given("key"), attempts.c.row_version == given("seen"))
    .values(
        session=given("session"),
        token_hash=given("token_hash"),
        leased_until=given("leased_until"),
        phase=given("phase"),
        result=given("result"),
        cause=given("cause"),
        detail=given("detail"),
        lost=given("lost"),
        started_at=given("started_at"),
        finished_at=given("finished_at"),
        row_version=attempts.c.row_version + 1,
        kept_until=given("kept_until"),
    )
    .returning(attempts.c.id)
)
RENEW = Statement(
    update(attempts)
    .where(attempts.c.id == given("key"), attempts.c.token_hash == given("digest"), _OPEN)
    .values(leased_until=given("until"))
)
CANCELS = Statement(
    select(attempts.c.id)
    .select_from(attempts.join(jobs, jobs.c.id == attempts.c.job))
    .where(attempts.c.worker == given("of"), _OPEN, jobs.c.cancel_requested == 1)
)
ADD_STEP = insertion(steps)
ADD_LOG = insertion(logs)
STEPS = Statement(select(*_STEP).where(steps.c.attempt == given("of")).order_by(steps.c.number))
STEP_BY_UID = Statement(select(*_STEP).where(steps.c.uid == given("of_uid")))
MOVE_STEP = Statement(
    update(steps)
    .where(steps.c.id == given("key"), steps.c.phase < int(Phase.FINISHED))
    .values(
        phase=given("phase"),
        result=given("result"),
        cause=given("cause"),
        detail=given("detail"),
        lost=given("lost"),
        exit_status=given("exit_status"),
        started_at=given("started_at"),
        finished_at=given("finished_at"),
    )
    .returning(steps.c.id)
)
LOGS = Statement(select(*_LOG).where(logs.c.attempt == given("of")).order_by(logs.c.id))
LOG_BY_ID = Statement(select(*_LOG).where(logs.c.id == given("key")))
LOGS_OF_JOB = Statement(
    select(*_LOG)
    .select_from(logs.join(attempts, attempts.c.id == logs.c.attempt))
    .where(attempts.c.job == given("of"))
    .order_by(logs.c.id)
)
SEAL_LOG = Statement(
    update(logs)
    .where(logs.c.id == given("key"), logs.c.sealed_at.is_(None))
    .values(size=given("size"), lines=given("lines"), sealed_at=given("at"))
    .returning(logs.c.id)
)
GRANT = Statement(
    select(
        job_specs.c.spec,
        builds.c.id,
        builds.c.uid,
        builds.c.number,
        projects.c.id,
        projects.c.slug,
        pipelines.c.id,
        pipelines.c.name,
        revisions.c.repository,
        revisions.c.branch,
        revisions.c.commit,
        revisions.c.source_blob,
        revisions.c.source_size,
        accounts.c.name,
        revisions.c.shallow,
        revisions.c.submodules,
        builds.c.environment,
        jobs.c.id,
    )
    .select_from(
        jobs.join(job_specs, job_specs.c.id == jobs.c.spec)
        .join(builds, builds.c.id == jobs.c.build)
        .join(projects, projects.c.id == builds.c.project)
        .join(accounts, accounts.c.id == projects.c.account)
        .join(pipelines, pipelines.c.id == builds.c.pipeline)
        .outerjoin(revisions, revisions.c.id == builds.c.revision)
    )
    .where(jobs.c.id == given("of"))
)
IMAGE_URL = Statement(select(images.c.url).where(images.c.slug == given("called")))
USAGE_SINCE = Statement(
    select(usage.c.pipeline, pipelines.c.project, projects.c.account, usage.c.micros, usage.c.jobs)
    .select_from(
        usage.join(pipelines, pipelines.c.id == usage.c.pipeline).join(projects, projects.c.id == pipelines.c.project)
    )
    .where(usage.c.hour >= given("since"))
)
RUNNING_NOW = Statement(
    select(builds.c.pipeline, builds.c.project, projects.c.account, attempts.c.leased_at)
    .select_from(
        attempts.join(jobs, jobs.c.id == attempts.c.job)
        .join(builds, builds.c.id == jobs.c.build)
        .join(projects, projects.c.id == builds.c.project)
    )
    .where(_OPEN)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantFacts:
    """What a worker must know of a job beside its spec; names, source and numbers."""

    spec: str
    build: int
    build_uid: str
    build_number: int
    project: ProjectId
    project_slug: str
    account_name: str
    pipeline: PipelineId
    pipeline_name: str
    repository: str
    branch: str
    commit: str
    source_blob: str | None
    source_size: int
    shallow: bool
    submodules: bool
    environment: str


def _attempt(row: Row) -> Attempt:
    return Attempt(
        id=row[0],
        job=row[1],
        number=row[2],
        pipeline_number=row[3],
        worker=row[4],
        session=row[5],
        token_hash=row[6],
        leased_until=row[7],
        state=state_of(row[8], row[9], row[10], row[11], row[12]),
        leased_at=row[13],
        started_at=row[14],
        finished_at=row[15],
        row_version=row[16],
        kept_until=row[17],
    )


def _step(row: Row) -> Step:
    return Step(
        id=row[0],
        uid=row[1],
        attempt=row[2],
        number=row[3],
        name=row[4],
        state=state_of(row[5], row[6], row[7], row[8], row[9]),
        exit_status=row[10],
        started_at=row[11],
        finished_at=row[12],
    )


def _log(row: Row) -> Log:
    key, attempt, step, slug, size, lines, sealed_at, removed_at = row
    return Log(
        id=key,
        attempt=attempt,
        step=step,
        slug=slug,
        size=size,
        lines=lines,
        sealed_at=sealed_at,
        removed_at=removed_at,
    )


async def get(tx: Transaction, key: AttemptId, *, lock: bool = False) -> Attempt:
    """The attempt with this id."""
    row = await tx.fetch_one(BY_ID_LOCKED if lock else BY_ID, key=key)
    if row is None:
        raise NotFound("attempt not found")
    return _attempt(row)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt belongs."""

    attempt: AttemptId
    job: JobId
    build: BuildId


async def places(tx: Transaction, keys: Iterable[AttemptId]) -> list[Place]:
    """Where these attempts belong; unknown ones are left out."""
    rows = await tx.fetch_many(PLACE, [{"key": key} for key in keys])
    return [Place(AttemptId(row[0]), JobId(row[1]), BuildId(row[2])) for row in rows]


async def get_many(tx: Transaction, keys: Iterable[AttemptId], *, lock: bool = False) -> dict[AttemptId, Attempt]:
    """Those of these attempts that there are; locked in the order given."""
    rows = await tx.fetch_many(BY_ID_LOCKED if lock else BY_ID, [{"key": key} for key in keys])
    return {row[0]: _attempt(row) for row in rows}


async def steps_of_many(tx: Transaction, keys: Iterable[AttemptId]) -> dict[AttemptId, list[Step]]:
    """The steps of these attempts by number."""
    found: dict[AttemptId, list[Step]] = {}
    for row in await tx.fetch_many(STEPS, [{"of": key} for key in keys]):
        found.setdefault(row[2], []).append(_step(row))
    return found


async def logs_of_many(tx: Transaction, keys: Iterable[AttemptId]) -> dict[AttemptId, list[Log]]:
    """The logs of these attempts, in the order of their steps."""
    found: dict[AttemptId, list[Log]] = {}
    for row in await tx.fetch_many(LOGS, [{"of": key} for key in keys]):
        found.setdefault(row[1], []).append(_log(row))
    return found


async def of_job(tx: Transaction, job: JobId) -> list[Attempt]:
    """A job's attempts, first to last."""
    return [_attempt(row) for row in await tx.fetch(OF_JOB, of=job)]


async def open_of_worker(tx: Transaction, worker: WorkerId) -> list[Attempt]:
    """The attempts that a worker holds."""
    return [_attempt(row) for row in await tx.fetch(OPEN_OF_WORKER, of=worker)]


async def expired(tx: Transaction, count: int) -> list[AttemptId]:
    """Attempts whose lease has run out, longest ago first."""
    return [AttemptId(row[0]) for row in await tx.fetch(EXPIRED, before=tx.now, most=count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttempt:
    """A job just leased, with what its attempt shall hold; `step_names` begin with `setup`."""

    job: Job
    token_hash: bytes
    pipeline_number: int | None
    pipeline: PipelineId
    project: ProjectId
    step_names: Sequence[str]


@dataclass(frozen=True, slots=True)
class MadeAttempt:
    """An attempt with its steps and their logs."""

    attempt: Attempt
    steps: list[tuple[Step, LogId]]


async def add_all(
    tx: Transaction, new: Sequence[NewAttempt], *, worker: WorkerId, session: str, leased_until: Moment
) -> list[MadeAttempt]:
    """Make the attempts of jobs just leased, with their steps and logs."""
    keys = await tx.allocate("attempts", len(new))
    count = sum(len(one.step_names) for one in new)
    step_keys, log_keys = iter(await tx.allocate("steps", count)), iter(await tx.allocate("logs", count))
    made = []
    for key, one in zip(keys, new, strict=True):
        attempt = Attempt(
            id=AttemptId(key),
            job=one.job.id,
            number=one.job.attempts,
            pipeline_number=one.pipeline_number,
            worker=worker,
            session=session,
            token_hash=one.token_hash,
            leased_until=leased_until,
            state=State(phase=Phase.LEASED),
            leased_at=tx.now,
            started_at=None,
            finished_at=None,
            row_version=1,
        )
        made.append(MadeAttempt(attempt, _new_steps(tx, attempt.id, one.step_names, step_keys, log_keys)))
        events.add(tx, "leased", "attempt", key, project=one.project, build=one.job.build)
    await tx.execute_many(ADD, [_attempt_row(one, kept.attempt) for one, kept in zip(new, made, strict=True)])
    await tx.execute_many(ADD_STEP, [_step_row(step) for one in made for step, _ in one.steps])
    await tx.execute_many(ADD_LOG, [_log_row(tx, step, log) for one in made for step, log in one.steps])
    return made


def _new_steps(
    tx: Transaction, attempt: AttemptId, names: Sequence[str], step_keys: Iterator[int], log_keys: Iterator[int]
) -> list[tuple[Step, LogId]]:
    return [
        (
            Step(
                id=StepId(next(step_keys)),
                uid=Uid(tx.fresh_uid()),
                attempt=attempt,
                number=number,
                name=name,
                state=State(phase=Phase.QUEUED),
                exit_status=None,
                started_at=None,
                finished_at=None,
            ),
            LogId(next(log_keys)),
        )
        for number, name in enumerate(names)
    ]


def _attempt_row(new: NewAttempt, made: Attempt) -> dict[str, Value]:
    return {
        "id": made.id,
        "job": made.job,
        "build": new.job.build,
        "pipeline": new.pipeline,
        "number": made.number,
        "pipeline_number": made.pipeline_number,
        "worker": made.worker,
        "session": made.session,
        "token_hash": made.token_hash,
        "leased_until": made.leased_until,
        "phase": int(made.state.phase),
        "result": None,
        "cause": "",
        "detail": "",
        "lost": 0,
        "leased_at": made.leased_at,
        "started_at": None,
        "finished_at": None,
        "row_version": made.row_version,
        "kept_until": None,
    }


def _step_row(step: Step) -> dict[str, Value]:
    return {
        "id": step.id,
        "uid": step.uid,
        "attempt": step.attempt,
        "number": step.number,
        "name": step.name,
        "phase": int(step.state.phase),
        "result": None,
        "cause": "",
        "detail": "",
        "lost": 0,
        "exit_status": None,
        "started_at": None,
        "finished_at": None,
    }


def _log_row(tx: Transaction, step: Step, log: LogId) -> dict[str, Value]:
    return {
        "id": log,
        "attempt": step.attempt,
        "step": step.id,
        "slug": "stdio",
        "size": 0,
        "lines": 0,
        "created_at": tx.now,
        "sealed_at": None,
        "removed_at": None,
    }


async def save(tx: Transaction, before: Attempt, after: Attempt, *, project: ProjectId, build: int) -> Attempt:
    """Write a moved attempt and its event, or raise Conflict if it moved meanwhile."""
    await tx.change(
        MOVE,
        f"attempt {after.id}",
        key=after.id,
        seen=before.row_version,
        session=after.session,
        token_hash=after.token_hash,
        leased_until=after.leased_until,
        phase=int(after.state.phase),
        result=after.state.result,
        cause=after.state.cause,
        detail=after.state.detail,
        lost=int(after.state.lost),
        started_at=after.started_at,
        finished_at=after.finished_at,
        kept_until=after.kept_until,
    )
    events.add_move(tx, "attempt", after.id, before.state, after.state, project=project, build=build)
    return after


async def renew(tx: Transaction, key: AttemptId, token_hash: bytes, until: Moment) -> bool:
    """Hold the lease longer; False if the attempt has ended or the token is not its own."""
    return await tx.execute(RENEW, key=key, digest=token_hash, until=until) == 1


async def cancels_of_worker(tx: Transaction, worker: WorkerId) -> list[AttemptId]:
    """The attempts of a worker that shall stop."""
    return [AttemptId(row[0]) for row in await tx.fetch(CANCELS, of=worker)]


async def steps_of(tx: Transaction, attempt: AttemptId) -> list[Step]:
    """An attempt's steps by number."""
    return [_step(row) for row in await tx.fetch(STEPS, of=attempt)]


async def step_by_uid(tx: Transaction, uid: Uid) -> Step | None:
    """The step with this uid."""
    row = await tx.fetch_one(STEP_BY_UID, of_uid=uid)
    return _step(row) if row else None


async def save_step(tx: Transaction, before: Step, after: Step, *, project: ProjectId, build: int) -> Step:
    """Write a moved step and its event, or raise Conflict if it has finished meanwhile."""
    await tx.change(
        MOVE_STEP,
        f"step {after.id}",
        key=after.id,
        phase=int(after.state.phase),
        result=after.state.result,
        cause=after.state.cause,
        detail=after.state.detail,
        lost=int(after.state.lost),
        exit_status=after.exit_status,
        started_at=after.started_at,
        finished_at=after.finished_at,
    )
    events.add_move(tx, "step", after.id, before.state, after.state, project=project, build=build)
    return after


async def logs_of(tx: Transaction, attempt: AttemptId) -> list[Log]:
    """An attempt's logs, in the order of its steps."""
    return [_log(row) for row in await tx.fetch(LOGS, of=attempt)]


async def logs_of_job(tx: Transaction, job: JobId) -> list[Log]:
    """All logs of all attempts of a job, oldest first."""
    return [_log(row) for row in await tx.fetch(LOGS_OF_JOB, of=job)]


async def get_log(tx: Transaction, key: LogId) -> Log:
    """The log with this id."""
    row = await tx.fetch_one(LOG_BY_ID, key=key)
    if row is None:
        raise NotFound("log not found")
    return _log(row)


@dataclass(frozen=True, slots=True)
class SealedLog:
    """A log that is complete, and whose it is."""

    id: LogId
    size: int
    lines: int
    project: ProjectId
    build: int


async def seal_logs(tx: Transaction, sealed: Sequence[SealedLog]) -> None:
    """Note that logs are complete; said again, nothing changes."""
    found = {one.id: one for one in sealed}
    rows: list[dict[str, Value]] = [
        {"key": one.id, "size": one.size, "lines": one.lines, "at": tx.now} for one in found.values()
    ]
    for row in await tx.fetch_many(SEAL_LOG, rows):
        one = found[row[0]]
        events.add(tx, "sealed", "log", one.id, project=one.project, build=one.build)


async def grant_facts(tx: Transaction, job: JobId) -> GrantFacts:
    """What a worker must know of a job."""
    return (await grant_facts_of(tx, [job]))[job]


async def grant_facts_of(tx: Transaction, keys: Sequence[JobId]) -> dict[JobId, GrantFacts]:
    """What workers must know of these jobs."""
    return {row[-1]: _facts(row) for row in await tx.fetch_many(GRANT, [{"of": key} for key in keys])}


def _facts(row: Row) -> GrantFacts:
    return GrantFacts(
        spec=row[0],
        build=row[1],
        build_uid=row[2],
        build_number=row[3],
        project=row[4],
        project_slug=row[5],
        pipeline=row[6],
        pipeline_name=row[7],
        repository=row[8] or "",
        branch=row[9] or "",
        commit=row[10] or "",
        source_blob=row[11],
        source_size=row[12] or 0,
        account_name=row[13],
        shallow=bool(row[14]),
        submodules=bool(row[15]),
        environment=row[16],
    )


async def image_url(tx: Transaction, slug: str) -> str:
    """The address that an image's slug stands for, or nothing."""
    row = await tx.fetch_one(IMAGE_URL, called=slug)
    return row[0] if row else ""


def add_usage(tx: Transaction, pipeline: PipelineId, micros: int) -> None:
    """Charge a pipeline with the time of one job; written with the transaction."""
    tx.pending_usage[pipeline, "micros"] += micros
    tx.pending_usage[pipeline, "jobs"] += 1


async def usage_since(tx: Transaction, hour: int) -> list[Row]:
    """Rows of (pipeline, project, account, microseconds, jobs) of the hours from `hour` on."""
    return await tx.fetch(USAGE_SINCE, since=hour)


async def running_now(tx: Transaction) -> list[Row]:
    """Rows of (pipeline, project, account, leased at) of all open attempts."""
    return await tx.fetch(RUNNING_NOW)


WORKER_NAME = Statement(select(workers.c.name).where(workers.c.id == given("key")))


async def worker_name(tx: Transaction, key: WorkerId) -> str:
    """The name of a worker."""
    row = await tx.fetch_one(WORKER_NAME, key=key)
    return row[0] if row else ""
