"""Jobs: the queue, who waits for whom, and the lanes that hold queue lengths."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, exists, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.blocking import Gate
from buildyard.domain.builds import Build, Job
from buildyard.domain.errors import NotFound
from buildyard.domain.fairness import Lane
from buildyard.domain.ids import (
    AccountId,
    BuildId,
    JobId,
    LaneId,
    Moment,
    PipelineId,
    ProjectId,
    RequirementId,
)
from buildyard.domain.states import JobKind, Phase, Result
from buildyard.store import events
from buildyard.store.builds import state_of
from buildyard.store.pipelines import StoredJob
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import (
    accounts,
    build_jobs,
    job_needs,
    jobs,
    lanes,
    pipelines,
    projects,
    requirements,
)
from buildyard.store.transactions import Moved, Transaction

_JOB = (
    jobs.c.id,
    jobs.c.uid,
    jobs.c.build,
    jobs.c.spec,
    jobs.c.lane,
    jobs.c.kind,
    jobs.c.position,
    jobs.c.name,
    jobs.c.phase,
    jobs.c.result,
    jobs.c.cause,
    jobs.c.detail,
    jobs.c.blockers,
    jobs.c.cancel_requested,
    jobs.c.priority,
    jobs.c.dependants,
    jobs.c.allow_failure,
    jobs.c.attempts,
    jobs.c.lost,
    jobs.c.queued_at,
    jobs.c.started_at,
    jobs.c.finished_at,
    jobs.c.row_version,
    jobs.c.gates,
)
_DEPENDANTS = select(job_needs.c.job).where(job_needs.c.need == given("need"))

BY_ID = Statement(select(*_JOB).where(jobs.c.id == given("key")))
BY_ID_LOCKED = Statement(select(*_JOB).where(jobs.c.id == given("key")).with_for_update(key_share=True))
BY_UID = Statement(select(*_JOB).where(jobs.c.uid == given("of_uid")))
OF_BUILD = Statement(
    select(*_JOB)
    .select_from(build_jobs.join(jobs, jobs.c.id == build_jobs.c.job))
    .where(build_jobs.c.build == given("of"))
    .order_by(jobs.c.position, jobs.c.id)
)
NEEDS_OF_BUILD = Statement(
    select(job_needs.c.job, job_needs.c.need)
    .select_from(build_jobs.join(job_needs, job_needs.c.job == build_jobs.c.job))
    .where(build_jobs.c.build == given("of"))
)
FIRST_OF_LANE = Statement(
    select(*_JOB)
    .where(jobs.c.lane == given("of_lane"), jobs.c.phase == int(Phase.QUEUED))
    .order_by(jobs.c.priority.desc(), jobs.c.dependants.desc(), jobs.c.id)
    .limit(given("most"))
    .with_for_update(skip_locked=True, key_share=True)
)
QUEUED_BEFORE = Statement(
    select(jobs.c.id)
    .where(jobs.c.lane == given("of_lane"), jobs.c.phase == int(Phase.QUEUED), jobs.c.queued_at < given("before"))
    .order_by(jobs.c.priority.desc(), jobs.c.dependants.desc(), jobs.c.id)
    .limit(given("most"))
)
LOCK_QUEUED = Statement(
    select(jobs.c.id)
    .where(jobs.c.build == given("of"), jobs.c.phase == int(Phase.QUEUED))
    .order_by(jobs.c.id)
    .with_for_update(key_share=True)
)
ADD = insertion(jobs)
ADD_NEED = insertion(job_needs)
ADD_BUILD_JOB = insertion(build_jobs)
MOVE = Statement(
    update(jobs)
    .where(jobs.c.id == given("key"), jobs.c.row_version == given("seen"))
    .values(
        phase=given("phase"),
        result=given("result"),
        cause=given("cause"),
        detail=given("detail"),
        blockers=given("blockers"),
        cancel_requested=given("cancel_requested"),
        attempts=given("attempts"),
        lost=given("lost"),
        queued_at=given("queued_at"),
        started_at=given("started_at"),
        finished_at=given("finished_at"),
        row_version=jobs.c.row_version + 1,
    )
    .returning(jobs.c.id)
)


def _unblock(chosen: ColumnElement[bool]) -> Statement:
    return Statement(
        update(jobs)
        .where(chosen, jobs.c.phase == int(Phase.WAITING))
        .values(
            blockers=jobs.c.blockers - 1,
            phase=case((jobs.c.blockers == 1, int(Phase.QUEUED)), else_=int(Phase.WAITING)),
            queued_at=case((jobs.c.blockers == 1, given("at")), else_=jobs.c.queued_at),
            row_version=jobs.c.row_version + 1,
        )
        .returning(jobs.c.id, jobs.c.phase, jobs.c.lane, jobs.c.build, jobs.c.blockers, jobs.c.gates, jobs.c.spec)
    )


UNBLOCK_DEPENDANTS = _unblock(jobs.c.id.in_(_DEPENDANTS))
UNBLOCK_FIRST = _unblock(
    and_(jobs.c.build == given("of"), ~exists(select(job_needs.c.need).where(job_needs.c.job == jobs.c.id)))
)
"""Those jobs of a build that need none: while the build as a whole waits, they do."""

UNBLOCK_ONE = _unblock(jobs.c.id == given("key"))
FAIL_DEPENDANTS = Statement(
    update(jobs)
    .where(jobs.c.id.in_(_DEPENDANTS), jobs.c.phase == int(Phase.WAITING))
    .values(
        phase=int(Phase.FINISHED),
        result=int(Result.DEPENDENCY_FAILED),
        detail=given("detail"),
        finished_at=given("at"),
        row_version=jobs.c.row_version + 1,
    )
    .returning(jobs.c.id, jobs.c.build, jobs.c.allow_failure, jobs.c.gates)
)


def _cancel(phase: Phase) -> Statement:
    return Statement(
        update(jobs)
        .where(jobs.c.build == given("of"), jobs.c.phase == int(phase))
        .values(
            phase=int(Phase.FINISHED),
            result=given("result"),
            cause=given("cause"),
            detail=given("detail"),
            finished_at=given("at"),
            row_version=jobs.c.row_version + 1,
        )
        .returning(jobs.c.id, jobs.c.lane, jobs.c.gates)
    )


CANCEL_WAITING = _cancel(Phase.WAITING)
CANCEL_QUEUED = _cancel(Phase.QUEUED)
WISH_CANCEL = Statement(
    update(jobs)
    .where(
        jobs.c.build == given("of"),
        jobs.c.phase >= int(Phase.LEASED),
        jobs.c.phase < int(Phase.FINISHED),
        jobs.c.cancel_requested == 0,
    )
    .values(cancel_requested=1, detail=given("detail"), row_version=jobs.c.row_version + 1)
    .returning(jobs.c.id)
)
BUSY_LANES = Statement(
    select(
        lanes.c.id,
        lanes.c.requirement,
        lanes.c.pipeline,
        lanes.c.project,
        lanes.c.account,
        lanes.c.global_priority,
        lanes.c.queued,
        requirements.c.key,
        pipelines.c.shares,
        projects.c.shares,
        accounts.c.shares,
    )
    .select_from(
        lanes.join(requirements, requirements.c.id == lanes.c.requirement)
        .join(pipelines, pipelines.c.id == lanes.c.pipeline)
        .join(projects, projects.c.id == lanes.c.project)
        .join(accounts, accounts.c.id == lanes.c.account)
    )
    .where(lanes.c.queued > 0)
)
REQUIREMENT_OF_LANE = Statement(
    select(requirements.c.key)
    .select_from(lanes.join(requirements, requirements.c.id == lanes.c.requirement))
    .where(lanes.c.id == given("key"))
)
LANE = Statement(
    select(lanes.c.id).where(
        lanes.c.pipeline == given("of"),
        lanes.c.requirement == given("wanted"),
        lanes.c.global_priority == given("at_priority"),
    )
)
ADD_LANE = Statement(insert(lanes).values({c.name: given(c.name) for c in lanes.columns}).on_conflict_do_nothing())
QUEUED_TOTAL = Statement(select(lanes.c.queued).where(lanes.c.queued > 0))


@dataclass(frozen=True, slots=True)
class BusyLane:
    """A lane with queued jobs, and the key of what they require."""

    lane: Lane
    requirement_key: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that a bulk statement finished, and how it counts in its build."""

    job: JobId
    build: BuildId
    counts_as: Result
    gates: int


