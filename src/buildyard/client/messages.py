"""What our own HTTP API and the command line say to each other, as JSON under `/-/api/v1`.

Times are RFC 3339 texts. `phase` and `result` are the words of `domain.states`; a result is there once the
phase is `finished`.
"""

from typing import Any, Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A body; unknown fields are ignored, so that either side may be newer."""


class Folder(Message, frozen=True, kw_only=True):
    """An uploaded folder: a tar file, zstd-compressed, by its digest; `receipt` shows that the sender has sent it."""

    sha256: str
    size: int
    receipt: str = ""


class Submission(Message, frozen=True, kw_only=True):
    """A workflow to build once. `project` and `pipeline` are slugs; empty ones are named after the workflow.

    `matrix` replaces the values of axes; see `engine.workflow_files`. The build begins at `start_at` or after `delay_s`
    seconds, else at once.
    """

    workflow: str
    project: str = ""
    pipeline: str = ""
    matrix: dict[str, list[str]] = {}
    folder: Folder | None = None
    message: str = ""
    note: str = ""
    start_at: str | None = None
    delay_s: int | None = None


class Reason(Message, frozen=True, kw_only=True):
    """Why somebody cancels or retries."""

    reason: str = ""


class Verdict(Message, frozen=True, kw_only=True):
    """An answer for a `job` (name or uid) that waits for an approval; without one, for all that one may answer for."""

    granted: bool
    job: str = ""
    reason: str = ""


class Answered(Message, frozen=True, kw_only=True):
    """For which jobs of a build was answered; "" is the build as a whole."""

    build: "Build"
    jobs: list[str]


class Blocker(Message, frozen=True, kw_only=True):
    """What work waits for beside other jobs: an `approval`, a `schedule`, a `group` or a `lock`, called `name`.

    `until` is when a schedule is due, or an approval expires; `ahead` how many stand before in the line.
    """

    kind: str
    name: str = ""
    since: str
    until: str | None = None
    ahead: int = 0
    detail: str = ""


class Build(Message, frozen=True, kw_only=True):
    """A build. `revision` says in words what was built; `jobs_left` of `jobs_total` are not finished.

    `blockers` are what it waits for as a whole; lists of builds leave them out.
    """

    id: int
    uid: str
    project: str
    pipeline: str
    number: int
    phase: str
    result: str | None = None
    cause: str = ""
    detail: str = ""
    cancel_requested: bool = False
    jobs_total: int = 0
    jobs_left: int = 0
    keep: bool = False
    revision: str = ""
    note: str = ""
    blockers: list[Blocker] = []
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None


class Builds(Message, frozen=True, kw_only=True):
    """A page of builds, newest first."""

    builds: list[Build]


class Step(Message, frozen=True, kw_only=True):
    """One command of an attempt; number 0 is `setup`. `log` is the id of its output."""

    uid: str
    number: int
    name: str
    phase: str
    result: str | None = None
    cause: str = ""
    detail: str = ""
    lost: bool = False
    exit_status: int | None = None
    log: int | None = None
    log_bytes: int = 0
    started_at: str | None = None
    finished_at: str | None = None


class Attempt(Message, frozen=True, kw_only=True):
    """One try of a job; `lost` ones have no result."""

    number: int
    worker: str
    phase: str
    result: str | None = None
    cause: str = ""
    detail: str = ""
    lost: bool = False
    started_at: str | None = None
    finished_at: str | None = None
    steps: list[Step] = []


class Job(Message, frozen=True, kw_only=True):
    """A job of a build and its attempts, oldest first."""

    uid: str
    name: str
    phase: str
    result: str | None = None
    cause: str = ""
    detail: str = ""
    needs: list[str] = []
    blockers: list[Blocker] = []
    started_at: str | None = None
    finished_at: str | None = None
    attempts: list[Attempt] = []


class Tree(Message, frozen=True, kw_only=True):
    """A build with all below it. `seen` names this state of it; giving it back waits for another."""

    build: Build
    jobs: list[Job]
    seen: str


class QueueItem(Message, frozen=True, kw_only=True):
    """Work that is `running` on a `worker`, `queued` at a `position` of its pipeline's queue, or `waiting`.

    Without a `job` it is the build as a whole. `since` when it is so.
    """

    state: str
    build: int
    project: str
    pipeline: str
    job: str = ""
    job_uid: str = ""
    since: str
    worker: str = ""
    position: int | None = None
    blocker: Blocker | None = None


class Queue(Message, frozen=True, kw_only=True):
    """What runs, what is queued (`queued_total` in all), and what waits for something else than jobs and workers."""

    running: list[QueueItem]
    queued: list[QueueItem]
    queued_total: int
    waiting: list[QueueItem]


class Artifact(Message, frozen=True, kw_only=True):
    """A kept output of a job."""

    uid: str
    job: str
    path: str
    size: int
    sha256: str
    mode: int
    link: bool = False
    removed_at: str | None = None


class Artifacts(Message, frozen=True, kw_only=True):
    """A build's artifacts."""

    artifacts: list[Artifact]


