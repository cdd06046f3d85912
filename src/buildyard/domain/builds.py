"""Builds, jobs, attempts and steps as values."""

from dataclasses import dataclass

from buildyard.domain.access import Audience
from buildyard.domain.ids import (
    AttemptId,
    BuildId,
    EvaluationId,
    JobId,
    LaneId,
    LogId,
    Moment,
    PipelineId,
    PipelineVersionId,
    ProjectId,
    RevisionId,
    StepId,
    Uid,
    UserId,
    WorkerId,
)
from buildyard.domain.states import ALLOWED_CAUSES, Cause, JobKind, Phase, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Phase, and once finished how: with a result, or, for attempts and their steps only, `lost`."""

    phase: Phase
    result: Result | None = None
    cause: Cause = Cause.NONE
    detail: str = ""
    lost: bool = False

    def __post_init__(self) -> None:
        ended = (self.result is not None) + self.lost
        if ended != (self.phase is Phase.FINISHED):
            raise ValueError("a result is there exactly when the work is finished")
        if self.cause and (self.result is None or self.cause not in ALLOWED_CAUSES[self.result]):
            raise ValueError(f"cause {self.cause} does not go with result {self.result}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One run of a pipeline version.

    `first_job` is the job that was leased first; `worst` the worst result of its finished jobs so far.
    `trusted` is false where strangers had a say in its source; see `domain.trust`.
    `concurrency` is the lock of its concurrency group; `superseded_by` the build that took its place in it.
    `audience` says whether it has an access list of its own; `manifest` that it was made of one.
    """

    id: BuildId
    uid: Uid
    project: ProjectId
    pipeline: PipelineId
    pipeline_version: PipelineVersionId
    evaluation: EvaluationId
    revision: RevisionId | None
    first_job: JobId | None
    number: int
    name: str
    priority: int
    state: State
    worst: Result
    jobs_total: int
    jobs_left: int
    cancel_requested: bool
    note: str
    rebuild_of: BuildId | None
    restarts: int
    trusted: bool
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    row_version: int
    keep: bool = False
    submitter: UserId | None = None
    concurrency: int | None = None
    superseded_by: BuildId | None = None
    audience: Audience = Audience.PROJECT
    manifest: bool = False
    secrets_enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The part of a build that one worker runs. `attempts` have been made, of which `lost` were lost.

    `gates` says what else than needs may hold it up; see `domain.blocking`.
    """

    id: JobId
    uid: Uid
    build: BuildId
    spec: int
    lane: LaneId
    kind: JobKind
    position: int
    name: str
    state: State
    blockers: int
    cancel_requested: bool
    priority: int
    dependants: int
    allow_failure: bool
    attempts: int
    lost: int
    queued_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    row_version: int
    gates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job, held by a worker until `leased_until`.

    `pipeline_number` counts tries of builds per pipeline: only those of a build's first job have one. After its end
    its workspace stays on the worker until `kept_until`, unless the worker ends before.
    """

    id: AttemptId
    job: JobId
    number: int
    pipeline_number: int | None
    worker: WorkerId
    session: str
    token_hash: bytes
    leased_until: Moment
    state: State
    leased_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    row_version: int
    kept_until: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of an attempt; number 0 is `setup`."""

    id: StepId
    uid: Uid
    attempt: AttemptId
    number: int
    name: str
    state: State
    exit_status: int | None
    started_at: Moment | None
    finished_at: Moment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The output of a step; its bytes lie in the log store."""

    id: LogId
    attempt: AttemptId
    step: StepId
    slug: str
    size: int
    lines: int
    sealed_at: Moment | None
    removed_at: Moment | None
