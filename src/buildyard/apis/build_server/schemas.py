"""Build Server's wire types: what goes out field by field, and the readers of what comes in."""

import msgspec
from msgspec import UNSET, UnsetType


class Out(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """A body that goes out; fields without a value are left out, for the document knows no null."""


class Project(Out, frozen=True, kw_only=True):
    """See the document."""

    id: str
    account_id: str
    name: str
    created_at: str
    updated_at: str


class Workflow(Out, frozen=True, kw_only=True):
    """See the document; `steps` is our extension, in the answer for one workflow."""

    id: str
    project_id: str
    name: str
    created_at: str
    updated_at: str
    steps: "list[WorkflowStep] | UnsetType" = UNSET


class WorkflowStep(Out, frozen=True, kw_only=True):
    """A step as it was defined."""

    name: str
    image_slug: str
    depends_on: list[str]
    run_script: str
    cache_dirs: list[str]
    output_paths: list[str]


class Build(Out, frozen=True, kw_only=True):
    """See the document; from `number` on our extensions, in the answer for one build."""

    id: str
    project_id: str
    workflow_id: str
    status: str
    created_at: str
    commit_hash: str | UnsetType = UNSET
    repo_url: str | UnsetType = UNSET
    branch: str | UnsetType = UNSET
    commit_message: str | UnsetType = UNSET
    commit_author: str | UnsetType = UNSET
    started_at: str | UnsetType = UNSET
    finished_at: str | UnsetType = UNSET
    number: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    cancel_requested: bool | UnsetType = UNSET
    steps_total: int | UnsetType = UNSET
    steps_left: int | UnsetType = UNSET


class Pagination(Out, frozen=True, kw_only=True):
    """See the document."""

    total: int
    limit: int
    offset: int
    has_more: bool


class Builds(Out, frozen=True, kw_only=True):
    """A page of builds."""

    builds: list[Build]
    pagination: Pagination


class DockerImage(Out, frozen=True, kw_only=True):
    """See the document."""

    id: str
    slug: str
    image_url: str
    public: bool
    created_at: str


class AuditLog(Out, frozen=True, kw_only=True):
    """See the document; `actor`, `reason` and `resourceId` are our extensions."""

    id: str
    action: str
    details: dict[str, object]
    created_at: str
    actor: str
    resource_id: str
    project_id: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class AuditLogs(Out, frozen=True, kw_only=True):
    """A page of the audit log."""

    audit_logs: list[AuditLog]
    pagination: Pagination


class Command(Out, frozen=True, kw_only=True):
    """One command of an attempt; `setup` is number 0."""

    name: str
    number: int
    status: str
    exit_status: int | UnsetType = UNSET
    started_at: str | UnsetType = UNSET
    finished_at: str | UnsetType = UNSET


class Attempt(Out, frozen=True, kw_only=True):
    """One try of a step."""

    number: int
    runner: str
    status: str
    started_at: str | UnsetType = UNSET
    finished_at: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    commands: list[Command]


class Step(Out, frozen=True, kw_only=True):
    """A step of a build."""

    id: str
    build_id: str
    name: str
    status: str
    depends_on: list[str]
    started_at: str | UnsetType = UNSET
    finished_at: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    attempts: list[Attempt]


class Steps(Out, frozen=True, kw_only=True):
    """A build's steps in the order of the workflow."""

    steps: list[Step]


class Artifact(Out, frozen=True, kw_only=True):
    """A kept output of a step."""

    id: str
    build_id: str
    step_id: str
    step_name: str
    path: str
    size: int
    sha256: str
    mode: str
    created_at: str


class Artifacts(Out, frozen=True, kw_only=True):
    """Artifacts of a build, oldest first; `cursor` asks for those that follow, where there may be more."""

    artifacts: list[Artifact]
    cursor: str | UnsetType = UNSET


class Completed(Out, frozen=True, kw_only=True):
    """See the document."""

    success: bool
    step_status: str
    build_complete: bool


class NextStep(Out, frozen=True, kw_only=True):
    """A step that a runner now holds; its script needs the token in BUILDYARD_STEP_TOKEN."""

    step_id: str
    script_url: str
    token: str
    lease_seconds: float


class Claim(Out, frozen=True, kw_only=True):
    """What belongs to a step that a runner now holds; `secrets` are for its environment."""

    step_id: str
    build_id: str
    token: str
    attempt: int
    lease_seconds: float
    source: str
    repo_url: str | UnsetType = UNSET
    commit_hash: str | UnsetType = UNSET
    branch: str | UnsetType = UNSET
    shallow: bool = True
    submodules: bool = True
    inputs: bool
    secrets: dict[str, str] = {}


class Stored(Out, frozen=True, kw_only=True):
    """How much of a log is stored, and whether the runner shall stop."""

    size: int
    stop: bool


class Pinned(Out, frozen=True, kw_only=True):
    """The commit that all steps of the build check out."""

    commit_hash: str


class Kept(Out, frozen=True, kw_only=True):
    """Stored bytes of an output (`mode`) or cache; the report of the step's end repeats it."""

    path: str
    sha256: str
    size: int
    mode: str | UnsetType = UNSET


class LogLine(Out, frozen=True, kw_only=True):
    """A line of a log: where it comes from, its number from 0 there, its stream (`o`, `e` or `h`), its time."""

    attempt: int
    step: str
    number: int
    stream: str
    at: str
    text: str


class LogNews(Out, frozen=True, kw_only=True):
    """New output in a followed log; it need not end with a line."""

    attempt: int
    step: str
    stream: str
    text: str


class LogEnd(Out, frozen=True, kw_only=True):
    """The end of a followed log."""

    status: str
    reason: str | UnsetType = UNSET


class Fault(Out, frozen=True, kw_only=True):
    """One thing wrong with a request."""

    path: str
    message: str
    code: str


class Error(Out, frozen=True, kw_only=True):
    """Every answer that is not 2xx."""

    error: str
    details: list[Fault] = []
