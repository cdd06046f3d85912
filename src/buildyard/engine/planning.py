"""Making a build of a pipeline's version and queueing its jobs: what submissions, repeats and triggers share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from buildyard.domain.build_access import BuildAccess
from buildyard.domain.builds import Build
from buildyard.domain.errors import Conflict, Invalid, LimitReached
from buildyard.domain.ids import BuildId, EvaluationId, Moment, PipelineVersionId, RevisionId, UserId
from buildyard.domain.specs import Approval, JobSpec
from buildyard.engine import gates
from buildyard.store import build_access, build_tags, builds, jobs, pipelines
from buildyard.store.pipelines import Pipeline, StoredJob
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction

_variables = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBuild:
    """A build to make, in an evaluation that counts it. See `store.builds.add`; a `held` one waits to be started."""

    evaluation: EvaluationId
    revision: RevisionId | None
    version: PipelineVersionId
    priority: int = 0
    note: str = ""
    rebuild_of: BuildId | None = None
    submitter: UserId | None = None
    trusted: bool = True
    ref: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    start_at: Moment | None = None
    approval: Approval | None = None
    held: bool = False
    tags: tuple[str, ...] = ()
    access: BuildAccess = field(default_factory=BuildAccess)
    manifest: bool = False
    secrets_enabled: bool = True
    secrets: tuple[int, ...] = ()


def newest_version(pipeline: Pipeline) -> PipelineVersionId:
    """The version that new builds use."""
    if pipeline.latest_version is None:
        raise Invalid("the workflow has no definition yet")
    return pipeline.latest_version


async def jobs_that_fit(tx: Transaction, version: PipelineVersionId, *, queue_limit: int) -> list[StoredJob]:
    """A version's jobs, if the queue has room for them."""
    stored = await pipelines.jobs_of(tx, version)
    if not stored:
        raise Conflict("there is nothing to run: its definition has no jobs")
    if await jobs.queue_length(tx) + len(stored) > queue_limit:
        raise LimitReached(f"the queue is full: at most {queue_limit} jobs may wait")
    return stored


async def add_build(
    tx: Transaction, project: Project, pipeline: Pipeline, stored: list[StoredJob], new: NewBuild
) -> Build:
    """Make a build and its jobs; those that nothing holds up are queued."""
    if pipeline.disabled_at is not None:
        raise Conflict(f"the workflow {pipeline.slug} is disabled: {pipeline.defined_by} no longer has it")
    entrance = await gates.entrance_of(
        tx,
        project.id,
        new.version,
        await _group_values(tx, pipeline, new.revision),
        approval=new.approval,
        start_at=new.start_at,
        held=new.held,
    )
    build = await builds.add(
        tx,
        project=project.id,
        pipeline=pipeline.id,
        version=new.version,
        evaluation=new.evaluation,
        revision=new.revision,
        number=await pipelines.next_number(tx, pipeline.id),
        name="build",
        priority=new.priority,
        jobs=len(stored),
        note=new.note,
        rebuild_of=new.rebuild_of,
        submitter=new.submitter,
        trusted=new.trusted,
        ref=new.ref,
        environment=_encode(new.environment).decode() if new.environment else "",
        concurrency=entrance.lock,
        waits=not entrance.is_open,
        audience=new.access.audience,
        manifest=new.manifest,
        secrets_enabled=new.secrets_enabled,
    )
    await build_tags.add(tx, build.id, new.tags)
    await build_tags.add_secrets(tx, build.id, new.secrets)
    await build_access.put(tx, build, new.access.grants)
    lanes = {
        requirement: await jobs.lane_for(
            tx, pipeline=pipeline.id, project=project.id, account=project.account, requirement=requirement
        )
        for requirement in sorted({job.requirement for job in stored})
    }
    await gates.set_up(tx, build, entrance, await jobs.add_all(tx, build, stored, lanes))
    return build


async def _group_values(tx: Transaction, pipeline: Pipeline, revision: RevisionId | None) -> dict[str, str]:
    """What the variables in the name of a concurrency group stand for."""
    source = await builds.revision(tx, revision) if revision is not None else None
    branch, commit = (source.branch, source.commit) if source else ("", "")
    return {"branch": branch, "commit": commit, "pipeline": pipeline.slug}


def with_variables(spec: JobSpec, environment: str) -> JobSpec:
    """The job as one build runs it: the build's own variables win over those of the definition's jobs."""
    return replace(spec, environment={**spec.environment, **_variables(environment)}) if environment else spec


def variables_in(environment: str) -> dict[str, str]:
    """The variables that a build was given."""
    return _variables(environment) if environment else {}
