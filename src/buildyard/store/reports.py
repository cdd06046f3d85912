"""What reports said: results of tests, and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.builds import Build, Job
from buildyard.domain.ids import BuildId, JobId, Moment, PipelineId, StepId
from buildyard.store.statements import Row, Statement, Value, given, insertion
from buildyard.store.tables import builds, jobs, metrics, test_result_sets, test_results
from buildyard.store.transactions import Transaction

VALUES = ("error", "failed", "skipped", "passed")
"""How a test may end, worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSet:
    """The tests of one report of a job."""

    id: int
    job: str
    description: str
    passed: int
    failed: int
    skipped: int
    created_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """How a test went."""

    id: int
    result_set: int
    name: str
    suite: str
    path: str
    line: int
    duration_ns: int
    value: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A named number of a job of a build, which has this `number` in its pipeline."""

    id: int
    build: BuildId
    number: int
    job: str
    name: str
    value: float
    unit: str


ADD_SET = insertion(test_result_sets)
ADD_RESULT = insertion(test_results)
SETS_OF_JOB = Statement(select(test_result_sets.c.id).where(test_result_sets.c.job == given("of")))
DROP_SET = Statement(delete(test_result_sets).where(test_result_sets.c.id == given("key")))
DROP_RESULTS = Statement(
    delete(test_results).where(test_results.c.build == given("of"), test_results.c.result_set == given("key"))
)
DROP_METRICS = Statement(delete(metrics).where(metrics.c.job == given("of")))
_METRIC = insert(metrics).values({c.name: given(c.name) for c in metrics.columns})
PUT_METRIC = Statement(
    _METRIC.on_conflict_do_update(
        index_elements=["job", "name"], set_={"value": _METRIC.excluded.value, "unit": _METRIC.excluded.unit}
    )
)
SETS = Statement(
    select(
        test_result_sets.c.id,
        jobs.c.name,
        test_result_sets.c.description,
        test_result_sets.c.passed,
        test_result_sets.c.failed,
        test_result_sets.c.skipped,
        test_result_sets.c.created_at,
    )
    .select_from(test_result_sets.join(jobs, jobs.c.id == test_result_sets.c.job))
    .where(test_result_sets.c.build == given("of"))
    .order_by(test_result_sets.c.id)
    .limit(given("most"))
)
RESULTS = Statement(
    select(
        test_results.c.id,
        test_results.c.result_set,
        test_results.c.name,
        test_results.c.suite,
        test_results.c.path,
        test_results.c.line,
        test_results.c.duration_ns,
        test_results.c.value,
        test_results.c.message,
    )
    .where(
        test_results.c.build == given("of"), test_results.c.value == given("ended"), test_results.c.id > given("after")
    )
    .order_by(test_results.c.id)
    .limit(given("most"))
)
_METRICS = select(
    metrics.c.id, metrics.c.build, builds.c.number, jobs.c.name, metrics.c.name, metrics.c.value, metrics.c.unit
).select_from(metrics.join(builds, builds.c.id == metrics.c.build).join(jobs, jobs.c.id == metrics.c.job))
METRICS_OF_BUILD = Statement(_METRICS.where(metrics.c.build == given("of")).order_by(metrics.c.name, metrics.c.id))
HISTORY = Statement(
    _METRICS.where(metrics.c.pipeline == given("of"), metrics.c.name == given("called"), metrics.c.id < given("before"))
    .order_by(metrics.c.id.desc())
    .limit(given("most"))
)


def _metric(row: Row) -> Metric:
    key, build, number, job, name, value, unit = row
    return Metric(id=key, build=build, number=number, job=job, name=name, value=float(value), unit=unit)


async def forget_job(tx: Transaction, build: BuildId, job: JobId) -> None:
    """Forget what an earlier attempt of a job reported."""
    keys = [row[0] for row in await tx.fetch(SETS_OF_JOB, of=job)]
    for key in keys:
        await tx.execute(DROP_RESULTS, of=build, key=key)
        await tx.execute(DROP_SET, key=key)
    await tx.execute(DROP_METRICS, of=job)


async def add_set(
    tx: Transaction, job: Job, step: StepId, *, description: str, passed: int, failed: int, skipped: int
) -> int:
    """Note a report of tests; gives its id."""
    (key,) = await tx.allocate("test_result_sets")
    await tx.execute(
        ADD_SET,
        id=key,
        build=job.build,
        job=job.id,
        step=step,
        description=description,
        category="pass_fail",
        unit="",
        passed=passed,
        failed=failed,
        skipped=skipped,
        complete=1,
        created_at=tx.now,
    )
    return key


async def add_results(tx: Transaction, build: BuildId, result_set: int, rows: Sequence[dict[str, Value]]) -> None:
    """Note the tests of a report."""
    keys = await tx.allocate("test_results", len(rows)) if rows else []
    whole: list[dict[str, Value]] = [
        {**row, "id": key, "build": build, "result_set": result_set} for key, row in zip(keys, rows, strict=True)
    ]
    await tx.execute_many(ADD_RESULT, whole)


async def put_metric(tx: Transaction, build: Build, job: JobId, *, name: str, value: float, unit: str) -> None:
    """Note what a job of a build measured."""
    (key,) = await tx.allocate("metrics")
    await tx.execute(
        PUT_METRIC, id=key, build=build.id, pipeline=build.pipeline, job=job, name=name, value=repr(value), unit=unit
    )


async def sets_of(tx: Transaction, build: BuildId, limit: int) -> list[ResultSet]:
    """A build's reports of tests, oldest first."""
    return [
        ResultSet(
            id=key,
            job=job,
            description=description,
            passed=passed,
            failed=failed,
            skipped=skipped,
            created_at=created_at,
        )
        for key, job, description, passed, failed, skipped, created_at in await tx.fetch(SETS, of=build, most=limit)
    ]


async def results_of(tx: Transaction, build: BuildId, value: str, after: int, limit: int) -> list[TestResult]:
    """A build's tests that ended so, with ids above `after`, in their order."""
    rows = await tx.fetch(RESULTS, of=build, ended=value, after=after, most=limit)
    return [
        TestResult(
            id=row[0],
            result_set=row[1],
            name=row[2],
            suite=row[3],
            path=row[4],
            line=row[5],
            duration_ns=row[6],
            value=row[7],
            message=row[8],
        )
        for row in rows
    ]


async def metrics_of(tx: Transaction, build: BuildId) -> list[Metric]:
    """What a build measured, by name."""
    return [_metric(row) for row in await tx.fetch(METRICS_OF_BUILD, of=build)]


async def history(tx: Transaction, pipeline: PipelineId, name: str, before: int, limit: int) -> list[Metric]:
    """One metric over a pipeline's builds, newest first, with ids below `before`."""
    return [_metric(row) for row in await tx.fetch(HISTORY, of=pipeline, called=name, before=before, most=limit)]
