"""The tasks of builds, as people name them: a build of several jobs has its jobs, another one its steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from buildyard.domain.access import Actor
from buildyard.domain.builds import Attempt, Build, Job, State, Step
from buildyard.domain.ids import BuildId, Moment
from buildyard.domain.specs import JobSpec
from buildyard.domain.states import Phase
from buildyard.engine.job_details import load_jobs
from buildyard.store import attempts, jobs, pipelines
from buildyard.store.transactions import Transaction

SETUP = 0
"""The number of the step that lays in sources; it is no task."""

_UNTOUCHED = frozenset({Phase.WAITING, Phase.QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task. `id` is that of its step (of a job: its first), before a worker has it the job's, negative."""

    id: int
    build: BuildId
    name: str
    state: State
    started: bool
    created_at: Moment
    updated_at: Moment


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest attempt of a job with its steps; none of a job that waits for its next one."""

    attempt: Attempt
    steps: Sequence[Step]


async def load_tasks(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, Sequence[Task]]:
    """The tasks of these builds, in the order in which they are defined."""
    views = await load_jobs(tx, actor, keys)
    found: dict[BuildId, list[Job]] = {}
    for build, job in await jobs.of_builds(tx, views):
        found.setdefault(build, []).append(job)
    held = await _held(tx, [job for some in found.values() for job in some if job.attempts])
    single = [some[0] for key, some in found.items() if views[key].build.jobs_total == 1]
    specs = await pipelines.job_specs_of(tx, sorted({job.spec for job in single if job.id not in held}))
    return {key: _tasks(views[key].build, some, held, specs) for key, some in found.items()}


async def _held(tx: Transaction, found: Iterable[Job]) -> dict[int, _Held]:
    touched = [job.id for job in found if job.state.phase not in _UNTOUCHED]
    newest = {attempt.job: attempt for attempt in await attempts.of_jobs(tx, touched)}
    steps = await attempts.steps_of_many(tx, [attempt.id for attempt in newest.values()])
    return {job: _Held(attempt, steps.get(attempt.id, [])) for job, attempt in newest.items()}


def _tasks(
    build: Build, found: Sequence[Job], held: Mapping[int, _Held], specs: Mapping[int, JobSpec]
) -> Sequence[Task]:
    if build.jobs_total > 1:
        return [_of_job(build, job, held.get(job.id)) for job in found]
    (job,) = found
    if (has := held.get(job.id)) is not None:
        return [_of_step(build, has.attempt, step) for step in has.steps if step.number != SETUP]
    return [_to_come(build, job, step.name) for step in specs[job.spec].steps]


def _of_job(build: Build, job: Job, has: _Held | None) -> Task:
    first = next((step for step in has.steps if step.number != SETUP), None) if has else None
    created = has.attempt.leased_at if has else build.created_at
    return Task(
        id=first.id if first else -job.id,
        build=build.id,
        name=job.name,
        state=job.state,
        started=job.started_at is not None,
        created_at=created,
        updated_at=max(created, job.started_at or created, job.finished_at or created),
    )


def _of_step(build: Build, attempt: Attempt, step: Step) -> Task:
    created = attempt.leased_at
    return Task(
        id=step.id,
        build=build.id,
        name=step.name,
        state=step.state,
        started=step.started_at is not None,
        created_at=created,
        updated_at=max(created, step.started_at or created, step.finished_at or created),
    )


def _to_come(build: Build, job: Job, name: str) -> Task:
    """A task that no worker has, yet or ever."""
    return Task(
        id=-job.id,
        build=build.id,
        name=name,
        state=State(phase=Phase.WAITING),
        started=False,
        created_at=build.created_at,
        updated_at=job.finished_at or build.created_at,
    )
