"""From our builds to this API's jobs; REST, GraphQL and webhooks share it."""

from datetime import UTC, datetime
from itertools import takewhile

import yaml

from buildyard.apis.sourcehut import states
from buildyard.apis.sourcehut.addresses import artifact_url, setup_log_url, task_log_url
from buildyard.apis.sourcehut.errors import Refused
from buildyard.apis.sourcehut.schemas import Artifact, Group, Job, Jobs, Member, Owner, Task
from buildyard.domain.ids import SECOND, BuildId, Moment
from buildyard.domain.sources import shown_url
from buildyard.domain.specs import JobSpec
from buildyard.domain.states import Phase
from buildyard.engine import records
from buildyard.engine.build_groups import GroupView
from buildyard.engine.job_sheets import JobSheet, ManifestSheet, TaskSheet
from buildyard.engine.manifest_jobs import PAGE, Acted

GENERATED = "# generated"
"""The first line of a manifest that nobody wrote."""


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


# --- manifests ----------------------------------------------------------------------------------


class _Script(str):
    """A text that is written as a block."""


class _Dumper(yaml.SafeDumper):
    """Writes scripts as blocks."""


def _script(dumper: yaml.SafeDumper, text: _Script) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


_Dumper.add_representer(_Script, _script)


def manifest(sheet: ManifestSheet) -> str:
    """A job's manifest as it was submitted; of what another API started, one that says the same."""
    return sheet.text or f"{GENERATED}\n{_generated(sheet)}"


def _generated(sheet: ManifestSheet) -> str:
    jobs = sheet.spec.jobs
    single = jobs[0].steps if len(jobs) == 1 else ()
    tasks = [{one.name: _Script(one.run)} for one in single] or [{one.name: _Script(_joined(one))} for one in jobs]
    images = dict.fromkeys(one.image for one in jobs if one.image)
    said: dict[str, object] = {"image": next(iter(images), "default")}
    if source := _source(sheet.view):
        said["sources"] = [source]
    text: str = yaml.dump({**said, "tasks": tasks}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20)
    return text


def _joined(spec: JobSpec) -> str:
    return "\n".join(step.run for step in spec.steps)


def _source(view: records.BuildView) -> str:
    revision = view.revision
    if revision is None or not revision.repository:
        return ""
    ref = next(takewhile(bool, (revision.commit or revision.branch,)), "")
    return shown_url(revision.repository) + (f"#{ref}" if ref else "")
