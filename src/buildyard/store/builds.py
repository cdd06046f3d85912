"""Builds, the evaluations they came from, and the revisions they build."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from sqlalchemy import Column, Integer, Select, bindparam, case, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.access import Audience
from buildyard.domain.builds import Build, State
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import (
    BuildId,
    EvaluationId,
    Moment,
    PipelineId,
    PipelineVersionId,
    ProjectId,
    RevisionId,
    TriggerId,
    Uid,
    UserId,
)
from buildyard.domain.notifications import Event
from buildyard.domain.states import Cause, Phase, Result
from buildyard.store import counters, events, telling
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import (
    AS_PROJECT,
    LISTED,
    OF_MANIFEST,
    PUBLISHED,
    RESERVED,
    build_access,
    builds,
    evaluation_builds,
    evaluation_revisions,
    evaluations,
    pipelines,
    projects,
    revisions,
)
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An exact source; `source_blob` is an uploaded folder's digest."""

    id: RevisionId
    repository: str
    branch: str
    commit: str
    message: str
    author: str
    source_blob: str | None
    source_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One firing of a trigger, or one submission, and how many of its builds are unfinished."""

    id: EvaluationId
    trigger: TriggerId | None
    parent_build: BuildId | None
    due_at: Moment | None
    reason: str
    submitter: str
    builds_left: int
    result: Result | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildView:
    """A build with what every reader shows beside it."""

    build: Build
    revision: Revision | None
    project_uid: Uid
    project_slug: str
    pipeline_uid: Uid
    pipeline_slug: str
    pipeline_name: str


_BUILD = (
    builds.c.id,
    builds.c.uid,
    builds.c.project,
    builds.c.pipeline,
    builds.c.version,
    builds.c.evaluation,
    builds.c.revision,
    builds.c.number,
    builds.c.name,
    builds.c.priority,
    builds.c.phase,
    builds.c.result,
    builds.c.cause,
    builds.c.detail,
    builds.c.worst,
    builds.c.jobs_total,
    builds.c.jobs_left,
    builds.c.cancel_requested,
    builds.c.note,
    builds.c.rebuild_of,
    builds.c.restarts,
    builds.c.created_at,
    builds.c.started_at,
    builds.c.finished_at,
    builds.c.row_version,
    builds.c.first_job,
    builds.c.submitter,
    builds.c.concurrency,
    builds.c.superseded_by,
    builds.c.trusted,
    builds.c.keep,
    builds.c.audience,
    builds.c.manifest,
    builds.c.secrets_enabled,
)
_REVISION = (
    revisions.c.id,
    revisions.c.repository,
    revisions.c.branch,
    revisions.c.commit,
    revisions.c.message,
    revisions.c.author,
    revisions.c.source_blob,
    revisions.c.source_size,
)
_VIEW = select(
    *_BUILD, *_REVISION, projects.c.uid, projects.c.slug, pipelines.c.uid, pipelines.c.slug, pipelines.c.name
).select_from(
    builds.join(projects, projects.c.id == builds.c.project)
    .join(pipelines, pipelines.c.id == builds.c.pipeline)
    .outerjoin(revisions, revisions.c.id == builds.c.revision)
)

BY_ID = Statement(select(*_BUILD).where(builds.c.id == given("key")))
BY_ID_LOCKED = Statement(select(*_BUILD).where(builds.c.id == given("key")).with_for_update(key_share=True))
VIEW_BY_ID = Statement(_VIEW.where(builds.c.id == given("key"), builds.c.removed_at.is_(None)))
VIEW_BY_UID = Statement(_VIEW.where(builds.c.uid == given("of_uid"), builds.c.removed_at.is_(None)))


def _page(query: Select[tuple[int]], key: Column[int] = builds.c.id) -> Statement:
    """The newest of these builds; they are chosen by the index alone, and only then looked up, whatever their place."""
    chosen = query.order_by(key.desc()).limit(given("most")).offset(given("skip")).subquery("chosen")
    return Statement(_VIEW.where(builds.c.id.in_(select(chosen.c.id))).order_by(builds.c.id.desc()))


PAGE_OF_PROJECT = _page(select(builds.c.id).where(builds.c.project == given("within")))
PAGE_OF_ALL = _page(select(builds.c.id))
PAGE_AS_PROJECT = _page(select(builds.c.id).where(builds.c.project == given("within"), AS_PROJECT))
PAGE_PUBLISHED = _page(select(builds.c.id).where(PUBLISHED))
PAGE_PUBLISHED_OF_PROJECT = _page(select(builds.c.id).where(builds.c.project == given("within"), PUBLISHED))
PAGE_RESERVED = _page(select(builds.c.id).where(builds.c.submitter == given("of"), RESERVED))
PAGE_RESERVED_OF_PROJECT = _page(
    select(builds.c.id).where(builds.c.submitter == given("of"), builds.c.project == given("within"), RESERVED)
)
_GRANTED = (
    select(build_access.c.build.label("id"))
    .select_from(build_access.join(builds, builds.c.id == build_access.c.build))
    .where(build_access.c.grantee == given("named"), LISTED)
)
PAGE_GRANTED = _page(_GRANTED, build_access.c.build)
PAGE_OF_PIPELINE = Statement(
    _VIEW.where(
        builds.c.pipeline == given("of"),
        builds.c.name == given("called"),
        builds.c.id < given("before"),
        builds.c.removed_at.is_(None),
    )
    .order_by(builds.c.id.desc())
    .limit(given("most"))
)
PAGE_GRANTED_OF_PROJECT = _page(_GRANTED.where(builds.c.project == given("within")), build_access.c.build)
_OF_SUBMITTER = (
    _VIEW.where(builds.c.submitter == given("of"), builds.c.id <= given("from_id"), builds.c.removed_at.is_(None))
    .order_by(builds.c.id.desc())
    .limit(given("most"))
)
OF_SUBMITTER = Statement(_OF_SUBMITTER)
MANIFESTS_OF_SUBMITTER = Statement(_OF_SUBMITTER.where(OF_MANIFEST))
OPEN_OF_SUBMITTER = Statement(
    select(builds.c.id)
    .where(builds.c.submitter == given("of"), builds.c.phase < int(Phase.FINISHED), builds.c.cancel_requested == 0)
    .order_by(builds.c.id)
    .limit(given("most"))
)
ADD = insertion(builds)
ADD_EVALUATION = insertion(evaluations)
ADD_EVALUATION_BUILD = insertion(evaluation_builds)
ADD_REVISION = insertion(revisions)
ADD_EVALUATION_REVISION = insertion(evaluation_revisions)
INPUT = Statement(
    select(*_REVISION)
    .select_from(evaluation_revisions.join(revisions, revisions.c.id == evaluation_revisions.c.revision))
    .where(evaluation_revisions.c.evaluation == given("of"), evaluation_revisions.c.input == given("called"))
)
REPEAT_INPUTS = Statement(
    insert(evaluation_revisions)
    .from_select(
        ["evaluation", "input", "revision"],
        select(bindparam("into", type_=Integer), evaluation_revisions.c.input, evaluation_revisions.c.revision).where(
            evaluation_revisions.c.evaluation == given("of")
        ),
    )
    .on_conflict_do_nothing()
)
REVISION = Statement(select(*_REVISION).where(revisions.c.id == given("key")))
PIN_REVISION = Statement(
    update(revisions)
    .where(revisions.c.id == given("key"), revisions.c.commit == given("seen"))
    .values(commit=given("commit"), branch=given("branch"), message=given("message"), author=given("author"))
)
SUBMITTER = Statement(
    select(evaluations.c.submitter)
    .select_from(builds.join(evaluations, evaluations.c.id == builds.c.evaluation))
    .where(builds.c.id == given("key"))
)
MOVE = Statement(
    update(builds)
    .where(builds.c.id == given("key"), builds.c.row_version == given("seen"))
    .values(
        phase=given("phase"),
        result=given("result"),
        cause=given("cause"),
        detail=given("detail"),
        worst=given("worst"),
        jobs_left=given("jobs_left"),
        cancel_requested=given("cancel_requested"),
        restarts=given("restarts"),
        started_at=given("started_at"),
        finished_at=given("finished_at"),
        first_job=given("first_job"),
        superseded_by=given("superseded_by"),
        row_version=builds.c.row_version + 1,
    )
    .returning(builds.c.id)
)
_WORSE = case((evaluations.c.worst > given("result"), evaluations.c.worst), else_=given("result"))
COUNT_DOWN_EVALUATION = Statement(
    update(evaluations)
    .where(evaluations.c.id == given("key"))
    .values(
        builds_left=evaluations.c.builds_left - 1,
        worst=_WORSE,
        result=case((evaluations.c.builds_left == 1, _WORSE), else_=evaluations.c.result),
        finished_at=case((evaluations.c.builds_left == 1, given("at")), else_=evaluations.c.finished_at),
    )
    .returning(evaluations.c.id)
)
"""With its last build an evaluation is finished; its result is the worst of all."""
EVALUATION = Statement(
    select(
        evaluations.c.id,
        evaluations.c.trigger,
        evaluations.c.parent_build,
        evaluations.c.due_at,
        evaluations.c.reason,
        evaluations.c.submitter,
        evaluations.c.builds_left,
        evaluations.c.result,
    ).where(evaluations.c.id == given("key"))
)
DUE_EVALUATION = Statement(
    select(evaluations.c.id).where(evaluations.c.trigger == given("of"), evaluations.c.due_at == given("moment"))
)
ENVIRONMENT = Statement(select(builds.c.environment).where(builds.c.id == given("key")))
OLDER_OF_REF = Statement(
    select(builds.c.id)
    .where(
        builds.c.pipeline == given("of"),
        builds.c.ref == given("named"),
        builds.c.phase < int(Phase.FINISHED),
        builds.c.cancel_requested == 0,
    )
    .order_by(builds.c.id)
)


@lru_cache(maxsize=1024)
def state_of(phase: int, result: int | None, cause: str, detail: str, lost: int = 0) -> State:
    """The state that a row's columns hold; most rows share a few."""
    return State(
        phase=Phase(phase),
        result=None if result is None else Result(result),
        cause=Cause(cause),
        detail=detail,
        lost=bool(lost),
    )


