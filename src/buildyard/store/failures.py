"""The jobs of a build that did not end well."""

from dataclasses import dataclass

from sqlalchemy import func, select

from buildyard.domain.ids import BuildId, JobId
from buildyard.domain.states import Result
from buildyard.store.statements import Statement, given
from buildyard.store.tables import jobs
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRow:
    """A job that ran and ended badly."""

    job: JobId
    name: str
    result: Result
    cause: str
    detail: str


_FAILED = (
    jobs.c.build == given("of"),
    jobs.c.result >= int(Result.FAILURE),
    jobs.c.result < int(Result.CANCELLED),
)
OF_BUILD = Statement(
    select(jobs.c.id, jobs.c.name, jobs.c.result, jobs.c.cause, jobs.c.detail)
    .where(*_FAILED)
    .order_by(jobs.c.position)
    .limit(given("most"))
)
COUNT = Statement(select(func.count()).select_from(jobs).where(*_FAILED))


async def of_build(tx: Transaction, build: BuildId, limit: int) -> list[FailedRow]:
    """The first so many of them, by position."""
    return [
        FailedRow(job=key, name=name, result=Result(result), cause=cause, detail=detail)
        for key, name, result, cause, detail in await tx.fetch(OF_BUILD, of=build, most=limit)
    ]


async def count(tx: Transaction, build: BuildId) -> int:
    """How many there are."""
    row = await tx.fetch_one(COUNT, of=build)
    assert row is not None
    return int(row[0])
