"""Rules of retention, and which builds they may reach."""

from dataclasses import dataclass

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, Moment, PipelineId, ProjectId
from buildyard.domain.retention import Bounds, What
from buildyard.domain.states import Phase, Result
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import (
    artifacts,
    attempts,
    builds,
    logs,
    pipelines,
    retention_marks,
    retention_rules,
)
from buildyard.store.transactions import Transaction

ALL_PIPELINES = PipelineId(0)
"""What a rule of a whole project has as its pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What retention asks of a build."""

    id: BuildId
    project: ProjectId
    pipeline: PipelineId
    name: str
    phase: Phase
    keep: bool
    created_at: Moment
    finished_at: Moment | None
    logs_removed_at: Moment | None
    artifacts_removed_at: Moment | None
    removed_at: Moment | None

    def has_lost(self, what: What) -> bool:
        """Whether that is gone already."""
        gone = {What.LOGS: self.logs_removed_at, What.ARTIFACTS: self.artifacts_removed_at}
        return gone.get(what, self.removed_at) is not None


@dataclass(frozen=True, slots=True)
class Weight:
    """The bytes that a build holds in how many logs and artifacts."""

    build: BuildId
    logs: int
    artifacts: int
    log_count: int = 0
    artifact_count: int = 0

    def of(self, what: What) -> int:
        """The bytes of its logs, of its artifacts, or all."""
        return {What.LOGS: self.logs, What.ARTIFACTS: self.artifacts}.get(what, self.logs + self.artifacts)

    def count(self, what: What) -> int:
        """How many logs or artifacts, or one build."""
        return {What.LOGS: self.log_count, What.ARTIFACTS: self.artifact_count}.get(what, 1)