def _build(row: Row) -> Build:
    return Build(
        id=row[0],
        uid=row[1],
        project=row[2],
        pipeline=row[3],
        pipeline_version=row[4],
        evaluation=row[5],
        revision=row[6],
        number=row[7],
        name=row[8],
        priority=row[9],
        state=state_of(row[10], row[11], row[12], row[13]),
        worst=Result(row[14]),
        jobs_total=row[15],
        jobs_left=row[16],
        cancel_requested=bool(row[17]),
        note=row[18],
        rebuild_of=row[19],
        restarts=row[20],
        trusted=bool(row[29]),
        created_at=row[21],
        started_at=row[22],
        finished_at=row[23],
        row_version=row[24],
        first_job=row[25],
        keep=bool(row[30]),
        submitter=row[26],
        concurrency=row[27],
        superseded_by=row[28],
        audience=Audience(row[31]),
        manifest=bool(row[32]),
        secrets_enabled=bool(row[33]),
    )


def _revision(row: Row) -> Revision | None:
    key, repository, branch, commit, message, author, blob, size = row
    if key is None:
        return None
    return Revision(
        id=key,
        repository=repository,
        branch=branch,
        commit=commit,
        message=message,
        author=author,
        source_blob=blob,
        source_size=size,
    )


def _view(row: Row) -> BuildView:
    first, second = len(_BUILD), len(_BUILD) + len(_REVISION)
    project_uid, project_slug, pipeline_uid, pipeline_slug, pipeline_name = row[second:]
    return BuildView(
        build=_build(row[:first]),
        revision=_revision(row[first:second]),
        project_uid=project_uid,
        project_slug=project_slug,
        pipeline_uid=pipeline_uid,
        pipeline_slug=pipeline_slug,
        pipeline_name=pipeline_name,
    )