@dataclass(frozen=True, slots=True)
class Asker:
    """A job that has nothing left to wait for but its locks; `spec` is its row in `job_specs`."""

    job: JobId
    build: BuildId
    project: ProjectId
    spec: int


def _job(row: Row) -> Job:
    return Job(
        id=row[0],
        uid=row[1],
        build=row[2],
        spec=row[3],
        lane=row[4],
        kind=JobKind(row[5]),
        position=row[6],
        name=row[7],
        state=state_of(row[8], row[9], row[10], row[11]),
        blockers=row[12],
        cancel_requested=bool(row[13]),
        priority=row[14],
        dependants=row[15],
        allow_failure=bool(row[16]),
        attempts=row[17],
        lost=row[18],
        queued_at=row[19],
        started_at=row[20],
        finished_at=row[21],
        row_version=row[22],
        gates=row[23],
    )


async def get(tx: Transaction, key: JobId, *, lock: bool = False) -> Job:
    """The job with this id."""
    row = await tx.fetch_one(BY_ID_LOCKED if lock else BY_ID, key=key)
    if row is None:
        raise NotFound("job not found")
    return _job(row)


async def get_many(tx: Transaction, keys: Iterable[JobId], *, lock: bool = False) -> dict[JobId, Job]:
    """Those of these jobs that there are; locked in the order given."""
    rows = await tx.fetch_many(BY_ID_LOCKED if lock else BY_ID, [{"key": key} for key in keys])
    return {row[0]: _job(row) for row in rows}


