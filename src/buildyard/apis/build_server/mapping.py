"""Our values in Build Server's words."""

import base64
from typing import TypeVar

from msgspec import UNSET, UnsetType

from buildyard.apis.build_server import schemas
from buildyard.apis.build_server.requests import Page
from buildyard.apis.build_server.states import BUILD, STEP, reason
from buildyard.domain.builds import Job, State, Step
from buildyard.domain.ids import Moment, iso
from buildyard.domain.sources import shown_url
from buildyard.domain.specs import JobSpec, PipelineSpec
from buildyard.engine import records
from buildyard.engine.builds import AttemptView, JobView
from buildyard.engine.log_reading import JobLog, Part, Piece
from buildyard.engine.runner_results import Completed
from buildyard.engine.runners import Hold

T = TypeVar("T")


def given(value: T | None) -> T | UnsetType:
    """A value, or nothing where there is none; an empty text is none."""
    return UNSET if value is None or value == "" else value


def moment(at: Moment | None) -> str | UnsetType:
    """A time, or nothing."""
    return UNSET if at is None else iso(at)


def project(one: records.Project) -> schemas.Project:
    """A project."""
    return schemas.Project(
        id=one.uid,
        account_id=one.account_name,
        name=one.name,
        created_at=iso(one.created_at),
        updated_at=iso(one.updated_at),
    )


def workflow(one: records.Pipeline, project_id: str, spec: PipelineSpec | None = None) -> schemas.Workflow:
    """A pipeline, with its steps if they are given."""
    return schemas.Workflow(
        id=one.uid,
        project_id=project_id,
        name=one.name,
        created_at=iso(one.created_at),
        updated_at=iso(one.updated_at),
        steps=UNSET if spec is None else [workflow_step(job) for job in spec.jobs],
    )


def workflow_step(job: JobSpec) -> schemas.WorkflowStep:
    """A job; several commands read as one script."""
    return schemas.WorkflowStep(
        name=job.name,
        image_slug=job.image,
        depends_on=list(job.needs),
        run_script="\n".join(step.run for step in job.steps),
        cache_dirs=[cache.path for cache in job.caches],
        output_paths=list(job.outputs),
    )


def _build_fields(view: records.BuildView) -> dict[str, object]:
    build, source = view.build, view.revision
    return {
        "id": build.uid,
        "project_id": view.project_uid,
        "workflow_id": view.pipeline_uid,
        "status": BUILD.of(build.state),
        "created_at": iso(build.created_at),
        "commit_hash": given(source and source.commit),
        "repo_url": given(source and shown_url(source.repository)),
        "branch": given(source and source.branch),
        "commit_message": given(source and source.message),
        "commit_author": given(source and source.author),
        "started_at": moment(build.started_at),
        "finished_at": moment(build.finished_at),
    }


def build(view: records.BuildView) -> schemas.Build:
    """A build as the document has it."""
    return schemas.Build(**_build_fields(view))  # type: ignore[arg-type]  # one table for both forms


def whole_build(view: records.BuildView) -> schemas.Build:
    """A build with all that we add."""
    build = view.build
    return schemas.Build(
        **_build_fields(view),  # type: ignore[arg-type]  # one table for both forms
        number=build.number,
        reason=given(reason(build.state)),
        detail=given(build.state.detail),
        cancel_requested=build.cancel_requested,
        steps_total=build.jobs_total,
        steps_left=build.jobs_left,
    )


def pagination(page: Page, shown: int, total: int) -> schemas.Pagination:
    """Where a page stands in its list."""
    return schemas.Pagination(total=total, limit=page.limit, offset=page.offset, has_more=page.offset + shown < total)


def builds(views: list[records.BuildView], page: Page, total: int) -> schemas.Builds:
    """A page of builds."""
    return schemas.Builds(builds=[build(view) for view in views], pagination=pagination(page, len(views), total))


def image(one: records.Image) -> schemas.DockerImage:
    """An image."""
    return schemas.DockerImage(
        id=one.uid, slug=one.slug, image_url=one.url, public=one.public, created_at=iso(one.created_at)
    )


def audit_logs(entries: list[records.Entry], page: Page, total: int) -> schemas.AuditLogs:
    """A page of the audit log."""
    return schemas.AuditLogs(
        audit_logs=[_audit_log(entry) for entry in entries], pagination=pagination(page, len(entries), total)
    )


def _audit_log(entry: records.Entry) -> schemas.AuditLog:
    return schemas.AuditLog(
        id=entry.uid,
        action=entry.action,
        details=entry.details,
        created_at=iso(entry.at),
        actor=entry.actor,
        resource_id=entry.resource_id,
        project_id=given(entry.project),
        reason=given(entry.reason),
    )


