"""Taking things out of the books: logs, artifacts, builds with all that is theirs, a bounded part at a time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.ids import BuildId, EvaluationId, LogId, ProjectId, RevisionId, Sha256
from buildyard.domain.states import Result
from buildyard.store import build_access, counters, events
from buildyard.store.builds import count_of_submitter
from buildyard.store.builds import get as get_build
from buildyard.store.kept import release_blob
from buildyard.store.statements import Row, Statement, Value, given
from buildyard.store.tables import (
    artifacts,
    attempts,
    build_jobs,
    builds,
    changes,
    evaluation_revisions,
    evaluations,
    jobs,
    log_removals,
    logs,
    metrics,
    revisions,
    steps,
    test_results,
)
from buildyard.store.transactions import Transaction

LOGS = Statement(
    select(logs.c.id, logs.c.size)
    .select_from(attempts.join(logs, logs.c.attempt == attempts.c.id))
    .where(attempts.c.build == given("of"), logs.c.removed_at.is_(None))
    .limit(given("most"))
)
MARK_LOG = Statement(update(logs).where(logs.c.id == given("key")).values(removed_at=given("at")))
_NOTED = insert(log_removals).values({c.name: given(c.name) for c in log_removals.columns})
NOTE_LOG = Statement(_NOTED.on_conflict_do_nothing())
NOTED_LOGS = Statement(select(log_removals.c.log).order_by(log_removals.c.log).limit(given("most")))
FORGET_LOG = Statement(delete(log_removals).where(log_removals.c.log == given("key")))
ARTIFACTS = Statement(
    select(artifacts.c.id, artifacts.c.sha256, artifacts.c.size)
    .where(artifacts.c.build == given("of"), artifacts.c.removed_at.is_(None))
    .limit(given("most"))
)
MARK_ARTIFACT = Statement(
    update(artifacts).where(artifacts.c.id == given("key")).values(sha256=None, removed_at=given("at"))
)
NOTE_LOGS_REMOVED = Statement(update(builds).where(builds.c.id == given("key")).values(logs_removed_at=given("at")))
NOTE_ARTIFACTS_REMOVED = Statement(
    update(builds).where(builds.c.id == given("key")).values(artifacts_removed_at=given("at"))
)
NOTE_REMOVED = Statement(update(builds).where(builds.c.id == given("key")).values(removed_at=given("at")))
SHARED_JOB = Statement(
    select(jobs.c.id)
    .select_from(jobs.join(build_jobs, build_jobs.c.job == jobs.c.id))
    .where(jobs.c.build == given("of"), build_jobs.c.build != given("of"))
    .limit(1)
)
ALL_ARTIFACTS = Statement(
    select(artifacts.c.id, artifacts.c.sha256).where(artifacts.c.build == given("of")).limit(given("most"))
)
DROP_ARTIFACT = Statement(delete(artifacts).where(artifacts.c.id == given("key")))
ALL_TESTS = Statement(select(test_results.c.id).where(test_results.c.build == given("of")).limit(given("most")))
DROP_TEST = Statement(delete(test_results).where(test_results.c.id == given("key")))
ALL_METRICS = Statement(select(metrics.c.id).where(metrics.c.build == given("of")).limit(given("most")))
DROP_METRIC = Statement(delete(metrics).where(metrics.c.id == given("key")))
ALL_LOGS = Statement(
    select(logs.c.id, logs.c.removed_at)
    .select_from(attempts.join(logs, logs.c.attempt == attempts.c.id))
    .where(attempts.c.build == given("of"))
    .limit(given("most"))
)
DROP_LOG = Statement(delete(logs).where(logs.c.id == given("key")))
ALL_STEPS = Statement(
    select(steps.c.id)
    .select_from(attempts.join(steps, steps.c.attempt == attempts.c.id))
    .where(attempts.c.build == given("of"))
    .limit(given("most"))
)
DROP_STEP = Statement(delete(steps).where(steps.c.id == given("key")))
ALL_ATTEMPTS = Statement(select(attempts.c.id).where(attempts.c.build == given("of")).limit(given("most")))
DROP_ATTEMPT = Statement(delete(attempts).where(attempts.c.id == given("key")))
ALL_JOBS = Statement(select(jobs.c.id).where(jobs.c.build == given("of")).limit(given("most")))
DROP_JOB = Statement(delete(jobs).where(jobs.c.id == given("key")))
PLACE = Statement(
    select(builds.c.project, builds.c.pipeline, builds.c.evaluation, builds.c.revision, builds.c.result)
    .where(builds.c.id == given("key"), builds.c.removed_at.is_not(None))
    .with_for_update()
)
DROP_BUILD = Statement(delete(builds).where(builds.c.id == given("key")))
LOCK_EVALUATION = Statement(select(evaluations.c.id).where(evaluations.c.id == given("key")).with_for_update())
DROP_EVALUATION = Statement(
    delete(evaluations).where(
        evaluations.c.id == given("key"),
        ~select(builds.c.id).where(builds.c.evaluation == given("key")).exists(),
    )
)
LOCK_REVISION = Statement(select(revisions.c.source_blob).where(revisions.c.id == given("key")).with_for_update())
DROP_REVISION = Statement(
    delete(revisions).where(
        revisions.c.id == given("key"),
        ~select(builds.c.id).where(builds.c.revision == given("key")).exists(),
        ~select(evaluation_revisions.c.evaluation).where(evaluation_revisions.c.revision == given("key")).exists(),
        ~select(changes.c.id).where(changes.c.revision == given("key")).exists(),
    )
)


@dataclass(frozen=True, slots=True)
class Lost:
    """What one transaction took away: how many, of how many bytes; `more`: not all went yet."""

    count: int
    size: int
    more: bool


def _keys(rows: Sequence[Row]) -> list[dict[str, Value]]:
    return [{"key": row[0]} for row in rows]


async def remove_logs(tx: Transaction, build: BuildId, project: ProjectId, most: int) -> Lost:
    """Say of at most `most` logs of a build that they were removed, and note that their bytes must go."""
    found = await tx.fetch(LOGS, of=build, most=most)
    await tx.execute_many(MARK_LOG, [{"key": row[0], "at": tx.now} for row in found])
    await tx.execute_many(NOTE_LOG, [{"log": row[0], "noted_at": tx.now} for row in found])
    if len(found) < most:
        await tx.execute(NOTE_LOGS_REMOVED, key=build, at=tx.now)
        events.add(tx, "logs_removed", "build", build, project=project, build=build)
    return Lost(len(found), sum(row[1] for row in found), len(found) == most)


async def remove_artifacts(tx: Transaction, build: BuildId, project: ProjectId, most: int) -> Lost:
    """Say of at most `most` artifacts of a build that they were removed, and release their blobs."""
    found = await tx.fetch(ARTIFACTS, of=build, most=most)
    await tx.execute_many(MARK_ARTIFACT, [{"key": row[0], "at": tx.now} for row in found])
    for digest in sorted(row[1] for row in found):
        await release_blob(tx, Sha256(digest), tx.now)
    if len(found) < most:
        await tx.execute(NOTE_ARTIFACTS_REMOVED, key=build, at=tx.now)
        events.add(tx, "artifacts_removed", "build", build, project=project, build=build)
    return Lost(len(found), sum(row[2] for row in found), len(found) == most)


async def begin_removal(tx: Transaction, build: BuildId, project: ProjectId) -> bool:
    """Make a build unknown, so that it may go piece by piece; False if another build shares a job of it."""
    if await tx.fetch_one(SHARED_JOB, of=build) is not None:
        return False
    await tx.execute(NOTE_REMOVED, key=build, at=tx.now)
    events.add(tx, "removed", "build", build, project=project, build=build)
    return True


def _dropper(found: Statement, drop: Statement) -> Callable[[Transaction, BuildId, int], Awaitable[int]]:
    """What drops rows that nothing else goes with."""

    async def drop_some(tx: Transaction, build: BuildId, most: int) -> int:
        rows = await tx.fetch(found, of=build, most=most)
        await tx.execute_many(drop, _keys(rows))
        return len(rows)

    return drop_some


async def remove_rows(tx: Transaction, build: BuildId, most: int) -> bool:
    """Delete about `most` rows of a build whose removal has begun, children first; True once nothing is left of it."""
    place = await tx.fetch_one(PLACE, key=build)
    if place is None:
        return True
    left = most
    for take in _DROPPERS:
        left -= await take(tx, build, left)
        if left <= 0:
            return False
    await _drop_build(tx, build, place)
    return True


async def _drop_artifacts(tx: Transaction, build: BuildId, most: int) -> int:
    found = await tx.fetch(ALL_ARTIFACTS, of=build, most=most)
    await tx.execute_many(DROP_ARTIFACT, _keys(found))
    for digest in sorted(row[1] for row in found if row[1] is not None):
        await release_blob(tx, Sha256(digest), tx.now)
    return len(found)


async def _drop_logs(tx: Transaction, build: BuildId, most: int) -> int:
    found = await tx.fetch(ALL_LOGS, of=build, most=most)
    await tx.execute_many(NOTE_LOG, [{"log": row[0], "noted_at": tx.now} for row in found if row[1] is None])
    await tx.execute_many(DROP_LOG, _keys(found))
    return len(found)


_DROPPERS = (
    _drop_artifacts,
    _dropper(ALL_TESTS, DROP_TEST),
    _dropper(ALL_METRICS, DROP_METRIC),
    _drop_logs,
    _dropper(ALL_STEPS, DROP_STEP),
    _dropper(ALL_ATTEMPTS, DROP_ATTEMPT),
    _dropper(ALL_JOBS, DROP_JOB),
)


async def _drop_build(tx: Transaction, build: BuildId, place: Row) -> None:
    """The build itself, then its evaluation and revision unless others have them; totals count it no more.

    Evaluation and revision are locked before they are looked at: of two builds that go at once, the later one sees it.
    """
    project, pipeline, evaluation, revision, result = place
    found = await get_build(tx, build)
    await build_access.forget(tx, found)
    count_of_submitter(tx, found, -1)
    await tx.execute(DROP_BUILD, key=build)
    by = {"builds": -1, "finished": -1, Result(result).word: -1}
    for kind, owner in (("pipeline", pipeline), ("project", project), ("server", 0)):
        counters.bump(tx, kind, owner, by)
    await _drop_evaluation(tx, evaluation)
    if revision is not None:
        await _drop_revision(tx, revision)


async def _drop_evaluation(tx: Transaction, evaluation: EvaluationId) -> None:
    await tx.fetch(LOCK_EVALUATION, key=evaluation)
    await tx.execute(DROP_EVALUATION, key=evaluation)


async def _drop_revision(tx: Transaction, revision: RevisionId) -> None:
    found = await tx.fetch_one(LOCK_REVISION, key=revision)
    if found is not None and await tx.execute(DROP_REVISION, key=revision) and found[0] is not None:
        await release_blob(tx, Sha256(found[0]), tx.now)


async def removed_logs(tx: Transaction, most: int) -> list[LogId]:
    """Logs whose bytes must go."""
    return [LogId(row[0]) for row in await tx.fetch(NOTED_LOGS, most=most)]


async def forget_logs(tx: Transaction, gone: Sequence[LogId]) -> None:
    """The bytes of these logs are gone."""
    await tx.execute_many(FORGET_LOG, [{"key": log} for log in gone])


def count_freed(tx: Transaction, what: str, count: int, size: int) -> None:
    """Add to the totals of what retention took away since the beginning."""
    counters.bump(tx, "retention", 0, {name: by for name, by in ((what, count), (f"{what}_bytes", size)) if by})
