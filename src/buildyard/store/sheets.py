"""What lists show of many builds at once: their jobs, the newest attempt of each, its steps."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from buildyard.domain.builds import State
from buildyard.domain.ids import AttemptId, BuildId, JobId, Moment, StepId
from buildyard.store.builds import state_of
from buildyard.store.statements import Statement, given
from buildyard.store.tables import attempts, jobs, steps, workers
from buildyard.store.transactions import Transaction

JOBS = Statement(
    select(
        jobs.c.build,
        jobs.c.id,
        jobs.c.spec,
        jobs.c.name,
        jobs.c.phase,
        jobs.c.result,
        jobs.c.cause,
        jobs.c.detail,
        jobs.c.started_at,
        jobs.c.finished_at,
    )
    .where(jobs.c.build == given("of"))
    .order_by(jobs.c.position)
    .limit(given("most"))
)
NEWEST_ATTEMPT = Statement(
    select(attempts.c.build, attempts.c.id, attempts.c.job, attempts.c.leased_at, workers.c.name)
    .select_from(attempts.join(workers, workers.c.id == attempts.c.worker))
    .where(attempts.c.build == given("of"))
    .order_by(attempts.c.id.desc())
    .limit(1)
)
STEPS = Statement(
    select(
        steps.c.attempt,
        steps.c.id,
        steps.c.name,
        steps.c.phase,
        steps.c.result,
        steps.c.cause,
        steps.c.detail,
        steps.c.lost,
        steps.c.started_at,
        steps.c.finished_at,
    )
    .where(steps.c.attempt == given("of"), steps.c.number > 0)
    .order_by(steps.c.number)
    .limit(given("most"))
)


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job of a build, as lists show it."""

    id: JobId
    spec: int
    name: str
    state: State
    started_at: Moment | None
    finished_at: Moment | None


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """The newest attempt of a build."""

    id: AttemptId
    job: JobId
    leased_at: Moment
    worker: str


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step after the first, `setup`."""

    id: StepId
    name: str
    state: State
    started_at: Moment | None
    finished_at: Moment | None


async def jobs_of(tx: Transaction, builds: Iterable[BuildId], most: int) -> dict[BuildId, list[JobLine]]:
    """The first `most` jobs of each build, by position."""
    found: dict[BuildId, list[JobLine]] = {}
    for row in await tx.fetch_many(JOBS, [{"of": key, "most": most} for key in builds]):
        line = JobLine(row[1], row[2], row[3], state_of(row[4], row[5], row[6], row[7]), row[8], row[9])
        found.setdefault(row[0], []).append(line)
    return found


async def newest_attempts(tx: Transaction, builds: Iterable[BuildId]) -> dict[BuildId, AttemptLine]:
    """The newest attempt of each build that has one."""
    rows = await tx.fetch_many(NEWEST_ATTEMPT, [{"of": key} for key in builds])
    return {build: AttemptLine(key, job, leased_at, worker) for build, key, job, leased_at, worker in rows}


async def steps_of(tx: Transaction, attempts: Iterable[AttemptId], most: int) -> dict[AttemptId, list[StepLine]]:
    """The first `most` steps of attempts after `setup`, in order."""
    found: dict[AttemptId, list[StepLine]] = {}
    for row in await tx.fetch_many(STEPS, [{"of": key, "most": most} for key in attempts]):
        state = state_of(row[3], row[4], row[5], row[6], row[7])
        found.setdefault(row[0], []).append(StepLine(row[1], row[2], state, row[8], row[9]))
    return found