async def get_by_uid(tx: Transaction, uid: str) -> Job:
    """The job with this uid."""
    row = await tx.fetch_one(BY_UID, of_uid=uid)
    if row is None:
        raise NotFound("step not found")
    return _job(row)


async def of_build(tx: Transaction, build: BuildId) -> list[Job]:
    """A build's jobs by position."""
    return [_job(row) for row in await tx.fetch(OF_BUILD, of=build)]


async def needs_of_build(tx: Transaction, build: BuildId) -> dict[JobId, list[JobId]]:
    """Which jobs each of a build's jobs needs, in the order of their ids."""
    needs: dict[JobId, list[JobId]] = {}
    for job, need in sorted(tuple(row) for row in await tx.fetch(NEEDS_OF_BUILD, of=build)):
        needs.setdefault(job, []).append(need)
    return needs


async def add_all(
    tx: Transaction, build: Build, stored: list[StoredJob], lane_of: Mapping[RequirementId, LaneId]
) -> dict[JobId, StoredJob]:
    """Make a build's jobs from its version's; those that wait for nothing are queued at once.

    While the build as a whole waits, each of its jobs without needs has one blocker more. Gives the jobs with gates.
    """
    keys = await tx.allocate("jobs", len(stored))
    held_up = build.state.phase is Phase.WAITING
    waits_for = [_first_blockers(job, held_up=held_up) for job in stored]
    await tx.execute_many(
        ADD,
        [
            {
                "id": key,
                "uid": tx.fresh_uid(),
                "build": build.id,
                "spec": job.id,
                "lane": lane_of[job.requirement],
                "kind": int(JobKind.RUN),
                "position": job.position,
                "name": job.name,
                "phase": int(Phase.WAITING if blockers else Phase.QUEUED),
                "result": None,
                "cause": "",
                "detail": "",
                "blockers": blockers,
                "cancel_requested": 0,
                "priority": build.priority + job.priority,
                "dependants": job.dependants,
                "allow_failure": int(job.allow_failure),
                "gates": job.gates,
                "attempts": 0,
                "lost": 0,
                "restarts": 0,
                "queued_at": None if blockers else tx.now,
                "started_at": None,
                "finished_at": None,
                "row_version": 1,
            }
            for key, job, blockers in zip(keys, stored, waits_for, strict=True)
        ],
    )
    await tx.execute_many(ADD_BUILD_JOB, [{"build": build.id, "job": key} for key in keys])
    needs = [{"job": key, "need": keys[n]} for key, job in zip(keys, stored, strict=True) for n in job.needs]
    if needs:
        await tx.execute_many(ADD_NEED, needs)
    queued = [(key, job) for key, job, blockers in zip(keys, stored, waits_for, strict=True) if not blockers]
    count_lanes(tx, Counter(lane_of[job.requirement] for _, job in queued))
    for key, _ in queued:
        events.add(tx, "queued", "job", key, project=build.project, build=build.id)
    tx.wake("work")
    return {JobId(key): job for key, job in zip(keys, stored, strict=True) if job.gates}