class NewUser(Message, frozen=True, kw_only=True):
    """A user to make."""

    username: str
    password: str
    email: str | None = None
    full_name: str = ""
    administrator: bool = False


class NewPassword(Message, frozen=True, kw_only=True):
    """A user's password to be."""

    password: str


class User(Message, frozen=True, kw_only=True):
    """Who may sign in."""

    id: int
    username: str
    email: str | None = None
    full_name: str = ""
    administrator: bool = False
    created_at: str


class Users(Message, frozen=True, kw_only=True):
    """All users."""

    users: list[User]


class NewToken(Message, frozen=True, kw_only=True):
    """A token to make; `expires_in_s` None: it does not expire. `project` is a slug."""

    user: str
    scopes: list[str]
    name: str = ""
    project: str | None = None
    labels: list[str] = []
    expires_in_s: int | None = None


class Token(Message, frozen=True, kw_only=True):
    """A token; `token` is its secret, told once, when it is made.

    `project`: good for this one only (its slug, as far as who asks may know it). `labels` are those of its worker.
    """

    id: int
    user: str
    scopes: list[str]
    name: str = ""
    project: str | None = None
    labels: list[str] = []
    token: str | None = None
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None


class Tokens(Message, frozen=True, kw_only=True):
    """Tokens, without their secrets."""

    tokens: list[Token]


class Worker(Message, frozen=True, kw_only=True):
    """A process that runs jobs: `busy` of its `slots` are taken. `host` and `address` are told to administrators.

    `project` is the only one whose jobs it may have, as its token says; empty: those of all.
    """

    id: int
    name: str
    connected: bool
    paused: bool = False
    draining: bool = False
    reason: str = ""
    slots: int = 0
    busy: int = 0
    labels: list[str] = []
    executors: list[str] = []
    system: str = ""
    project: str = ""
    version: str = ""
    protocol: int = 0
    host: str = ""
    address: str = ""
    created_at: str
    seen_at: str


class Workers(Message, frozen=True, kw_only=True):
    """All workers but removed ones."""

    workers: list[Worker]


class Removal(Message, frozen=True, kw_only=True):
    """Why a worker is removed; `force`: also if it is connected or holds work, which is lost."""

    reason: str = ""
    force: bool = False


class Removed(Message, frozen=True, kw_only=True):
    """A worker that was removed, and how many attempts were lost with it."""

    name: str
    lost: int = 0


class TestSet(Message, frozen=True, kw_only=True):
    """What one report of tests said; `description` is its path."""

    id: int
    job: str
    description: str
    passed: int
    failed: int
    skipped: int


class TestResult(Message, frozen=True, kw_only=True):
    """How a test of the set `set` went: `status` is error, failed, skipped or passed."""

    id: int
    set: int
    name: str
    suite: str
    path: str
    line: int
    seconds: float
    status: str
    message: str


class TestResults(Message, frozen=True, kw_only=True):
    """A build's reports of tests and a page of the tests, the worst first; `cursor` asks for the next page."""

    sets: list[TestSet]
    tests: list[TestResult]
    cursor: str = ""


