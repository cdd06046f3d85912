"""Building a workflow that somebody hands in, in one go: project, pipeline, version and build."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildyard.domain.access import Actor, Permission, require_runner
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import Moment
from buildyard.domain.notifications import secret_of
from buildyard.domain.workflow import slug_of
from buildyard.engine.builds import Submission, submit_build
from buildyard.engine.engine import Engine
from buildyard.engine.notifications import check_rules, define_notifications, has_other_rules, means_of
from buildyard.engine.pipelines import define_pipeline
from buildyard.engine.projects import create_project, find_project, require_definer
from buildyard.engine.telling_secrets import require_secrets_of_file
from buildyard.engine.uploads import Upload, use_upload
from buildyard.engine.workflow_files import Workflow, read_workflow
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project

DEFINED_BY = "run"
"""Who defined the pipelines made here; other APIs leave them alone."""

FILE = "workflow"
"""Who made the rules of telling that a workflow file holds."""

ADMINISTRATORS_ACCOUNT = "admin"

READERS = 2
"""How many files are read at once: a large one costs seconds of CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """A workflow file, what it is to be called, and the folder to build; a folder wins over the file's source."""

    text: bytes
    project: str = ""
    pipeline: str = ""
    matrix: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    upload: Upload | None = None
    message: str = ""
    note: str = ""
    start_at: Moment | None = None


async def submit_workflow(engine: Engine, actor: Actor, wanted: HandedIn, readers: asyncio.Semaphore) -> BuildView:
    """Make or update the pipeline and queue a build of it; a project not there yet is made in the actor's account.

    `readers` bounds how many files are read at once (READERS); none is read before it is known who asks.
    """
    require_runner(actor, Permission.CONFIGURE)
    engine.require_space()
    if wanted.project:
        await engine.read(require_definer, actor, slug_of(wanted.project))
    source = await engine.run(use_upload, actor, wanted.upload) if wanted.upload else None
    async with readers:
        workflow = await asyncio.to_thread(
            read_workflow, wanted.text, matrix=wanted.matrix, allow_local=engine.policy.allow_local_sources
        )
    check_rules(actor, workflow.notify, means_of(engine))
    project_slug = slug_of(wanted.project or workflow.name or "run")
    slug = slug_of(wanted.pipeline or workflow.name or "main")
    await _require_secrets(engine, actor, workflow, project_slug, slug)
    project = await _project(engine, actor, project_slug)
    pipeline, version = await engine.run(
        define_pipeline, actor, project.uid, slug, workflow.spec, defined_by=DEFINED_BY, text=wanted.text.decode()
    )
    await _tell(engine, actor, pipeline, workflow)
    return await engine.run(
        submit_build,
        actor,
        project.uid,
        pipeline.uid,
        Submission(
            source=source or workflow.source,
            version=version,
            message=wanted.message,
            note=wanted.note,
            reason="run",
            start_at=wanted.start_at,
        ),
        queue_limit=engine.policy.queue_limit,
    )


async def _tell(engine: Engine, actor: Actor, pipeline: Pipeline, workflow: Workflow) -> None:
    """Make the pipeline's rules of telling be those of the file; most files have none, and had none."""
    rules = workflow.notify
    if await engine.read(has_other_rules, actor, pipeline.id, rules, defined_by=FILE):
        await engine.run(define_notifications, actor, pipeline.uid, rules, means_of(engine), defined_by=FILE)


async def _require_secrets(engine: Engine, actor: Actor, workflow: Workflow, project: str, pipeline: str) -> None:
    """Raise unless there are the secrets that the file's rules of telling name."""
    if any(secret_of(rule.target) for rule in workflow.notify):
        account = _account_of(actor)
        await engine.read(
            require_secrets_of_file, actor, workflow.notify, project=project, pipeline=pipeline, account=account
        )


def _account_of(actor: Actor) -> str:
    """Whose a new project is."""
    return actor.name if actor.user is not None else ADMINISTRATORS_ACCOUNT


async def _project(engine: Engine, actor: Actor, slug: str) -> Project:
    """The project of this slug; one that another request makes at the same moment is found after all."""
    found = await engine.read(find_project, actor, slug)
    if found is not None:
        return found
    try:
        return await engine.run(create_project, actor, _account_of(actor), slug, make_account=True, exact=True)
    except Conflict:
        found = await engine.read(find_project, actor, slug)
        if found is None:
            raise
        return found
