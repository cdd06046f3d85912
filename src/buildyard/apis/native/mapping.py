"""Our values as the wire types of `buildyard.client.messages`, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from buildyard.client import messages
from buildyard.domain.builds import Attempt, Job, Log, State, Step
from buildyard.domain.errors import Invalid
from buildyard.domain.ids import SECOND, Moment, iso
from buildyard.domain.sources import shown_url
from buildyard.domain.specs import FolderSource
from buildyard.engine.approvals import Answered
from buildyard.engine.builds import AttemptView, JobView
from buildyard.engine.engine import system_clock
from buildyard.engine.queue import Queue
from buildyard.engine.uploads import Upload
from buildyard.engine.waiting import BlockerView
from buildyard.engine.watching import BuildTree
from buildyard.engine.workflows import HandedIn

if TYPE_CHECKING:
    from buildyard.store.builds import BuildView, Revision
    from buildyard.store.identity import Token, User
    from buildyard.store.kept import Artifact
    from buildyard.store.queue import Item

LONGEST_DELAY_S = 10 * 365 * 24 * 3600

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        start_at=_start(submission),
    )


def _start(submission: messages.Submission) -> Moment | None:
    """When the build is to begin."""
    if submission.delay_s is not None:
        if submission.start_at is not None or not 0 <= submission.delay_s <= LONGEST_DELAY_S:
            raise Invalid(f"either start_at, or a delay_s from 0 to {LONGEST_DELAY_S}")
        return Moment(system_clock() + submission.delay_s * SECOND)
    if submission.start_at is None:
        return None
    try:
        parsed = datetime.fromisoformat(submission.start_at)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise Invalid(f"start_at must be a time like 2026-12-31T23:00:00Z, not {submission.start_at[:100]!r}")
    return Moment(int((parsed - _EPOCH) / timedelta(microseconds=1)))


def build(view: BuildView, blockers: Sequence[BlockerView] = ()) -> messages.Build:
    """A build, with what it waits for as a whole."""
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
        blockers=[blocker(one) for one in blockers],
        created_at=iso(view.build.created_at),
        started_at=_time(view.build.started_at),
        finished_at=_time(view.build.finished_at),
    )


def uploaded(found: Upload) -> messages.Folder:
    """A folder kept for the submission that follows."""
    return messages.Folder(sha256=found.folder.sha256, size=found.folder.size, receipt=found.receipt)


def tree(found: BuildTree) -> messages.Tree:
    """A build with all below it."""
    of_build = {one.blocker.id: one for view in found.jobs for one in view.blockers if one.blocker.job is None}
    whole = messages.Tree(
        build=build(found.build, list(of_build.values())), jobs=[_job(view) for view in found.jobs], seen=""
    )
    return msgspec.structs.replace(whole, seen=hashlib.sha256(msgspec.msgpack.encode(whole)).hexdigest()[:32])


def blocker(view: BlockerView) -> messages.Blocker:
    """What work waits for."""
    return messages.Blocker(
        kind=view.blocker.kind,
        name=view.blocker.name,
        since=iso(view.blocker.since),
        until=_time(view.blocker.until),
        ahead=view.ahead,
        detail=view.words,
    )


def answered(found: Answered) -> messages.Answered:
    """What an answer was about."""
    return messages.Answered(build=build(found.build), jobs=list(found.jobs))


def queue(found: Queue) -> messages.Queue:
    """What runs, is queued, and waits."""
    return messages.Queue(
        running=[_item("running", one, found) for one in found.running],
        queued=[_item("queued", one.item, found, one.position) for one in found.queued],
        queued_total=found.queued_total,
        waiting=[
            messages.QueueItem(
                state="waiting",
                build=one.build,
                project=found.slugs[one.project],
                pipeline=one.pipeline,
                job=one.job,
                job_uid=one.uid,
                since=iso(one.since),
                blocker=blocker(one.view),
            )
            for one in found.waiting
        ],
    )


def _item(state: str, item: Item, found: Queue, position: int | None = None) -> messages.QueueItem:
    return messages.QueueItem(
        state=state,
        build=item.build,
        project=found.slugs[item.project],
        pipeline=item.pipeline,
        job=item.name,
        job_uid=item.uid,
        since=iso(item.since),
        worker=item.worker,
        position=position,
    )


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


def token(found: Token, username: str, *, project: str | None = None, secret: str | None = None) -> messages.Token:
    """A token, with its secret if it was made just now."""
    return messages.Token(
        id=found.id,
        user=username,
        scopes=list(found.scopes),
        name=found.name,
        project=project,
        labels=list(found.labels),
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
        blockers=[blocker(one) for one in view.blockers],
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
