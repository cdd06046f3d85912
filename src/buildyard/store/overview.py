"""What is going on now: what runs where, and how much is queued."""

from dataclasses import dataclass

from sqlalchemy import and_, select

from buildyard.domain.ids import BuildId, Moment, ProjectId
from buildyard.domain.states import Phase
from buildyard.store.statements import Row, Statement
from buildyard.store.tables import attempts, builds, jobs, lanes, pipelines, projects, requirements, steps, workers
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a worker holds, and the step that runs now (empty: none yet)."""

    project: ProjectId
    project_slug: str
    pipeline: str
    build: BuildId
    number: int
    jobs_left: int
    jobs_total: int
    job: str
    attempt: int
    worker: str
    leased_at: Moment
    step: str


@dataclass(frozen=True, slots=True)
class Queued:
    """Jobs queued alike: of one pipeline, with one requirement."""

    project: ProjectId
    project_slug: str
    pipeline: str
    requirement_key: str
    count: int


RUNNING = Statement(
    select(
        projects.c.id,
        projects.c.slug,
        pipelines.c.slug,
        builds.c.id,
        builds.c.number,
        builds.c.jobs_left,
        builds.c.jobs_total,
        jobs.c.name,
        attempts.c.number,
        workers.c.name,
        attempts.c.leased_at,
        steps.c.name,
    )
    .select_from(
        attempts.join(jobs, jobs.c.id == attempts.c.job)
        .join(builds, builds.c.id == attempts.c.build)
        .join(pipelines, pipelines.c.id == builds.c.pipeline)
        .join(projects, projects.c.id == builds.c.project)
        .join(workers, workers.c.id == attempts.c.worker)
        .outerjoin(steps, and_(steps.c.attempt == attempts.c.id, steps.c.phase == int(Phase.RUNNING)))
    )
    .where(attempts.c.phase < int(Phase.FINISHED))
)
QUEUED = Statement(
    select(projects.c.id, projects.c.slug, pipelines.c.slug, requirements.c.key, lanes.c.queued)
    .select_from(
        lanes.join(requirements, requirements.c.id == lanes.c.requirement)
        .join(pipelines, pipelines.c.id == lanes.c.pipeline)
        .join(projects, projects.c.id == lanes.c.project)
    )
    .where(lanes.c.queued > 0)
)


def _running(row: Row) -> Running:
    project, slug, pipeline, build, number, left, total, job, attempt, worker, leased_at, step = row
    return Running(
        project=project,
        project_slug=slug,
        pipeline=pipeline,
        build=build,
        number=number,
        jobs_left=left,
        jobs_total=total,
        job=job,
        attempt=attempt,
        worker=worker,
        leased_at=leased_at,
        step=step or "",
    )


async def running(tx: Transaction) -> list[Running]:
    """All that workers hold, in no order."""
    return [_running(row) for row in await tx.fetch(RUNNING)]


async def queued(tx: Transaction) -> list[Queued]:
    """All queues that are not empty."""
    return [Queued(*row) for row in await tx.fetch(QUEUED)]