async def get(tx: Transaction, key: BuildId, *, lock: bool = False) -> Build:
    """The build with this id; `lock` keeps other transactions from moving it or its jobs."""
    row = await tx.fetch_one(BY_ID_LOCKED if lock else BY_ID, key=key)
    if row is None:
        raise NotFound("build not found")
    return _build(row)


async def get_many(tx: Transaction, keys: Iterable[BuildId], *, lock: bool = False) -> dict[BuildId, Build]:
    """Those of these builds that there are; locked in the order given."""
    rows = await tx.fetch_many(BY_ID_LOCKED if lock else BY_ID, [{"key": key} for key in keys])
    return {row[0]: _build(row) for row in rows}


async def views(tx: Transaction, keys: Iterable[BuildId]) -> list[BuildView]:
    """Those of these builds that there are, and what is shown beside them."""
    return [_view(row) for row in await tx.fetch_many(VIEW_BY_ID, [{"key": key} for key in keys])]


async def view(tx: Transaction, key: BuildId) -> BuildView:
    """The build with this id, and what is shown beside it."""
    row = await tx.fetch_one(VIEW_BY_ID, key=key)
    if row is None:
        raise NotFound("build not found")
    return _view(row)


async def view_by_uid(tx: Transaction, uid: str) -> BuildView:
    """The build with this uid, and what is shown beside it."""
    row = await tx.fetch_one(VIEW_BY_UID, of_uid=uid)
    if row is None:
        raise NotFound("build not found")
    return _view(row)


