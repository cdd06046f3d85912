"""From our builds to this API's jobs; REST, GraphQL and webhooks share it."""

from datetime import UTC, datetime

from buildyard.apis.sourcehut import states
from buildyard.apis.sourcehut.addresses import artifact_url, setup_log_url, task_log_url
from buildyard.apis.sourcehut.errors import Refused
from buildyard.apis.sourcehut.schemas import Artifact, Group, Job, Jobs, Member, Owner, Task
from buildyard.domain.ids import SECOND, BuildId, Moment
from buildyard.domain.states import Phase
from buildyard.engine import records
from buildyard.engine.build_groups import GroupView
from buildyard.engine.job_sheets import JobSheet, TaskSheet
from buildyard.engine.manifest_jobs import PAGE, Acted


def time(at: Moment) -> str:
    """A moment as this API writes it."""
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def owner(name: str) -> Owner:
    """A user, or an account of several."""
    return Owner(canonical_name=f"~{name}", name=name)


def status(view: records.BuildView) -> str:
    """The word for a job's state."""
    return states.JOB.of(view.build.state)


def task_status(sheet: TaskSheet) -> str:
    """The word for a task's state."""
    return states.task(sheet.state, started=sheet.began)


def tags_of(sheet: JobSheet) -> tuple[str, ...]:
    """A job's tags; what another API started has its project and pipeline as such."""
    return sheet.tags if sheet.view.build.manifest else (sheet.view.project_slug, sheet.view.pipeline_slug)


def note_of(view: records.BuildView) -> str:
    """A job's note; of what another API started, the message of its commit."""
    if view.build.note or view.build.manifest or view.revision is None:
        return view.build.note
    return view.revision.message


def job(sheet: JobSheet, base: str) -> Job:
    """A job; `base` is the server's public address."""
    build = sheet.view.build
    return Job(
        id=build.id,
        status=status(sheet.view),
        setup_log=setup_log_url(base, build.id),
        tasks=[task(one, base, build.id) for one in sheet.tasks],
        note=note_of(sheet.view) or None,
        runner=sheet.runner or None,
        tags="/".join(tags_of(sheet)) or None,
        owner=owner(sheet.owner),
    )


def task(sheet: TaskSheet, base: str, build: BuildId) -> Task:
    """A task."""
    return Task(name=sheet.name, status=task_status(sheet), log=task_log_url(base, build, sheet.name))


def submitted(sheet: JobSheet, base: str) -> Job:
    """The answer to a submission."""
    made = job(sheet, base)
    return Job(
        id=made.id,
        setup_log=made.setup_log,
        tasks=made.tasks,
        note=made.note,
        runner=made.runner,
        tags="/".join(sheet.tags),
        owner=made.owner,
    )


def jobs(sheets: list[JobSheet], following: BuildId | None, total: int, base: str) -> Jobs:
    """A page of jobs."""
    return Jobs(
        next=None if following is None else str(following),
        results=[job(one, base) for one in sheets],
        total=total,
        results_per_page=PAGE,
    )


def artifacts(found: list[records.Artifact], base: str, build: BuildId) -> list[Artifact]:
    """The files that a job kept."""
    return [
        Artifact(
            id=one.id,
            created=time(one.created_at),
            path=one.path,
            name=one.path.rpartition("/")[2],
            url=None if one.removed_at is not None else artifact_url(base, build, one.uid, one.path),
            size=one.size,
        )
        for one in found
    ]


def group(view: GroupView) -> Group:
    """A job group."""
    return Group(
        id=view.group.id,
        note=view.group.note or None,
        owner=owner(view.group.account_name),
        jobs=[Member(id=one.build.id, status=status(one)) for one in view.builds],
    )


STARTED = {
    Phase.WAITING: "queued",
    Phase.QUEUED: "queued",
    Phase.LEASED: "running",
    Phase.RUNNING: "running",
    Phase.FINISHED: "complete",
}


def check_started(acted: Acted) -> None:
    """Refuse to have started what did not wait for it."""
    if not acted.moved:
        raise Refused(400, f"This job is already {STARTED[acted.view.build.state.phase]}")
