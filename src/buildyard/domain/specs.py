"""What is to be done: the immutable definition of a pipeline's jobs and their steps."""

from dataclasses import dataclass, field
from enum import StrEnum

from buildyard.domain.states import Result

MINUTE = 60
READY_S = 60
SHARED = 2**31 - 1
"""The `most` of a lock that any number of jobs may hold together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One command of a job. `run` is a script for `shell`; its exit status 0 is success.

    With `pty` it runs in a pseudo-terminal: its output and error output are one stream then. One that prepares a job
    is left out under any other executor than `executor`, if that is given.
    """

    name: str
    run: str
    shell: str = "bash"
    environment: dict[str, str] = field(default_factory=dict)
    timeout_s: int | None = None
    pty: bool = False
    executor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """A folder kept between runs.

    `path` is relative to the workspace; `key_files` are globs whose contents choose the entry.
    """

    path: str
    key_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds of one attempt; None means that only the worker's own bounds hold.

    With more outputs than `output_files` none is kept, and the job goes on; one over `output_file_bytes` fails it.
    """

    wall_s: int = 60 * MINUTE
    silent_s: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    log_bytes: int = 256 * 1024 * 1024
    output_bytes: int = 4 * 1024 * 1024 * 1024
    output_files: int | None = None
    output_file_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a job is tried again.

    `count` bounds tries after the results in `on`; `lost_count` bounds tries after lost attempts.
    """

    count: int = 0
    on: tuple[Result, ...] = (Result.ERROR,)
    lost_count: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a worker must offer: every label, one of its executors (empty: any), its system (empty: any).

    `locks` are names with the `most` of the worker's own locks that the job holds while it runs there.
    """

    labels: tuple[str, ...] = ()
    executor: str = ""
    system: str = ""
    locks: tuple[tuple[str, int], ...] = ()


class LockScope(StrEnum):
    """Among whom a lock's name is known; locks of one worker are in `Requirement.locks`."""

    PROJECT = "project"
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSpec:
    """A lock that a job holds from the moment it is queued to its end, together with at most `most - 1` others."""

    name: str
    scope: LockScope = LockScope.PROJECT
    most: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who may let a job run: users by name, and everyone of a role (or a higher one) but the submitter.

    Without an answer within `expires_s` seconds of the submission the answer is no.
    """

    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    expires_s: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """At most `limit` builds of a project's group run at once; who enters it may cancel those that are there."""

    group: str
    limit: int = 1
    cancel_older: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUse:
    """A secret that a job names, by its name or its uid. `given` is `env`, `file`, or empty: as the secret's kind says.

    Or it is `install`: put where the programs that use such a secret look for it (`domain.secrets.handing`).
    `path` is relative to the job's home folder; an `optional` secret that there is none of is left out.
    """

    name: str
    given: str = ""
    variable: str = ""
    path: str = ""
    mode: int | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUse:
    """A token of this server that a job gets in `variable`: its submitter's, for as long as the attempt runs."""

    scopes: tuple[str, ...]
    variable: str = "OAUTH2_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSpec:
    """Files that say how tests went or what was measured: `junit`, `cobertura`, `lcov` or `metrics`.

    `path` is a glob relative to the workspace. Without a `required` one the job fails.
    """

    type: str
    path: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A program that runs beside a job's steps, which reach it by its name or on localhost.

    `ready` is a script that ends with status 0 once the service is ready, tried for at most `ready_s` seconds;
    without one it is ready when it runs. An empty `command` is the image's own.
    """

    name: str
    image: str
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ready: str = ""
    ready_s: int = READY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """An exact place in a git repository. `commit` wins over `branch`; both empty: the default branch."""

    url: str
    branch: str = ""
    commit: str = ""
    shallow: bool = True
    submodules: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSource:
    """One of several sources of a job, laid into `folder`, a name in the workspace."""

    folder: str
    git: GitSource


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job of a pipeline: what one worker runs in one workspace.

    `needs` are names of jobs of the same pipeline whose `outputs` (paths or globs relative to the
    workspace) are laid into the workspace first. `network` is `default`, `none` or `host`.

    `prepare` are scripts that run in order as part of step 0, `setup`; the first that fails ends the job. With
    `at_home` the workspace is the job's home folder. Once a step has left `done_file` (relative to the home folder),
    the steps after it are skipped. `keep_s` and `keep_failed_s` say how long the workspace stays after the end.

    `facts` are variables of its steps with values that are known when it is leased: in them `{build}` stands for the
    build's id, `{account}` for the name of the project's account, `{server}` for the server's address.
    """

    name: str
    steps: tuple[StepSpec, ...]
    needs: tuple[str, ...] = ()
    image: str = ""
    services: tuple[ServiceSpec, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    secrets: tuple[SecretUse, ...] = ()
    caches: tuple[CacheSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    reports: tuple[ReportSpec, ...] = ()
    require: Requirement = Requirement()
    limits: Limits = Limits()
    retry: Retry = Retry()
    priority: int = 0
    allow_failure: bool = False
    network: str = "default"
    locks: tuple[LockSpec, ...] = ()
    approval: Approval | None = None
    matrix: dict[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: tuple[StepSpec, ...] = ()
    at_home: bool = False
    done_file: str = ""
    sources: tuple[NamedSource, ...] = ()
    keep_s: int = 0
    keep_failed_s: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    token: TokenUse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A pipeline's definition: jobs that name each other, forming a graph without cycles."""

    jobs: tuple[JobSpec, ...]
    concurrency: Concurrency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """An uploaded folder: the blob of a tar file (zstd-compressed) with its files."""

    sha256: str
    size: int


Source = GitSource | FolderSource