async def page(tx: Transaction, project: ProjectId | None, *, limit: int, offset: int) -> tuple[list[BuildView], int]:
    """A page of a project's builds (or of all), newest first, and the number of all."""
    if project is None:
        rows = await tx.fetch(PAGE_OF_ALL, most=limit, skip=offset)
        return [_view(row) for row in rows], await counters.value(tx, "server", 0, "builds")
    rows = await tx.fetch(PAGE_OF_PROJECT, within=project, most=limit, skip=offset)
    return [_view(row) for row in rows], await counters.value(tx, "project", project, "builds")


async def page_as_project(tx: Transaction, project: ProjectId, count: int) -> list[BuildView]:
    """The newest builds of a project whose rule holds for them."""
    return [_view(row) for row in await tx.fetch(PAGE_AS_PROJECT, within=project, most=count, skip=0)]


async def page_published(tx: Transaction, project: ProjectId | None, count: int) -> list[BuildView]:
    """The newest builds that everyone finds by their own list, of a project or of all."""
    if project is None:
        rows = await tx.fetch(PAGE_PUBLISHED, most=count, skip=0)
    else:
        rows = await tx.fetch(PAGE_PUBLISHED_OF_PROJECT, within=project, most=count, skip=0)
    return [_view(row) for row in rows]


async def page_reserved(tx: Transaction, submitter: UserId, project: ProjectId | None, count: int) -> list[BuildView]:
    """The newest builds that a user submitted and that not everyone finds, of a project or of all."""
    if project is None:
        rows = await tx.fetch(PAGE_RESERVED, of=submitter, most=count, skip=0)
    else:
        rows = await tx.fetch(PAGE_RESERVED_OF_PROJECT, of=submitter, within=project, most=count, skip=0)
    return [_view(row) for row in rows]


async def page_granted(tx: Transaction, name: str, project: ProjectId | None, count: int) -> list[BuildView]:
    """The newest builds whose lists name a user, of a project or of all."""
    if project is None:
        rows = await tx.fetch(PAGE_GRANTED, named=name, most=count, skip=0)
    else:
        rows = await tx.fetch(PAGE_GRANTED_OF_PROJECT, named=name, within=project, most=count, skip=0)
    return [_view(row) for row in rows]


async def of_submitter(
    tx: Transaction, submitter: UserId, start: int, count: int, *, manifests_only: bool
) -> list[BuildView]:
    """A user's builds (or those made of manifests) with ids up to `start`, newest first."""
    statement = MANIFESTS_OF_SUBMITTER if manifests_only else OF_SUBMITTER
    return [_view(row) for row in await tx.fetch(statement, of=submitter, from_id=start, most=count)]


async def open_of_submitter(tx: Transaction, submitter: UserId, count: int) -> list[BuildId]:
    """Unfinished builds of a user that nobody has stopped yet, the oldest first."""
    return [BuildId(row[0]) for row in await tx.fetch(OPEN_OF_SUBMITTER, of=submitter, most=count)]


async def total_of_submitter(tx: Transaction, submitter: UserId, *, manifests_only: bool) -> int:
    """How many builds (or those made of manifests) a user has submitted."""
    return await counters.value(tx, "user", submitter, "manifests" if manifests_only else "builds")


ABOVE_ALL = BuildId(2**31 - 1)
"""No build has a higher id."""


async def page_of_pipeline(tx: Transaction, pipeline: PipelineId, before: BuildId, count: int) -> list[BuildView]:
    """The newest builds of a pipeline with ids below `before`."""
    rows = await tx.fetch(PAGE_OF_PIPELINE, of=pipeline, called="build", before=before, most=count)
    return [_view(row) for row in rows]


async def revision(tx: Transaction, key: RevisionId) -> Revision:
    """The revision with this id."""
    row = await tx.fetch_one(REVISION, key=key)
    found = _revision(row) if row else None
    if found is None:
        raise NotFound("revision not found")
    return found


async def submitter_of(tx: Transaction, key: BuildId) -> str:
    """The name of who asked for a build."""
    row = await tx.fetch_one(SUBMITTER, key=key)
    return row[0] if row else ""