_CANDIDATE = (
    builds.c.id,
    builds.c.project,
    builds.c.pipeline,
    builds.c.name,
    builds.c.phase,
    builds.c.keep,
    builds.c.created_at,
    builds.c.finished_at,
    builds.c.logs_removed_at,
    builds.c.artifacts_removed_at,
    builds.c.removed_at,
)
_OF_NAME = and_(builds.c.pipeline == given("of"), builds.c.name == given("called"))
RULES = Statement(
    select(
        retention_rules.c.pipeline,
        retention_rules.c.what,
        retention_rules.c.days,
        retention_rules.c.count,
        retention_rules.c.size,
    ).where(retention_rules.c.project == given("within"))
)
_RULE = insert(retention_rules).values({c.name: given(c.name) for c in retention_rules.columns})
PUT_RULE = Statement(
    _RULE.on_conflict_do_update(
        index_elements=["project", "pipeline", "what"],
        set_={"days": _RULE.excluded.days, "count": _RULE.excluded.count, "size": _RULE.excluded.size},
    )
)
DROP_RULE = Statement(
    delete(retention_rules).where(
        retention_rules.c.project == given("within"),
        retention_rules.c.pipeline == given("of"),
        retention_rules.c.what == given("about"),
    )
)
PIPELINES = Statement(
    select(pipelines.c.id, pipelines.c.project)
    .where(pipelines.c.id > given("after"))
    .order_by(pipelines.c.id)
    .limit(given("most"))
)
COUNT_PIPELINES = Statement(select(func.count()).select_from(pipelines).where(pipelines.c.id > given("after")))
FIRST_NAME = Statement(select(builds.c.name).where(builds.c.pipeline == given("of")).order_by(builds.c.name).limit(1))
NEXT_NAME = Statement(
    select(builds.c.name)
    .where(builds.c.pipeline == given("of"), builds.c.name > given("after"))
    .order_by(builds.c.name)
    .limit(1)
)
BEYOND_COUNT = Statement(
    select(builds.c.id).where(_OF_NAME).order_by(builds.c.id.desc()).limit(1).offset(given("skip"))
)
NEWEST_SUCCESS = Statement(
    select(builds.c.id)
    .where(_OF_NAME, or_(builds.c.result == int(Result.SUCCESS), builds.c.result == int(Result.WARNINGS)))
    .order_by(builds.c.id.desc())
    .limit(1)
)
CANDIDATES = Statement(
    select(*_CANDIDATE).where(_OF_NAME, builds.c.id > given("after")).order_by(builds.c.id).limit(given("most"))
)
CANDIDATE = Statement(select(*_CANDIDATE).where(builds.c.id == given("key")).with_for_update(key_share=True))
REMOVED = Statement(
    select(*_CANDIDATE).where(builds.c.removed_at.is_not(None)).order_by(builds.c.id).limit(given("most"))
)
_LOGS = (
    select(logs.c.id)
    .select_from(attempts.join(logs, logs.c.attempt == attempts.c.id))
    .where(attempts.c.build == builds.c.id, logs.c.removed_at.is_(None))
)
_ARTIFACTS = select(artifacts.c.id).where(artifacts.c.build == builds.c.id, artifacts.c.removed_at.is_(None))
_BYTES = (
    _LOGS.with_only_columns(func.coalesce(func.sum(logs.c.size), 0)).scalar_subquery().label("log_bytes"),
    _ARTIFACTS.with_only_columns(func.coalesce(func.sum(artifacts.c.size), 0))
    .scalar_subquery()
    .label("artifact_bytes"),
)
_COUNTS = (
    _LOGS.with_only_columns(func.count()).scalar_subquery().label("log_count"),
    _ARTIFACTS.with_only_columns(func.count()).scalar_subquery().label("artifact_count"),
)
WEIGHTS = Statement(
    select(builds.c.id, *_BYTES)
    .where(_OF_NAME, builds.c.id < given("before"))
    .order_by(builds.c.id.desc())
    .limit(given("most"))
)
WEIGHT = Statement(select(builds.c.id, *_BYTES, *_COUNTS).where(builds.c.id == given("key")))
MARK = Statement(
    select(retention_marks.c.upto).where(
        retention_marks.c.pipeline == given("of"),
        retention_marks.c.name == given("called"),
        retention_marks.c.what == given("about"),
    )
)
_MARKED = insert(retention_marks).values({c.name: given(c.name) for c in retention_marks.columns})
PUT_MARK = Statement(
    _MARKED.on_conflict_do_update(
        index_elements=["pipeline", "name", "what"],
        set_={"upto": _MARKED.excluded.upto},
        where=retention_marks.c.upto < _MARKED.excluded.upto,
    )
)
DROP_MARKS = Statement(
    delete(retention_marks).where(retention_marks.c.pipeline == given("of"), retention_marks.c.name == given("called"))
)
KEEP = Statement(update(builds).where(builds.c.id == given("key")).values(keep=given("keep")))


def _candidate(row: Row) -> Candidate:
    key, project, pipeline, name, phase, keep, created_at, finished_at, logs_removed, artifacts_removed, removed = row
    return Candidate(
        id=key,
        project=project,
        pipeline=pipeline,
        name=name,
        phase=Phase(phase),
        keep=bool(keep),
        created_at=created_at,
        finished_at=finished_at,
        logs_removed_at=logs_removed,
        artifacts_removed_at=artifacts_removed,
        removed_at=removed,
    )


async def rules_of(tx: Transaction, project: ProjectId) -> dict[tuple[PipelineId, What], Bounds]:
    """The rules of a project and of its pipelines; a project's own are under ALL_PIPELINES."""
    return {
        (PipelineId(pipeline), What(what)): Bounds(days, count, size)
        for pipeline, what, days, count, size in await tx.fetch(RULES, within=project)
    }


async def put_rule(tx: Transaction, project: ProjectId, pipeline: PipelineId, what: What, bounds: Bounds) -> None:
    """Set a rule, or drop it if it says nothing."""
    if bounds == Bounds():
        await tx.execute(DROP_RULE, within=project, of=pipeline, about=what)
        return
    await tx.execute(
        PUT_RULE,
        project=project,
        pipeline=pipeline,
        what=what,
        days=bounds.days,
        count=bounds.count,
        size=bounds.size,
    )


