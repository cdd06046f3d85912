"""Builds: submit, read, cancel, build again."""

from dataclasses import dataclass, replace

from buildyard.domain.access import Actor, Permission, require
from buildyard.domain.builds import Attempt, Build, Job, Log, Step
from buildyard.domain.errors import Gone, NotFound
from buildyard.domain.ids import BuildId, Moment, PipelineVersionId, RevisionId, Sha256, iso
from buildyard.domain.specs import Approval, FolderSource, GitSource, Source
from buildyard.domain.states import Phase
from buildyard.engine.build_access import access_again, require_build
from buildyard.engine.build_lists import page_of_project
from buildyard.engine.granting import require_secrets
from buildyard.engine.planning import NewBuild, add_build, jobs_that_fit, newest_version, variables_in
from buildyard.engine.settling import locked_build
from buildyard.engine.stopping import stop_build
from buildyard.engine.waiting import BlockerView, blockers_of, explain, waits_for
from buildyard.store import attempts, audit, blockers, build_tags, builds, jobs, kept, pipelines, projects
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What to build: a pipeline (its newest version unless one is named) and the source.

    The build begins when it is `start_at`, and once somebody gave the `approval`; jobs may ask for their own.
    """

    source: Source | None = None
    version: PipelineVersionId | None = None
    message: str = ""
    author: str = ""
    note: str = ""
    reason: str = ""
    priority: int = 0
    start_at: Moment | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job, its attempts with their steps and logs, the names of the jobs it needs, and what it waits for."""

    job: Job
    needs: tuple[str, ...]
    attempts: tuple["AttemptView", ...]
    waits_for: str = ""
    blockers: tuple[BlockerView, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt with its steps and their logs, in order."""

    attempt: Attempt
    worker: str
    steps: tuple[Step, ...]
    logs: tuple[Log, ...]


async def submit_build(
    tx: Transaction, actor: Actor, project_uid: str, pipeline_uid: str, submission: Submission, *, queue_limit: int
) -> BuildView:
    """Plan a build and queue its jobs, all in one transaction."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.RUN, project.owner, "project")
    try:
        pipeline = await pipelines.get_by_uid(tx, pipeline_uid)
    except NotFound:
        raise NotFound("workflow not found") from None
    if pipeline.project != project.id:
        raise NotFound("workflow not found")
    view = await _queue(tx, actor, project, pipeline, submission, queue_limit=queue_limit)
    await _note(tx, actor, "build.create", view, reason=submission.reason, workflow=pipeline.uid)
    return view


async def _note(tx: Transaction, actor: Actor, action: str, view: BuildView, *, reason: str, **details: object) -> None:
    await audit.add(tx, actor, action, view.build.uid, project=view.build.project, reason=reason, details=details)


async def _queue(
    tx: Transaction,
    actor: Actor,
    project: Project,
    pipeline: Pipeline,
    submission: Submission,
    *,
    queue_limit: int,
    repeated: Build | None = None,
    revision: RevisionId | None = None,
) -> BuildView:
    version = submission.version or newest_version(pipeline)
    if repeated is None or repeated.secrets_enabled:
        await require_secrets(tx, project, pipeline, version)
    stored = await jobs_that_fit(tx, version, queue_limit=queue_limit)
    if revision is None:
        revision = await _revision(tx, project, submission)
    evaluation = await builds.add_evaluation(
        tx, project.id, pipeline.id, kind="trigger", reason=submission.reason, submitter=actor.name
    )
    if revision is not None:
        await builds.add_input(tx, evaluation, "", revision)
    new = NewBuild(
        evaluation=evaluation,
        revision=revision,
        version=version,
        priority=submission.priority,
        note=submission.note,
        submitter=actor.user,
        start_at=submission.start_at,
        approval=submission.approval,
    )
    if repeated is not None:
        new = await _as_before(tx, actor, repeated, new)
    build = await add_build(tx, project, pipeline, stored, new)
    return await builds.view(tx, build.id)


async def _as_before(tx: Transaction, actor: Actor, repeated: Build, new: NewBuild) -> NewBuild:
    """A build made again has the variables, tags and access of the first, and is trusted as far."""
    return replace(
        new,
        rebuild_of=repeated.id,
        trusted=repeated.trusted,
        environment=variables_in(await builds.environment_of(tx, repeated.id)),
        tags=(await build_tags.of_builds(tx, [repeated.id])).get(repeated.id, ()),
        access=await access_again(tx, actor, repeated),
        manifest=repeated.manifest,
        secrets_enabled=repeated.secrets_enabled,
        secrets=tuple(await build_tags.secrets_of(tx, repeated.id)),
    )


async def _revision(tx: Transaction, project: Project, submission: Submission) -> RevisionId | None:
    match submission.source:
        case GitSource() as source:
            return await builds.add_revision(
                tx,
                project.id,
                repository=source.url,
                branch=source.branch,
                commit=source.commit,
                shallow=source.shallow,
                submodules=source.submodules,
                message=submission.message,
                author=submission.author,
            )
        case FolderSource(sha256=sha256, size=size):
            await kept.refer_to_blob(tx, Sha256(sha256))
            return await builds.add_revision(
                tx,
                project.id,
                message=submission.message,
                author=submission.author,
                source_blob=sha256,
                source_size=size,
            )
        case None if submission.message or submission.author:
            return await builds.add_revision(tx, project.id, message=submission.message, author=submission.author)
        case None:
            return None


async def _readable(tx: Transaction, actor: Actor, view: BuildView, permission: Permission) -> BuildView:
    await require_build(tx, actor, permission, view.build, "build")
    return view


async def get_build(tx: Transaction, actor: Actor, uid: str) -> BuildView:
    """The build with this uid."""
    return await _readable(tx, actor, await builds.view_by_uid(tx, uid), Permission.READ)


async def get_build_by_id(tx: Transaction, actor: Actor, build: BuildId) -> BuildView:
    """The build with this id."""
    return await _readable(tx, actor, await builds.view(tx, build), Permission.READ)


async def list_builds(
    tx: Transaction, actor: Actor, project_uid: str, *, limit: int, offset: int
) -> tuple[list[BuildView], int]:
    """A page of a project's builds that the actor sees, newest first, and the number of all of them."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.READ, project.owner, "project")
    return await page_of_project(tx, actor, project, limit=limit, offset=offset)


async def list_jobs(tx: Transaction, actor: Actor, uid: str) -> list[JobView]:
    """A build's jobs by position, with everything below them."""
    view = await get_build(tx, actor, uid)
    found = await jobs.of_build(tx, view.build.id)
    needs = await jobs.needs_of_build(tx, view.build.id)
    names = {job.id: job.name for job in found}
    is_open = view.build.finished_at is None
    held_up = await explain(tx, await blockers.of_build(tx, view.build.id)) if is_open else []
    waits = await waits_for(tx, view.build.project, found, needs, held_up)
    return [
        JobView(
            job,
            tuple(names[need] for need in needs.get(job.id, ())),
            await _attempts(tx, job),
            waits.get(job.id, ""),
            blockers_of(job.id, held_up, has_needs=job.id in needs) if job.state.phase is Phase.WAITING else (),
        )
        for job in found
    ]


async def _attempts(tx: Transaction, job: Job) -> tuple[AttemptView, ...]:
    if job.attempts == 0:
        return ()
    return tuple(
        [
            AttemptView(
                attempt,
                await attempts.worker_name(tx, attempt.worker),
                tuple(await attempts.steps_of(tx, attempt.id)),
                tuple(await attempts.logs_of(tx, attempt.id)),
            )
            for attempt in await attempts.of_job(tx, job.id)
        ]
    )


async def get_job(tx: Transaction, actor: Actor, uid: str) -> tuple[BuildView, JobView]:
    """The job with this uid and its build."""
    job = await jobs.get_by_uid(tx, uid)
    view = await _readable(tx, actor, await builds.view(tx, job.build), Permission.READ)
    needs = (await jobs.needs_of_build(tx, job.build)).get(job.id, [])
    names = tuple([(await jobs.get(tx, need)).name for need in needs])
    return view, JobView(job, names, await _attempts(tx, job))


async def list_artifacts(
    tx: Transaction, actor: Actor, uid: str, *, after: int = 0, limit: int = 1000
) -> list[tuple[kept.Artifact, Job]]:
    """A build's artifacts with ids above `after`, oldest first, each with its job."""
    view = await get_build(tx, actor, uid)
    of = {job.id: job for job in await jobs.of_build(tx, view.build.id)}
    found = await kept.artifacts_of(tx, view.build.id, after=after, limit=limit)
    return [(artifact, of[artifact.job]) for artifact in found]


async def get_artifact(tx: Transaction, actor: Actor, uid: str) -> kept.Artifact:
    """The artifact with this uid."""
    artifact = await kept.artifact_by_uid(tx, uid)
    await require_build(tx, actor, Permission.READ, await builds.get(tx, artifact.build), "artifact")
    if artifact.removed_at is not None:
        raise Gone(f"the artifact was deleted by retention on {iso(artifact.removed_at)}")
    return artifact


async def cancel_build(tx: Transaction, actor: Actor, uid: str, *, reason: str) -> BuildView:
    """Stop a build on behalf of `actor`; a finished build is left as it is.

    Jobs that no worker holds end at once; the others when their workers report back.
    """
    view = await _readable(tx, actor, await builds.view_by_uid(tx, uid), Permission.CANCEL)
    detail = f"cancelled by {actor.name}" + (f": {reason}" if reason else "")
    if not await stop_build(tx, view.build.id, detail=detail):
        return view
    await _note(tx, actor, "build.cancel", view, reason=reason)
    return await builds.view(tx, view.build.id)


async def rebuild_build(tx: Transaction, actor: Actor, uid: str, *, reason: str, queue_limit: int) -> BuildView:
    """Build the same version and the same source once more, as a new build."""
    view = await _readable(tx, actor, await builds.view_by_uid(tx, uid), Permission.RUN)
    await locked_build(tx, view.build.id)
    project = await projects.get(tx, view.build.project)
    pipeline = await pipelines.get(tx, view.build.pipeline)
    submission = Submission(
        version=view.build.pipeline_version, note=view.build.note, reason=reason, priority=view.build.priority
    )
    again = await _queue(
        tx,
        actor,
        project,
        pipeline,
        submission,
        queue_limit=queue_limit,
        repeated=view.build,
        revision=view.build.revision,
    )
    await builds.repeat_inputs(tx, view.build.evaluation, again.build.evaluation)
    await _note(tx, actor, "build.retry", again, reason=reason, retried=view.build.uid)
    return again
