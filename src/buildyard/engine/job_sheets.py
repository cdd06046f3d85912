"""Builds as one sheet each: what was asked for, its tasks, who runs it. Many are read in a few trips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission
from buildyard.domain.builds import State
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, JobId, Moment, StepId
from buildyard.domain.specs import JobSpec
from buildyard.domain.states import Phase
from buildyard.engine.build_access import require_build
from buildyard.engine.job_details import load_jobs
from buildyard.engine.job_manifests import load_manifests
from buildyard.engine.manifest_jobs import JobPage, list_jobs_of
from buildyard.store import build_tags, builds, kept, pipelines, projects, sheets
from buildyard.store.builds import BuildView
from buildyard.store.kept import Artifact
from buildyard.store.sheets import AttemptLine, JobLine, StepLine
from buildyard.store.transactions import Transaction

MOST_TASKS = 20_000
LISTED_TASKS = 100
"""How many tasks of each build a list shows."""

WAITING = State(phase=Phase.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSheet:
    """A task: a job of a build that has several, else a step. `began`: it was ever started.

    Steps have no rows, so no `step`, before a worker has their job.
    """

    name: str
    state: State
    began: bool
    job: JobId
    step: StepId | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSheet:
    """A build, whose it is, its tags, its tasks, and the worker that had it last (empty: none, or it waits again)."""

    view: BuildView
    owner: str
    tags: tuple[str, ...]
    tasks: tuple[TaskSheet, ...]
    runner: str


async def sheets_of(tx: Transaction, views: Sequence[BuildView], *, most: int = MOST_TASKS) -> list[JobSheet]:
    """The sheets of builds that the reader may see, in their order, with `most` tasks each."""
    keys = [view.build.id for view in views]
    jobs = await sheets.jobs_of(tx, keys, most)
    newest = await sheets.newest_attempts(tx, keys)
    single = [view.build.id for view in views if view.build.jobs_total == 1]
    steps = await sheets.steps_of(tx, [newest[key].id for key in single if key in newest], most)
    unclaimed = [job.spec for key in single if key not in newest for job in jobs.get(key, [])]
    specs = await pipelines.job_specs_of(tx, sorted(set(unclaimed)))
    tags = await build_tags.of_builds(tx, keys)
    owners = {key: (await projects.get(tx, key)).account_name for key in sorted({view.build.project for view in views})}
    made = []
    for view in views:
        key, attempt = view.build.id, newest.get(view.build.id)
        its_steps = steps.get(attempt.id, []) if attempt is not None else []
        made.append(
            JobSheet(
                view=view,
                owner=owners[view.build.project],
                tags=tags.get(key, ()),
                tasks=_tasks(view, jobs.get(key, []), attempt, its_steps, specs),
                runner=attempt.worker if attempt is not None and not _waits(view) else "",
            )
        )
    return made


def _waits(view: BuildView) -> bool:
    return view.build.state.phase in (Phase.WAITING, Phase.QUEUED)


def _tasks(
    view: BuildView,
    jobs: list[JobLine],
    attempt: AttemptLine | None,
    steps: list[StepLine],
    specs: Mapping[int, JobSpec],
) -> tuple[TaskSheet, ...]:
    created = view.build.created_at
    if view.build.jobs_total > 1:
        return tuple(_task(job, created, job=job.id, step=None) for job in jobs)
    if attempt is None or not jobs:
        return tuple(_planned(step.name, created, job) for job in jobs for step in specs[job.spec].steps)
    if _waits(view):
        return tuple(_planned(step.name, attempt.leased_at, jobs[0], step.id) for step in steps)
    return tuple(_task(step, attempt.leased_at, job=jobs[0].id, step=step.id) for step in steps)


def _task(line: JobLine | StepLine, created: Moment, *, job: JobId, step: StepId | None) -> TaskSheet:
    return TaskSheet(
        name=line.name,
        state=line.state,
        began=line.started_at is not None,
        job=job,
        step=step,
        created_at=created,
        started_at=line.started_at,
        finished_at=line.finished_at,
    )


def _planned(name: str, created: Moment, job: JobLine, step: StepId | None = None) -> TaskSheet:
    """A task that waits, for the first time or again."""
    return TaskSheet(
        name=name,
        state=WAITING,
        began=False,
        job=job.id,
        step=step,
        created_at=created,
        started_at=None,
        finished_at=None,
    )


async def load_sheets(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, JobSheet]:
    """The sheets of those of these builds that the actor may read."""
    views = await load_jobs(tx, actor, keys)
    return {sheet.view.build.id: sheet for sheet in await sheets_of(tx, list(views.values()), most=LISTED_TASKS)}


async def show_job(tx: Transaction, actor: Actor, key: BuildId) -> JobSheet:
    """The sheet of one build."""
    view = await builds.view(tx, key)
    await require_build(tx, actor, Permission.READ, view.build, "job")
    return (await sheets_of(tx, [view]))[0]


async def show_own_jobs(
    tx: Transaction, actor: Actor, *, start: int, limit: int, manifests_only: bool
) -> tuple[JobPage, list[JobSheet]]:
    """A page of the actor's builds with their sheets."""
    page = await list_jobs_of(tx, actor, start=start, limit=limit, manifests_only=manifests_only)
    return page, await sheets_of(tx, page.views, most=LISTED_TASKS)


async def show_manifest(tx: Transaction, actor: Actor, key: BuildId) -> str:
    """What a build was made of, as a manifest."""
    found = await load_manifests(tx, actor, [key])
    if key not in found:
        raise NotFound("job not found")
    return found[key]


async def show_artifacts(
    tx: Transaction, actor: Actor, key: BuildId, *, limit: int = 1000
) -> tuple[BuildView, list[Artifact]]:
    """The files that a build kept, oldest first."""
    view = await builds.view(tx, key)
    await require_build(tx, actor, Permission.READ, view.build, "job")
    return view, await kept.artifacts_of(tx, key, after=0, limit=limit)
