"""The queue as people look at it: what runs, and what would run next."""

from dataclasses import dataclass

from sqlalchemy import select

from buildyard.domain.ids import BuildId, JobId, LaneId, Moment, ProjectId
from buildyard.domain.states import Phase
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import attempts, builds, jobs, pipelines, workers
from buildyard.store.transactions import Transaction

_ITEM = (jobs.c.id, builds.c.id, builds.c.project, pipelines.c.slug, jobs.c.name, jobs.c.uid)
RUNNING = Statement(
    select(*_ITEM, attempts.c.leased_at, workers.c.name)
    .select_from(
        attempts.join(jobs, jobs.c.id == attempts.c.job)
        .join(builds, builds.c.id == jobs.c.build)
        .join(pipelines, pipelines.c.id == builds.c.pipeline)
        .join(workers, workers.c.id == attempts.c.worker)
    )
    .where(attempts.c.phase < int(Phase.FINISHED))
)
FIRST_OF_LANE = Statement(
    select(*_ITEM, jobs.c.queued_at)
    .select_from(jobs.join(builds, builds.c.id == jobs.c.build).join(pipelines, pipelines.c.id == builds.c.pipeline))
    .where(jobs.c.lane == given("of_lane"), jobs.c.phase == int(Phase.QUEUED))
    .order_by(jobs.c.priority.desc(), jobs.c.dependants.desc(), jobs.c.id)
    .limit(given("most_rows"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A job that runs on a worker, or that is queued (then without one); `since` it does."""

    job: JobId
    build: BuildId
    project: ProjectId
    pipeline: str
    name: str
    uid: str
    since: Moment
    worker: str = ""


def _item(row: Row) -> Item:
    return Item(
        job=row[0],
        build=row[1],
        project=row[2],
        pipeline=row[3],
        name=row[4],
        uid=row[5],
        since=row[6],
        worker=row[7] if len(row) > 7 else "",
    )


async def running(tx: Transaction) -> list[Item]:
    """All jobs that workers hold: no more than the workers have places."""
    return [_item(row) for row in await tx.fetch(RUNNING)]


async def first_of_lane(tx: Transaction, lane: LaneId, count: int) -> list[Item]:
    """The jobs of a lane in the order in which they are given out."""
    return [_item(row) for row in await tx.fetch(FIRST_OF_LANE, of_lane=lane, most_rows=count)]