def _first_blockers(job: StoredJob, *, held_up: bool) -> int:
    gates = bool(job.gates & Gate.APPROVAL) + bool(job.gates & Gate.LOCKS)
    return len(job.needs) + gates + (held_up and not job.needs)


async def lane_for(
    tx: Transaction,
    *,
    pipeline: PipelineId,
    project: ProjectId,
    account: AccountId,
    requirement: RequirementId,
    global_priority: int = 0,
) -> LaneId:
    """The lane of these, made if there is none."""
    wanted = {"of": pipeline, "wanted": requirement, "at_priority": global_priority}
    row = await tx.fetch_one(LANE, **wanted)
    if row is None:
        (key,) = await tx.allocate("lanes")
        await tx.execute(
            ADD_LANE,
            id=key,
            requirement=requirement,
            pipeline=pipeline,
            project=project,
            account=account,
            global_priority=global_priority,
            queued=0,
        )
        row = await tx.fetch_one(LANE, **wanted)
        assert row is not None
    return LaneId(row[0])


def count_lanes(tx: Transaction, by: Mapping[LaneId, int]) -> None:
    """Change the queue lengths of lanes; written with the transaction."""
    for lane, change in by.items():
        tx.pending_lanes[lane] += change


async def requirement_of_lane(tx: Transaction, lane: LaneId) -> str:
    """The key of what the jobs of a lane require."""
    row = await tx.fetch_one(REQUIREMENT_OF_LANE, key=lane)
    assert row is not None
    return str(row[0])


async def busy_lanes(tx: Transaction) -> list[BusyLane]:
    """All lanes with queued jobs."""
    return [
        BusyLane(
            Lane(
                id=row[0],
                requirement=row[1],
                pipeline=row[2],
                project=row[3],
                account=row[4],
                global_priority=row[5],
                queued=row[6],
                pipeline_shares=row[8],
                project_shares=row[9],
                account_shares=row[10],
            ),
            row[7],
        )
        for row in await tx.fetch(BUSY_LANES)
    ]


async def queue_length(tx: Transaction) -> int:
    """How many jobs are queued."""
    return sum(row[0] for row in await tx.fetch(QUEUED_TOTAL))


async def first_of_lane(tx: Transaction, lane: LaneId, count: int) -> list[Job]:
    """The lane's first queued jobs by priority, number of dependants and age, but for those being claimed elsewhere."""
    return [_job(row) for row in await tx.fetch(FIRST_OF_LANE, of_lane=lane, most=count)]


async def queued_before(tx: Transaction, lane: LaneId, before: Moment, count: int) -> list[JobId]:
    """The first of a lane's jobs that were queued before a time."""
    rows = await tx.fetch(QUEUED_BEFORE, of_lane=lane, before=before, most=count)
    return [JobId(row[0]) for row in rows]


async def save(tx: Transaction, before: Job, after: Job, *, project: ProjectId) -> Job:
    """Write a moved job, its lane's count and its event, or raise Conflict if it moved meanwhile."""
    await tx.change(
        MOVE,
        f"job {after.id}",
        key=after.id,
        seen=before.row_version,
        phase=int(after.state.phase),
        result=after.state.result,
        cause=after.state.cause,
        detail=after.state.detail,
        blockers=after.blockers,
        cancel_requested=int(after.cancel_requested),
        attempts=after.attempts,
        lost=after.lost,
        queued_at=after.queued_at,
        started_at=after.started_at,
        finished_at=after.finished_at,
    )
    moved = after.state.phase is not before.state.phase
    if moved:
        events.add_move(tx, "job", after.id, before.state, after.state, project=project, build=after.build)
        if Phase.QUEUED in (before.state.phase, after.state.phase):
            count_lanes(tx, {after.lane: 1 if after.state.phase is Phase.QUEUED else -1})
        if after.state.phase is Phase.QUEUED:
            tx.wake("work")
    return after


