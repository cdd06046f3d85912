"""Gathers what is told of a build: the build itself, its failed jobs, the ends of their logs."""

from dataclasses import dataclass, replace

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import NotFound, Unavailable
from buildyard.domain.ids import BuildId, LogId
from buildyard.domain.news import LINE_LENGTH, MOST_FAILED, TAIL_LINES, FailedJob, News
from buildyard.domain.notifications import Event
from buildyard.domain.states import Result
from buildyard.engine.engine import Engine
from buildyard.store import attempts, builds, failures
from buildyard.store.builds import BuildView
from buildyard.store.failures import FailedRow
from buildyard.store.transactions import Transaction

MOST_TAILS = 5
"""Of how many failed jobs the end of the log is told."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    news: News
    logs: tuple[LogId | None, ...]


async def read_news(engine: Engine, build: BuildId, event: Event, *, tails: bool) -> News:
    """What there is to tell of a build now; with `tails`, the last lines of what failed. NotFound if it was deleted."""
    gathered = await engine.read(gather, SYSTEM, build, event, link_of(engine.policy.public_url, build))
    if not tails:
        return gathered.news
    failed = [
        replace(each, tail=await _tail(engine, log)) if i < MOST_TAILS else each
        for i, (each, log) in enumerate(zip(gathered.news.failed, gathered.logs, strict=True))
    ]
    return replace(gathered.news, failed=tuple(failed))


def link_of(public_url: str, build: BuildId) -> str:
    """The address of a build, for people and programs."""
    return f"{public_url}/-/api/v1/builds/{build}"


async def gather(tx: Transaction, _actor: Actor, build: BuildId, event: Event, link: str) -> _Gathered:
    """The facts, and the log of each failed job's failed step."""
    view = await builds.view(tx, build)
    failed = await failures.of_build(tx, build, MOST_FAILED) if event is Event.FINISHED else []
    pairs = [await _failed_job(tx, row) for row in failed]
    news = _news(view, event, link, await builds.submitter_of(tx, build))
    count = await failures.count(tx, build) if len(failed) == MOST_FAILED else len(failed)
    news = replace(news, failures=count, failed=tuple(job for job, _ in pairs))
    return _Gathered(news, tuple(log for _, log in pairs))


def _news(view: BuildView, event: Event, link: str, submitter: str) -> News:
    build, revision = view.build, view.revision
    return News(
        event=event,
        uid=build.uid,
        id=build.id,
        number=build.number,
        project_uid=view.project_uid,
        project=view.project_slug,
        pipeline_uid=view.pipeline_uid,
        pipeline=view.pipeline_slug,
        pipeline_name=view.pipeline_name,
        phase=build.state.phase,
        result=build.state.result,
        cause=build.state.cause,
        detail=build.state.detail,
        note=build.note,
        restarts=build.restarts,
        jobs=build.jobs_total,
        repository=revision.repository if revision else "",
        branch=revision.branch if revision else "",
        commit=revision.commit if revision else "",
        message=revision.message if revision else "",
        author=revision.author if revision else "",
        submitter=submitter,
        link=link,
        created_at=build.created_at,
        started_at=build.started_at,
        finished_at=build.finished_at,
    )


async def _failed_job(tx: Transaction, row: FailedRow) -> tuple[FailedJob, LogId | None]:
    """A failed job with the step that failed in its last attempt, and that step's log."""
    found = FailedJob(job=row.name, result=row.result, cause=row.cause, detail=row.detail)
    tried = await attempts.of_job(tx, row.job)
    if not tried:
        return found, None
    steps = await attempts.steps_of(tx, tried[-1].id)
    bad = [step for step in steps if step.state.result is not None and step.state.result >= Result.FAILURE]
    if not bad:
        return found, None
    logs = {log.step: log.id for log in await attempts.logs_of(tx, tried[-1].id)}
    return replace(found, step=bad[-1].name), logs.get(bad[-1].id)


async def _tail(engine: Engine, log: LogId | None) -> tuple[str, ...]:
    """The last lines of a log; none if it is not there any more."""
    if log is None:
        return ()
    try:
        lines = await engine.logs.lines(log, -TAIL_LINES, TAIL_LINES)
    except (NotFound, Unavailable):
        return ()
    return tuple(line.data[: LINE_LENGTH * 4].decode("utf-8", "replace")[:LINE_LENGTH].rstrip("\r") for line in lines)
