"""Results of tests and metrics: taken in with the end of an attempt, and read."""

import math
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission, require
from buildyard.domain.builds import Build, Job
from buildyard.domain.errors import Fault, Invalid, NotFound
from buildyard.domain.ids import StepId
from buildyard.engine.build_access import listed_builds, require_build
from buildyard.protocol import Finished, ReportedTest
from buildyard.store import builds, pipelines, projects, reports
from buildyard.store.reports import VALUES, Metric, ResultSet, TestResult
from buildyard.store.statements import Value
from buildyard.store.transactions import Transaction

MOST_SETS = 500
MOST_CASES = 5000
MOST_METRICS = 1000
"""Of one attempt; what a worker tells beyond is left out."""
_NAME = 500
_MESSAGE = 2000
_MOST_INT = 2**31 - 1


async def record(tx: Transaction, build: Build, job: Job, step: StepId, end: Finished) -> None:
    """Take in what an attempt's reports said, in place of what an earlier attempt of the job did.

    A worker may tell anything: texts are cut, numbers bounded, and what is no result or number is left out.
    """
    if job.attempts > 1:
        await reports.forget_job(tx, build.id, job.id)
    left = MOST_CASES
    for found in end.tests[:MOST_SETS]:
        key = await reports.add_set(
            tx,
            job,
            step,
            description=_text(found.description, _NAME),
            passed=_bounded(found.passed),
            failed=_bounded(found.failed),
            skipped=_bounded(found.skipped),
        )
        rows = [_row(case) for case in found.cases[:left] if case.value in VALUES]
        left -= len(rows)
        await reports.add_results(tx, build.id, key, rows)
    for metric in end.metrics[:MOST_METRICS]:
        if math.isfinite(metric.value) and (name := _text(metric.name, 200)):
            await reports.put_metric(tx, build, job.id, name=name, value=metric.value, unit=_text(metric.unit, 40))


def _row(case: ReportedTest) -> dict[str, Value]:
    return {
        "name": _text(case.name, _NAME),
        "suite": _text(case.suite, _NAME),
        "path": _text(case.path, _NAME),
        "line": _bounded(case.line),
        "duration_ns": max(0, min(case.duration_ns, 2**62)),
        "value": case.value,
        "message": _text(case.message, _MESSAGE),
    }


def _text(text: str, most: int) -> str:
    return text[:most].replace("\0", "").encode("utf-8", "replace").decode()


def _bounded(number: int) -> int:
    return max(0, min(number, _MOST_INT))


@dataclass(frozen=True, slots=True)
class Tests:
    """A build's reports of tests, and a page of its tests; `next` asks for the following ones, empty at the end."""

    sets: list[ResultSet]
    results: list[TestResult]
    next: str


async def list_tests(
    tx: Transaction, actor: Actor, uid: str, *, status: str = "", cursor: str = "", limit: int = 100
) -> Tests:
    """A build's tests, the worst first; only those with `status` if one is given."""
    view = await builds.view_by_uid(tx, uid)
    await require_build(tx, actor, Permission.READ, view.build, "build")
    if status and status not in VALUES:
        raise _invalid("status", f"must be one of {', '.join(VALUES)}")
    first, after = _position(cursor)
    found: list[TestResult] = []
    for value in (status,) if status else VALUES[VALUES.index(first or VALUES[0]) :]:
        since = after if value == first else 0
        found += await reports.results_of(tx, view.build.id, value, since, limit - len(found))
        if len(found) == limit:
            break
    following = f"{found[-1].value}:{found[-1].id}" if len(found) == limit else ""
    return Tests(await reports.sets_of(tx, view.build.id, 10 * MOST_SETS), found, following)


def _position(cursor: str) -> tuple[str, int]:
    value, _, after = cursor.partition(":")
    if cursor and (value not in VALUES or not after.isascii() or not after.isdecimal() or len(after) > 10):
        raise _invalid("cursor", "is not one that was given")
    return value, int(after or 0)


def _invalid(path: str, message: str) -> Invalid:
    return Invalid(f"{path} {message}", (Fault(path, message, "invalid"),))


async def list_metrics(tx: Transaction, actor: Actor, uid: str) -> list[Metric]:
    """What a build measured, by name."""
    view = await builds.view_by_uid(tx, uid)
    await require_build(tx, actor, Permission.READ, view.build, "build")
    return await reports.metrics_of(tx, view.build.id)


async def read_history(
    tx: Transaction, actor: Actor, project_uid: str, pipeline_slug: str, name: str, *, before: int = 0, limit: int = 100
) -> list[Metric]:
    """One metric over a pipeline's builds, newest first; `before` is the id of the last one seen."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.READ, project.owner, "project")
    pipeline = await pipelines.find_by_slug(tx, project.id, pipeline_slug)
    if pipeline is None:
        raise NotFound(f"project {project.slug} has no pipeline {pipeline_slug}")
    found = await reports.history(tx, pipeline.id, name, before or _MOST_INT, limit)
    shown = await listed_builds(tx, actor, [one.build for one in found])
    return [one for one in found if one.build in shown]