async def pipelines_after(tx: Transaction, after: PipelineId, count: int) -> list[tuple[PipelineId, ProjectId]]:
    """Pipelines by id, each with its project."""
    return [
        (PipelineId(key), ProjectId(project)) for key, project in await tx.fetch(PIPELINES, after=after, most=count)
    ]


async def count_pipelines(tx: Transaction, after: PipelineId) -> int:
    """How many pipelines have ids above `after`."""
    row = await tx.fetch_one(COUNT_PIPELINES, after=after)
    assert row is not None
    return int(row[0])


async def next_name(tx: Transaction, pipeline: PipelineId, after: str | None) -> str | None:
    """The next name that builds of a pipeline have, the first for None."""
    row = await (
        tx.fetch_one(FIRST_NAME, of=pipeline) if after is None else tx.fetch_one(NEXT_NAME, of=pipeline, after=after)
    )
    return row[0] if row else None


async def beyond_count(tx: Transaction, pipeline: PipelineId, name: str, count: int) -> BuildId | None:
    """The newest build that is not among the newest `count` of its name."""
    row = await tx.fetch_one(BEYOND_COUNT, of=pipeline, called=name, skip=count)
    return BuildId(row[0]) if row else None


async def newest_success(tx: Transaction, pipeline: PipelineId, name: str) -> BuildId | None:
    """The newest build of its name that succeeded."""
    row = await tx.fetch_one(NEWEST_SUCCESS, of=pipeline, called=name)
    return BuildId(row[0]) if row else None


async def candidates(tx: Transaction, pipeline: PipelineId, name: str, after: BuildId, count: int) -> list[Candidate]:
    """Builds of a name with ids above `after`, oldest first."""
    rows = await tx.fetch(CANDIDATES, of=pipeline, called=name, after=after, most=count)
    return [_candidate(row) for row in rows]


async def locked_candidate(tx: Transaction, build: BuildId) -> Candidate | None:
    """A build, kept from others until the transaction ends; None if it is gone."""
    row = await tx.fetch_one(CANDIDATE, key=build)
    return _candidate(row) if row else None


async def removed_builds(tx: Transaction, count: int) -> list[Candidate]:
    """Builds whose removal has begun."""
    return [_candidate(row) for row in await tx.fetch(REMOVED, most=count)]


async def weights(tx: Transaction, pipeline: PipelineId, name: str, before: BuildId, count: int) -> list[Weight]:
    """What builds of a name with ids below `before` hold, newest first."""
    rows = await tx.fetch(WEIGHTS, of=pipeline, called=name, before=before, most=count)
    return [Weight(BuildId(key), int(of_logs), int(of_artifacts)) for key, of_logs, of_artifacts in rows]


async def weight(tx: Transaction, build: BuildId) -> Weight:
    """What a build holds."""
    row = await tx.fetch_one(WEIGHT, key=build)
    if row is None:
        raise NotFound("build not found")
    return Weight(BuildId(row[0]), *(int(value) for value in row[1:]))


async def mark(tx: Transaction, pipeline: PipelineId, name: str, what: What) -> BuildId:
    """Up to which build of a name all have lost `what`, or are kept for ever."""
    row = await tx.fetch_one(MARK, of=pipeline, called=name, about=what)
    return BuildId(row[0] if row else 0)


async def put_mark(tx: Transaction, pipeline: PipelineId, name: str, what: What, upto: BuildId) -> None:
    """Move a mark on; it never goes back."""
    await tx.execute(PUT_MARK, pipeline=pipeline, name=name, what=what, upto=upto)


async def set_keep(tx: Transaction, build: Candidate, *, keep: bool) -> None:
    """Set or take away a build's mark; without it, retention looks at the builds of its name anew."""
    await tx.execute(KEEP, key=build.id, keep=int(keep))
    if not keep:
        await tx.execute(DROP_MARKS, of=build.pipeline, called=build.name)