async def pin_revision(
    tx: Transaction, revision: Revision, *, commit: str, branch: str, message: str, author: str
) -> None:
    """Make a revision exact, unless somebody did so meanwhile."""
    await tx.execute(
        PIN_REVISION,
        key=revision.id,
        seen=revision.commit,
        commit=commit,
        branch=branch,
        message=message,
        author=author,
    )


async def add_revision(
    tx: Transaction,
    project: ProjectId,
    *,
    repository: str = "",
    branch: str = "",
    commit: str = "",
    message: str = "",
    author: str = "",
    source_blob: str | None = None,
    source_size: int = 0,
    shallow: bool = True,
    submodules: bool = True,
) -> RevisionId:
    """Note an exact source."""
    (key,) = await tx.allocate("revisions")
    await tx.execute(
        ADD_REVISION,
        id=key,
        project=project,
        repository=repository,
        branch=branch,
        commit=commit,
        codebase="",
        message=message,
        author=author,
        patch=None,
        source_blob=source_blob,
        source_size=source_size,
        shallow=int(shallow),
        submodules=int(submodules),
        created_at=tx.now,
    )
    return RevisionId(key)


async def add_evaluation(
    tx: Transaction,
    project: ProjectId,
    pipeline: PipelineId | None,
    *,
    kind: str,
    reason: str,
    submitter: str,
    builds: int = 1,
    trigger: TriggerId | None = None,
    parent_build: BuildId | None = None,
    due_at: Moment | None = None,
) -> EvaluationId:
    """Note one firing of a trigger, or a submission, that plans so many builds (of one pipeline, if it is named).

    A trigger has at most one evaluation for each `due_at`.
    """
    (key,) = await tx.allocate("evaluations")
    await tx.execute(
        ADD_EVALUATION,
        id=key,
        project=project,
        pipeline=pipeline,
        kind=kind,
        reason=reason,
        submitter=submitter,
        trigger=trigger,
        parent_build=parent_build,
        due_at=due_at,
        builds_left=builds,
        worst=int(Result.SKIPPED),
        result=None,
        created_at=tx.now,
        finished_at=None,
    )
    return EvaluationId(key)


async def evaluation(tx: Transaction, key: EvaluationId) -> Evaluation:
    """The evaluation with this id."""
    row = await tx.fetch_one(EVALUATION, key=key)
    if row is None:
        raise NotFound("evaluation not found")
    of, trigger, parent, due_at, reason, submitter, left, result = row
    return Evaluation(
        id=of,
        trigger=trigger,
        parent_build=parent,
        due_at=due_at,
        reason=reason,
        submitter=submitter,
        builds_left=left,
        result=None if result is None else Result(result),
    )


async def has_evaluation(tx: Transaction, trigger: TriggerId, due_at: Moment) -> bool:
    """Whether a trigger has fired for a moment."""
    return await tx.fetch_one(DUE_EVALUATION, of=trigger, moment=due_at) is not None


async def add_input(tx: Transaction, evaluation: EvaluationId, name: str, revision: RevisionId) -> None:
    """Note a source of an evaluation; the only one has no name."""
    await tx.execute(ADD_EVALUATION_REVISION, evaluation=evaluation, input=name, revision=revision)


async def find_input(tx: Transaction, evaluation: EvaluationId, name: str) -> Revision | None:
    """One of several sources of an evaluation, as it was found."""
    row = await tx.fetch_one(INPUT, of=evaluation, called=name)
    return _revision(row) if row else None


async def repeat_inputs(tx: Transaction, of: EvaluationId, into: EvaluationId) -> None:
    """Let an evaluation have the sources of another, as they were found."""
    await tx.execute(REPEAT_INPUTS, of=of, into=into)


async def environment_of(tx: Transaction, build: BuildId) -> str:
    """The variables that a build was given, as JSON; empty if none."""
    row = await tx.fetch_one(ENVIRONMENT, key=build)
    return str(row[0]) if row else ""


async def older_of_ref(tx: Transaction, pipeline: PipelineId, ref: str) -> list[BuildId]:
    """A pipeline's unfinished builds of a branch or pull request that nobody has cancelled, oldest first."""
    return [BuildId(row[0]) for row in await tx.fetch(OLDER_OF_REF, of=pipeline, named=ref)]


