"""What waiting jobs and builds wait for beside their needs; a row goes when it is passed."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import delete, select

from buildyard.domain.blocking import Blocker, BlockerKind
from buildyard.domain.ids import BuildId, JobId, Moment, ProjectId
from buildyard.domain.specs import Approval
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import blockers, builds, jobs, pipelines
from buildyard.store.transactions import Transaction

_BLOCKER = (
    blockers.c.id,
    blockers.c.project,
    blockers.c.build,
    blockers.c.job,
    blockers.c.kind,
    blockers.c.name,
    blockers.c.lock,
    blockers.c.most,
    blockers.c.since,
    blockers.c.until,
    blockers.c.details,
)
ADD = insertion(blockers)
BY_ID = Statement(select(*_BLOCKER).where(blockers.c.id == given("key")))
OF_BUILD = Statement(select(*_BLOCKER).where(blockers.c.build == given("of")).order_by(blockers.c.id))
OF_JOB = Statement(select(*_BLOCKER).where(blockers.c.job == given("of")).order_by(blockers.c.id))
HEAD = Statement(
    select(*_BLOCKER).where(blockers.c.lock == given("of")).order_by(blockers.c.build, blockers.c.job).limit(1)
)
LINE = Statement(
    select(blockers.c.build, blockers.c.job)
    .where(blockers.c.lock == given("of"))
    .order_by(blockers.c.build, blockers.c.job)
    .limit(given("most_rows"))
)
DUE = Statement(
    select(blockers.c.id).where(blockers.c.until <= given("at")).order_by(blockers.c.until).limit(given("most_rows"))
)
NEXT_DUE = Statement(select(blockers.c.until).where(blockers.c.until.is_not(None)).order_by(blockers.c.until).limit(1))
DROP = Statement(delete(blockers).where(blockers.c.id == given("key")))
DROP_OF_JOB = Statement(delete(blockers).where(blockers.c.job == given("of")))
DROP_OF_BUILD = Statement(delete(blockers).where(blockers.c.build == given("of")).returning(blockers.c.lock))
_NAMED = (
    select(*_BLOCKER, pipelines.c.slug, jobs.c.name, jobs.c.uid)
    .select_from(
        blockers.join(builds, builds.c.id == blockers.c.build)
        .join(pipelines, pipelines.c.id == builds.c.pipeline)
        .outerjoin(jobs, jobs.c.id == blockers.c.job)
    )
    .order_by(blockers.c.id)
    .limit(given("most_rows"))
)
PAGE_OF_PROJECT = Statement(_NAMED.where(blockers.c.project == given("within")))
PAGE_OF_ALL = Statement(_NAMED)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Approval).decode


def _blocker(row: Row) -> Blocker:
    return Blocker(
        id=row[0],
        project=row[1],
        build=row[2],
        job=row[3],
        kind=BlockerKind(row[4]),
        name=row[5],
        lock=row[6],
        most=row[7],
        since=row[8],
        until=row[9],
        approval=_decode(row[10]) if row[10] else None,
    )


async def add(
    tx: Transaction,
    kind: BlockerKind,
    *,
    project: ProjectId,
    build: BuildId,
    job: JobId | None = None,
    name: str = "",
    lock: int | None = None,
    most: int = 0,
    until: Moment | None = None,
    approval: Approval | None = None,
) -> None:
    """Note that a job, or a whole build, waits for this; what has an `until` is looked at again then."""
    (key,) = await tx.allocate("blockers")
    await tx.execute(
        ADD,
        id=key,
        project=project,
        build=build,
        job=job,
        kind=kind,
        name=name,
        lock=lock,
        most=most,
        since=tx.now,
        until=until,
        details=_encode(approval).decode() if approval else "",
    )
    tx.wake(f"build:{build}", *(["due"] if until is not None else []))


async def find(tx: Transaction, key: int) -> Blocker | None:
    """The blocker with this id, if it still is one."""
    row = await tx.fetch_one(BY_ID, key=key)
    return _blocker(row) if row else None


async def of_build(tx: Transaction, build: BuildId) -> list[Blocker]:
    """What a build and its jobs wait for, oldest first."""
    return [_blocker(row) for row in await tx.fetch(OF_BUILD, of=build)]


async def of_job(tx: Transaction, job: JobId) -> list[Blocker]:
    """What a job waits for."""
    return [_blocker(row) for row in await tx.fetch(OF_JOB, of=job)]


async def head(tx: Transaction, lock: int) -> Blocker | None:
    """The first in the line for a lock: that of the oldest build, and its oldest job."""
    row = await tx.fetch_one(HEAD, of=lock)
    return _blocker(row) if row else None


async def line(tx: Transaction, lock: int, count: int) -> list[tuple[BuildId, JobId | None]]:
    """The first in the line for a lock."""
    return [(row[0], row[1]) for row in await tx.fetch(LINE, of=lock, most_rows=count)]


async def due(tx: Transaction, count: int) -> list[int]:
    """Blockers whose time has come, longest ago first."""
    return [row[0] for row in await tx.fetch(DUE, at=tx.now, most_rows=count)]


async def next_due(tx: Transaction) -> Moment | None:
    """When the next blocker is due."""
    row = await tx.fetch_one(NEXT_DUE)
    return Moment(row[0]) if row else None


async def drop(tx: Transaction, key: int) -> bool:
    """Take a blocker away; False if it was gone."""
    return await tx.execute(DROP, key=key) == 1


async def drop_of_job(tx: Transaction, job: JobId) -> None:
    """Take all blockers of a job away."""
    await tx.execute(DROP_OF_JOB, of=job)


async def drop_of_build(tx: Transaction, build: BuildId) -> set[int]:
    """Take all blockers of a build and its jobs away; gives the locks in whose lines they stood."""
    return {row[0] for row in await tx.fetch(DROP_OF_BUILD, of=build) if row[0] is not None}


@dataclass(frozen=True, slots=True)
class NamedBlocker:
    """A blocker with the names of what it holds up; `job` and its uid are empty for a build as a whole."""

    blocker: Blocker
    pipeline: str
    job: str
    job_uid: str


async def page(tx: Transaction, project: ProjectId | None, count: int) -> list[NamedBlocker]:
    """The oldest blockers of a project, or of all."""
    if project is None:
        rows = await tx.fetch(PAGE_OF_ALL, most_rows=count)
    else:
        rows = await tx.fetch(PAGE_OF_PROJECT, within=project, most_rows=count)
    return [NamedBlocker(_blocker(row), row[11], row[12] or "", row[13] or "") for row in rows]