def step(view: JobView, build_id: str) -> schemas.Step:
    """A job with its attempts."""
    job = view.job
    return schemas.Step(
        id=job.uid,
        build_id=build_id,
        name=job.name,
        status=STEP.of(job.state),
        depends_on=list(view.needs),
        started_at=moment(job.started_at),
        finished_at=moment(job.finished_at),
        reason=_reason(job.state),
        detail=given(job.state.detail),
        attempts=[_attempt(attempt) for attempt in view.attempts],
    )


def _reason(state: State) -> str | UnsetType:
    return "lost" if state.lost else given(reason(state))


def _attempt(view: AttemptView) -> schemas.Attempt:
    attempt = view.attempt
    return schemas.Attempt(
        number=attempt.number,
        runner=view.worker,
        status=STEP.of(attempt.state),
        started_at=moment(attempt.started_at),
        finished_at=moment(attempt.finished_at),
        reason=_reason(attempt.state),
        detail=given(attempt.state.detail),
        commands=[_command(one) for one in view.steps],
    )


def _command(one: Step) -> schemas.Command:
    return schemas.Command(
        name=one.name,
        number=one.number,
        status=STEP.of(one.state),
        exit_status=given(one.exit_status),
        started_at=moment(one.started_at),
        finished_at=moment(one.finished_at),
    )


def artifact(one: records.Artifact, job: Job, build_id: str) -> schemas.Artifact:
    """An artifact."""
    return schemas.Artifact(
        id=one.uid,
        build_id=build_id,
        step_id=job.uid,
        step_name=job.name,
        path=one.path,
        size=one.size,
        sha256=one.sha256,
        mode=f"{one.mode:o}",
        created_at=iso(one.created_at),
    )


def artifacts(found: list[tuple[records.Artifact, Job]], build_id: str, limit: int) -> schemas.Artifacts:
    """A page of artifacts."""
    return schemas.Artifacts(
        artifacts=[artifact(one, job, build_id) for one, job in found],
        cursor=str(found[-1][0].id) if found and len(found) == limit else UNSET,
    )


def completed(one: Completed) -> schemas.Completed:
    """What became of a report."""
    return schemas.Completed(success=True, step_status=STEP.of(one.state), build_complete=one.build_complete)


def claim(hold: Hold, *, lease_seconds: float) -> schemas.Claim:
    """What a runner gets with a step."""
    facts = hold.facts
    kinds = {"git": bool(facts.repository), "archive": bool(facts.source_blob), "none": True}
    return schemas.Claim(
        step_id=hold.job.uid,
        build_id=hold.build.uid,
        token=hold.token,
        attempt=hold.attempt.number,
        lease_seconds=lease_seconds,
        source=next(kind for kind, present in kinds.items() if present),
        repo_url=given(facts.repository),
        commit_hash=given(facts.commit),
        branch=given(facts.branch),
        shallow=facts.shallow,
        submodules=facts.submodules,
        inputs=hold.has_inputs,
    )


def claim_lines(found: schemas.Claim) -> str:
    """The same for a shell: a word and a value on each line, base64 where it may hold anything."""
    lines = [f"token {found.token}", f"attempt {found.attempt}", f"source {found.source}"]
    lines.append(f"inputs {str(found.inputs).lower()}")
    if found.repo_url:
        lines.append(f"repository {_base64(found.repo_url)}")
        lines += [f"shallow {str(found.shallow).lower()}", f"submodules {str(found.submodules).lower()}"]
    if found.commit_hash:
        lines.append(f"commit {found.commit_hash}")
    lines += [f"secret {name} {_base64(value)}" for name, value in found.secrets.items()]
    return "".join(f"{line}\n" for line in lines)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kept(path: str, info: records.BlobInfo, mode: str | None = None) -> schemas.Kept:
    """The receipt for stored bytes."""
    return schemas.Kept(path=path, sha256=info.sha256, size=info.size, mode=given(mode))


def log_line(part: Part, line: records.Line) -> schemas.LogLine:
    """A line of a log."""
    return schemas.LogLine(
        attempt=part.attempt,
        step=part.name,
        number=line.number,
        stream=line.stream,
        at=iso(line.at),
        text=line.data.decode("utf-8", "replace"),
    )


def log_news(piece: Piece, text: str) -> schemas.LogNews:
    """New output."""
    return schemas.LogNews(attempt=piece.part.attempt, step=piece.part.name, stream=piece.stream, text=text)


def log_end(found: JobLog) -> schemas.LogEnd:
    """How the step of a followed log stands now."""
    return schemas.LogEnd(status=STEP.of(found.state), reason=_reason(found.state))