class Metric(Message, frozen=True, kw_only=True):
    """A named number that a job of a build measured."""

    id: int
    build: int
    number: int
    job: str
    name: str
    value: float
    unit: str


class Metrics(Message, frozen=True, kw_only=True):
    """Metrics of a build by name, or of one name over the builds of a pipeline, newest first."""

    metrics: list[Metric]


class Bounds(Message, frozen=True, kw_only=True):
    """How much is kept: of the last `days`, the newest `count`, at most `size` bytes; 0: no bound, null: not said."""

    days: int | None = None
    count: int | None = None
    size: int | None = None


class Rule(Message, frozen=True, kw_only=True):
    """What `holds` somewhere for builds, artifacts, logs or caches, and what was `said` exactly there."""

    what: str
    holds: Bounds
    said: Bounds


class Rules(Message, frozen=True, kw_only=True):
    """The rules of the server, a project or a pipeline."""

    rules: list[Rule]


class NewRule(Message, frozen=True, kw_only=True):
    """What shall hold in a project or, named by its slug, a pipeline."""

    what: str
    pipeline: str = ""
    bounds: Bounds


class Keep(Message, frozen=True, kw_only=True):
    """Whether a build shall lose nothing."""

    keep: bool
    reason: str = ""


class Collect(Message, frozen=True, kw_only=True):
    """Collect garbage for a second; with `dry_run` only count it. `cursor` is the one that the last answer gave."""

    cursor: str = ""
    dry_run: bool = False


class Collected(Message, frozen=True, kw_only=True):
    """What that second took away: how many of each kind, and their bytes. An empty `cursor`: it is done."""

    counts: dict[str, int]
    sizes: dict[str, int]
    cursor: str = ""


class Act(Message, frozen=True, kw_only=True):
    """An entry of the audit log: who did what to what, and why."""

    id: int
    uid: str
    at: str
    actor: str
    action: str
    resource: str
    project: str = ""
    reason: str = ""
    ip: str = ""
    agent: str = ""
    details: dict[str, Any] = {}


class Acts(Message, frozen=True, kw_only=True):
    """A page of the audit log, newest first. `before` asks for the next one, if there may be one."""

    acts: list[Act]
    before: int | None = None


class RunningJob(Message, frozen=True, kw_only=True):
    """A job that a worker holds, since when, and the step that runs."""

    build: int
    project: str
    pipeline: str
    number: int
    jobs_left: int
    jobs_total: int
    job: str
    attempt: int
    worker: str
    since: str
    step: str = ""


class QueuedJobs(Message, frozen=True, kw_only=True):
    """So many jobs of a pipeline that wait for a worker, and what for in words."""

    project: str
    pipeline: str
    count: int
    labels: list[str] = []
    executor: str = ""
    system: str = ""
    waits_for: str = ""


class Overview(Message, frozen=True, kw_only=True):
    """What is going on: what the one who asks may see. Lists are cut at a few hundred; the numbers are of all."""

    now: str
    version: str
    running_total: int
    queued_total: int
    running: list[RunningJob]
    queued: list[QueuedJobs]
    workers: list[Worker]


class Trigger(Message, frozen=True, kw_only=True):
    """Why builds of its pipelines start. `spec` is what its kind needs; `error` why it cannot do its work."""

    name: str
    kind: str
    project: str
    pipelines: list[str]
    enabled: bool
    spec: dict[str, Any]
    defined_by: str
    checked_at: str | None = None
    next_at: str | None = None
    error: str = ""
    error_at: str | None = None


class Triggers(Message, frozen=True, kw_only=True):
    """Triggers by project."""

    triggers: list[Trigger]


class Wish(Message, frozen=True, kw_only=True):
    """What a person gives a trigger that they fire."""

    parameters: dict[str, str | int | bool] = {}
    branch: str = ""
    commit: str = ""
    note: str = ""


class YardChange(Message, frozen=True, kw_only=True):
    """One thing that a yard file changes."""

    act: str
    kind: str
    name: str
    detail: str = ""


class Yard(Message, frozen=True, kw_only=True):
    """Where the yard file stands: what it changes, or what is wrong with it."""

    file: str
    taken_at: str | None = None
    problem: str = ""
    faults: "list[Fault]" = []
    changes: list[YardChange] = []


