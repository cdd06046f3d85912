"""Our values as the wire types of `buildyard.client.messages`, and back."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from buildyard.client import messages
from buildyard.domain.builds import Attempt, Job, Log, State, Step
from buildyard.domain.ids import Moment, iso
from buildyard.domain.sources import shown_url
from buildyard.domain.specs import FolderSource
from buildyard.engine.builds import AttemptView, JobView
from buildyard.engine.uploads import Upload
from buildyard.engine.watching import BuildTree
from buildyard.engine.workflows import HandedIn

if TYPE_CHECKING:
    from buildyard.store.builds import BuildView, Revision
    from buildyard.store.identity import Token, User
    from buildyard.store.kept import Artifact


def handed_in(submission: messages.Submission) -> HandedIn:
    """What is to be built."""
    folder = submission.folder
    return HandedIn(
        text=submission.workflow.encode("utf-8", "replace"),
        project=submission.project,
        pipeline=submission.pipeline,
        matrix={name: tuple(values) for name, values in submission.matrix.items()},
        upload=Upload(folder=FolderSource(sha256=folder.sha256, size=folder.size), receipt=folder.receipt)
        if folder
        else None,
        message=submission.message,
        note=submission.note,
    )


def build(view: BuildView) -> messages.Build:
    """A build."""
    return messages.Build(
        id=view.build.id,
        uid=view.build.uid,
        project=view.project_slug,
        pipeline=view.pipeline_slug,
        number=view.build.number,
        phase=_phase(view.build.state),
        result=_result(view.build.state),
        cause=view.build.state.cause,
        detail=view.build.state.detail,
        cancel_requested=view.build.cancel_requested,
        jobs_total=view.build.jobs_total,
        jobs_left=view.build.jobs_left,
        keep=view.build.keep,
        revision=_revision(view.revision),
        note=view.build.note,
        created_at=iso(view.build.created_at),
        started_at=_time(view.build.started_at),
        finished_at=_time(view.build.finished_at),
    )


def uploaded(found: Upload) -> messages.Folder:
    """A folder kept for the submission that follows."""
    return messages.Folder(sha256=found.folder.sha256, size=found.folder.size, receipt=found.receipt)


def tree(found: BuildTree) -> messages.Tree:
    """A build with all below it."""
    whole = messages.Tree(build=build(found.build), jobs=[_job(view) for view in found.jobs], seen="")
    return msgspec.structs.replace(whole, seen=hashlib.sha256(msgspec.msgpack.encode(whole)).hexdigest()[:32])


def artifact(found: Artifact, job: Job) -> messages.Artifact:
    """A kept file."""
    return messages.Artifact(
        uid=found.uid,
        job=job.name,
        path=found.path,
        size=found.size,
        sha256=found.sha256,
        mode=found.mode,
        link=bool(found.link),
        removed_at=_time(found.removed_at),
    )


def user(found: User) -> messages.User:
    """A user."""
    return messages.User(
        id=found.id,
        username=found.username,
        email=found.email,
        full_name=found.full_name,
        administrator=found.administrator,
        created_at=iso(found.created_at),
    )


def token(found: Token, username: str, *, secret: str | None = None) -> messages.Token:
    """A token, with its secret if it was made just now."""
    return messages.Token(
        id=found.id,
        user=username,
        scopes=list(found.scopes),
        name=found.name,
        token=secret,
        created_at=iso(found.created_at),
        expires_at=_time(found.expires_at),
        revoked_at=_time(found.revoked_at),
    )


def _job(view: JobView) -> messages.Job:
    return messages.Job(
        uid=view.job.uid,
        name=view.job.name,
        phase=_phase(view.job.state),
        result=_result(view.job.state),
        cause=view.job.state.cause,
        detail=view.job.state.detail or view.waits_for,
        needs=list(view.needs),
        started_at=_time(view.job.started_at),
        finished_at=_time(view.job.finished_at),
        attempts=[_attempt(found) for found in view.attempts],
    )


def _attempt(view: AttemptView) -> messages.Attempt:
    attempt: Attempt = view.attempt
    logs = {log.step: log for log in view.logs}
    return messages.Attempt(
        number=attempt.number,
        worker=view.worker,
        phase=_phase(attempt.state),
        result=_result(attempt.state),
        cause=attempt.state.cause,
        detail=attempt.state.detail,
        lost=attempt.state.lost,
        started_at=_time(attempt.started_at),
        finished_at=_time(attempt.finished_at),
        steps=[_step(step, logs.get(step.id)) for step in view.steps],
    )


def _step(step: Step, log: Log | None) -> messages.Step:
    return messages.Step(
        uid=step.uid,
        number=step.number,
        name=step.name,
        phase=_phase(step.state),
        result=_result(step.state),
        cause=step.state.cause,
        detail=step.state.detail,
        lost=step.state.lost,
        exit_status=step.exit_status,
        log=log.id if log else None,
        log_bytes=log.size if log else 0,
        started_at=_time(step.started_at),
        finished_at=_time(step.finished_at),
    )


def _phase(state: State) -> str:
    return state.phase.name.lower()


def _result(state: State) -> str | None:
    return None if state.result is None else state.result.word


def _time(moment: Moment | None) -> str | None:
    return None if moment is None else iso(moment)


def _revision(revision: Revision | None) -> str:
    if revision is None:
        return ""
    repository = shown_url(revision.repository)
    place = "@".join(part for part in (repository, revision.commit[:12] or revision.branch) if part)
    return place or revision.message