async def add(
    tx: Transaction,
    *,
    project: ProjectId,
    pipeline: PipelineId,
    version: PipelineVersionId,
    evaluation: EvaluationId,
    revision: RevisionId | None,
    number: int,
    name: str,
    priority: int,
    jobs: int,
    note: str,
    rebuild_of: BuildId | None,
    submitter: UserId | None,
    trusted: bool = True,
    ref: str = "",
    environment: str = "",
    concurrency: int | None = None,
    waits: bool = False,
    audience: Audience = Audience.PROJECT,
    manifest: bool = False,
    secrets_enabled: bool = True,
) -> Build:
    """Make a build of `jobs` jobs, queued, or waiting as a whole.

    `ref` is what a newer build may supersede it in; `environment` (JSON) the variables that its parameters are.
    With an `audience` other than its project's, the rows of its list are the caller's to write.
    """
    (key,) = await tx.allocate("builds")
    made = Build(
        id=BuildId(key),
        uid=Uid(tx.fresh_uid()),
        project=project,
        pipeline=pipeline,
        pipeline_version=version,
        evaluation=evaluation,
        revision=revision,
        first_job=None,
        number=number,
        name=name,
        priority=priority,
        state=State(phase=Phase.WAITING if waits else Phase.QUEUED),
        worst=Result.SKIPPED,
        jobs_total=jobs,
        jobs_left=jobs,
        cancel_requested=False,
        note=note,
        rebuild_of=rebuild_of,
        restarts=0,
        trusted=trusted,
        created_at=tx.now,
        started_at=None,
        finished_at=None,
        row_version=1,
        submitter=submitter,
        concurrency=concurrency,
        audience=audience,
        manifest=manifest,
        secrets_enabled=secrets_enabled,
    )
    await tx.execute(
        ADD,
        id=key,
        uid=made.uid,
        project=project,
        pipeline=pipeline,
        version=version,
        evaluation=evaluation,
        revision=revision,
        submitter=submitter,
        concurrency=concurrency,
        superseded_by=None,
        first_job=None,
        number=number,
        name=name,
        system="",
        priority=priority,
        phase=int(made.state.phase),
        result=None,
        cause="",
        detail="",
        worst=int(made.worst),
        jobs_total=jobs,
        jobs_left=jobs,
        cancel_requested=0,
        note=note,
        rebuild_of=rebuild_of,
        restarts=0,
        keep=0,
        trusted=int(trusted),
        ref=ref,
        environment=environment,
        audience=int(audience),
        manifest=int(manifest),
        secrets_enabled=int(secrets_enabled),
        created_at=tx.now,
        started_at=None,
        finished_at=None,
        row_version=1,
        logs_removed_at=None,
        artifacts_removed_at=None,
        removed_at=None,
    )
    await tx.execute(ADD_EVALUATION_BUILD, evaluation=evaluation, build=key, is_new=1)
    _count(tx, made, {"builds": 1})
    count_of_submitter(tx, made, 1)
    events.add(tx, made.state.phase.name.lower(), "build", key, project=project, build=key)
    telling.note_update(tx, made.id, Event.CREATED)
    return made


def count_of_submitter(tx: Transaction, build: Build, by: int) -> None:
    """Count a build among those of whoever submitted it."""
    if build.submitter is not None:
        counters.bump(tx, "user", build.submitter, {"builds": by} | ({"manifests": by} if build.manifest else {}))


def _count(tx: Transaction, build: Build, by: dict[str, int]) -> None:
    counters.bump(tx, "pipeline", build.pipeline, by)
    counters.bump(tx, "project", build.project, by)
    counters.bump(tx, "server", 0, by)


async def save(tx: Transaction, before: Build, after: Build) -> Build:
    """Write a moved build and its event, or raise Conflict if it moved meanwhile; gives it as it is then."""
    await tx.change(
        MOVE,
        f"build {after.id}",
        key=after.id,
        seen=before.row_version,
        phase=int(after.state.phase),
        result=after.state.result,
        cause=after.state.cause,
        detail=after.state.detail,
        worst=int(after.worst),
        jobs_left=after.jobs_left,
        cancel_requested=int(after.cancel_requested),
        restarts=after.restarts,
        started_at=after.started_at,
        finished_at=after.finished_at,
        first_job=after.first_job,
        superseded_by=after.superseded_by,
    )
    if after.state.phase is not before.state.phase:
        kind = after.state.phase.name.lower()
        events.add(tx, kind, "build", after.id, project=after.project, build=after.id)
    if after.state.result is not None and before.state.result is None:
        _count(tx, after, {"finished": 1, after.state.result.word: 1})
        what = f"evaluation {after.evaluation}"
        await tx.change(COUNT_DOWN_EVALUATION, what, key=after.evaluation, result=int(after.state.result), at=tx.now)
    telling.note_move(tx, before, after)
    return replace(after, row_version=before.row_version + 1)
