"""What is told of a build: the facts that webhooks, mail and statuses are made from."""

from dataclasses import dataclass, field

from buildyard.domain.ids import Moment
from buildyard.domain.notifications import Event
from buildyard.domain.states import Phase, Result

MOST_FAILED = 20
"""The most jobs that are told one by one."""

TAIL_LINES = 30
LINE_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """A job that did not end well: its failed step, if one ran, and the last lines of that step's log."""

    job: str
    result: Result
    cause: str
    detail: str
    step: str = ""
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A build as it is when a message is sent; `link` leads to it. `failures` counts all failed jobs."""

    event: Event
    uid: str
    id: int
    number: int
    project_uid: str
    project: str
    pipeline_uid: str
    pipeline: str
    pipeline_name: str
    phase: Phase
    result: Result | None
    cause: str
    detail: str
    note: str
    restarts: int
    jobs: int
    repository: str
    branch: str
    commit: str
    message: str
    author: str
    submitter: str
    link: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    failures: int = 0
    failed: tuple[FailedJob, ...] = field(default=())