async def unblock_dependants(tx: Transaction, job: JobId, *, project: ProjectId) -> list[Asker]:
    """Take one blocker from each job that needs `job`; those without any are queued, and gives who must ask for locks.

    So do the two below.
    """
    return _unblocked(tx, await tx.fetch(UNBLOCK_DEPENDANTS, need=job, at=tx.now), project)


async def unblock_first(tx: Transaction, build: BuildId, *, project: ProjectId) -> list[Asker]:
    """Take one blocker from each job of a build that needs no other."""
    return _unblocked(tx, await tx.fetch(UNBLOCK_FIRST, of=build, at=tx.now), project)


async def unblock_one(tx: Transaction, job: JobId, *, project: ProjectId) -> list[Asker]:
    """Take one blocker from a job, or raise Moved if it no longer waits."""
    rows = await tx.fetch(UNBLOCK_ONE, key=job, at=tx.now)
    if not rows:
        raise Moved(f"job {job}: changed by someone else")
    return _unblocked(tx, rows, project)


def _unblocked(tx: Transaction, rows: list[Row], project: ProjectId) -> list[Asker]:
    queued: Counter[LaneId] = Counter()
    askers = []
    for key, phase, lane, build, blockers, gates, spec in rows:
        if phase == Phase.QUEUED:
            queued[lane] += 1
            events.add(tx, "queued", "job", key, project=project, build=build)
        elif blockers == 1 and gates & Gate.LOCKS:
            askers.append(Asker(JobId(key), BuildId(build), project, spec))
    if queued:
        count_lanes(tx, queued)
        tx.wake("work")
    return askers


async def fail_dependants(tx: Transaction, job: JobId, name: str, *, project: ProjectId) -> list[Ended]:
    """Finish each waiting job that needs `job` as dependency_failed; gives them, for theirs to follow."""
    rows = await tx.fetch(FAIL_DEPENDANTS, need=job, at=tx.now, detail=f"{name} did not succeed")
    for key, build, _, _ in rows:
        events.add(tx, "finished", "job", key, project=project, build=build)
    return [
        Ended(JobId(key), BuildId(build), Result.WARNINGS if allowed else Result.DEPENDENCY_FAILED, gates)
        for key, build, allowed, gates in rows
    ]


async def lock_queued(tx: Transaction, build: BuildId) -> None:
    """Wait for claims that have chosen jobs of a build and shall lock it next; to be done before locking the build."""
    await tx.fetch(LOCK_QUEUED, of=build)


async def cancel_idle(
    tx: Transaction, build: BuildId, *, project: ProjectId, result: Result, cause: str, detail: str
) -> list[Ended]:
    """Finish so (as cancelled, or skipped) all of a build's jobs that no worker holds; gives them."""
    values: dict[str, int | str] = {"of": build, "at": tx.now, "result": result, "cause": cause, "detail": detail}
    queued = await tx.fetch(CANCEL_QUEUED, **values)
    waiting = await tx.fetch(CANCEL_WAITING, **values)
    count_lanes(tx, Counter({lane: -n for lane, n in Counter(row[1] for row in queued).items()}))
    for key, _, _ in (*queued, *waiting):
        events.add(tx, "finished", "job", key, project=project, build=build)
    return [Ended(JobId(key), build, result, gates) for key, _, gates in (*queued, *waiting)]


async def wish_cancel(tx: Transaction, build: BuildId, detail: str) -> list[JobId]:
    """Note on each of a build's jobs that a worker holds that it shall stop, and why; gives those newly so marked."""
    marked = [JobId(row[0]) for row in await tx.fetch(WISH_CANCEL, of=build, detail=detail)]
    if marked:
        tx.wake("work")
    return marked