class NewSecret(Message, frozen=True, kw_only=True):
    """A secret to be set: in an account, or a project, or a pipeline of it. `value` is base64 in JSON.

    `path` and `mode` are for jobs that get it as a file. `kind` is one of `domain.secrets.SecretKind`.
    """

    name: str
    value: bytes
    kind: str = "variable"
    account: str = ""
    project: str = ""
    pipeline: str = ""
    path: str = ""
    mode: int | None = None

    def __repr__(self) -> str:
        return f"NewSecret(name={self.name!r}, value=***)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("value", "***")]


class Secret(Message, frozen=True, kw_only=True):
    """A secret without its value; `scope` is `account`, `project` or `pipeline`."""

    uid: str
    name: str
    kind: str
    scope: str
    account: str = ""
    project: str = ""
    pipeline: str = ""
    path: str = ""
    mode: str = ""
    created_at: str
    updated_at: str
    used_at: str | None = None


class Secrets(Message, frozen=True, kw_only=True):
    """Secrets, the oldest first."""

    secrets: list[Secret]


class KeyRotated(Message, frozen=True, kw_only=True):
    """The key that secrets are encrypted with now; how many were rewritten, and how many could not be read."""

    key: str
    rewritten: int = 0
    damaged: int = 0


class Fault(Message, frozen=True, kw_only=True):
    """One thing wrong with a request."""

    path: str
    message: str
    code: str


class Failure(Message, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx."""

    error: str
    faults: list[Fault] = []


class Webhook(Message, frozen=True, kw_only=True):
    """Post to this address; `secret` names the credential that signs."""

    url: str
    secret: str = ""
    started: bool = False


class CommitStatus(Message, frozen=True, kw_only=True):
    """Show a status at the built commit; `token` names the credential, an empty `api` is the public one."""

    forge: Literal["github", "gitlab", "gitea", "bitbucket", "bitbucket-server"]
    repository: str
    token: str
    api: str = ""


class NewNotification(Message, frozen=True, kw_only=True):
    """A rule to be made, for a project (by slug), one of its pipelines (by slug) or builds (by uid).

    Exactly one of `email`, `webhook` and `status` is there. An empty `on` is `always` for a status, else `failure`.
    """

    project: str
    pipeline: str = ""
    build: str = ""
    on: Literal["", "success", "failure", "unsuccessful", "always", "changed", "fixed"] = ""
    email: list[str] | None = None
    webhook: Webhook | None = None
    status: CommitStatus | None = None


class Notification(Message, frozen=True, kw_only=True):
    """A rule. `defined_by` is `notify`, or the file that it stands in."""

    id: int
    uid: str
    project: str
    pipeline: str = ""
    build: int | None = None
    on: str
    email: list[str] | None = None
    webhook: Webhook | None = None
    status: CommitStatus | None = None
    defined_by: str
    created_by: str
    created_at: str


class Notifications(Message, frozen=True, kw_only=True):
    """Rules, oldest first."""

    notifications: list[Notification]


class DeliveryTry(Message, frozen=True, kw_only=True):
    """One attempt at sending. Without `finished_at` it runs, or nobody knows what came of it."""

    number: int
    started_at: str
    finished_at: str | None = None
    status: int = 0
    error: str = ""
    request: str = ""
    response_headers: str = ""
    response: str = ""


class Delivery(Message, frozen=True, kw_only=True):
    """A message. `state` is waiting, delivered, dead or dropped; `due_at` is there while it waits."""

    id: int
    uid: str
    project: str
    build: int
    build_uid: str
    event: str
    kind: str
    target: str
    state: str
    attempts: int
    error: str = ""
    created_at: str
    due_at: str | None = None
    finished_at: str | None = None
    tries: list[DeliveryTry] | None = None


class Deliveries(Message, frozen=True, kw_only=True):
    """Messages, newest first."""

    deliveries: list[Delivery]


class WebhookKey(Message, frozen=True, kw_only=True):
    """The key that signatures of the webhooks of APIs are checked with: Ed25519, in base64."""

    public_key: str
