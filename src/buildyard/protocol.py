"""The worker protocol, version 2: what workers and servers say to each other under `/worker/v1`.

Bodies are MessagePack. Every call carries `Authorization: Bearer TOKEN`. All calls may be repeated:
a repeated one changes nothing and gets the same answer.

| call | body → answer | for |
|---|---|---|
| `POST hello` | Hello → Welcome | a worker (re)connects and says what it holds |
| `POST claim` | Claim → Claimed | long poll for jobs, cancel wishes and dropped attempts |
| `POST heartbeat` | Heartbeat → Beat | renews the leases of all held attempts |
| `POST report` | Report → Reported | progress, output and results of many attempts, in order |
| `POST revisions/pin` | PinRevision → RevisionPinned | which commit all jobs of a build check out |
| `POST caches/find` | FindCache → CacheFound | which blob to restore |
| `GET blobs/SHA256`, `HEAD` | → bytes | sources, inputs, caches |
| `PUT blobs` | bytes → BlobStored | outputs, caches (streamed) |
| `terminals/KEY` | WebSocket | a terminal that somebody wishes for: see TerminalWish |
"""

from enum import StrEnum
from typing import Any

import msgspec

from buildyard.domain.specs import FolderSource, GitSource, JobSpec
from buildyard.domain.states import Cause, Result, Stream

VERSION = 2
"""Raised when an older peer could misunderstand. Servers are upgraded before workers.

2: terminals; what a job may ask for that a worker of version 1 would pass over.
"""

TERMINALS_SINCE = 2

SERVED = (VERSION - 1, VERSION)
"""The versions that a server serves."""

LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 5
OUTPUT_BYTES = 1024 * 1024
"""The most bytes that one Output item may carry."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A body; unknown fields are ignored, so that either side may be newer."""


class Held(Message, frozen=True, kw_only=True):
    """An attempt that a worker holds, with its fencing token."""

    attempt: int
    token: str


class Hello(Message, frozen=True, kw_only=True):
    """A worker introduces itself.

    `session` is made anew by each worker process. `state_id` belongs to its state folder, which
    only one process can hold: a new session with a known `state_id` proves the older one dead.
    """

    protocol: int
    name: str
    session: str
    state_id: str
    version: str
    labels: list[str]
    executors: list[str]
    system: str
    slots: int
    host: str = ""
    held: list[Held] = []


class Welcome(Message, frozen=True, kw_only=True):
    """The server's answer. `now` is its clock (microseconds); attempts in `drop` must be killed, unreported."""

    protocol: int
    worker: int
    version: str
    now: int
    lease_s: float
    heartbeat_s: float
    drop: list[int] = []


class Claim(Message, frozen=True, kw_only=True):
    """Ask for up to `free` jobs, waiting up to `wait_s` seconds.

    `have` are all attempts received so far and not yet reported finished; `cancelling` those of
    them whose cancel wish has arrived, so that it does not end the wait again; `terminals` likewise the keys of
    terminals. A worker that ends is `leaving`.
    """

    session: str
    free: int
    have: list[int]
    cancelling: list[int] = []
    wait_s: float = 30.0
    leaving: bool = False
    terminals: list[str] = []


class StepGrant(Message, frozen=True, kw_only=True):
    """A step's row and its log; number 0 is `setup`."""

    step: int
    number: int
    name: str
    log: int


class InputFile(Message, frozen=True, kw_only=True):
    """A file of a dependency's outputs, to be laid into the workspace; a link's blob holds its target."""

    path: str
    sha256: str
    size: int
    mode: int
    link: bool = False


class GrantedSecret(Message, frozen=True, kw_only=True):
    """A secret of a leased job. `path` is that of its file, relative to the job's home folder; empty: no file.

    `variable`, if named, holds the value, or the path of the file if there is one. `kind` is the secret's (see
    `domain.secrets.SecretKind`); one that is `installed` is put where programs that use its kind look for it.
    """

    name: str
    value: bytes
    variable: str
    path: str = ""
    mode: int = 0o600
    kind: str = ""
    installed: bool = False

    def __repr__(self) -> str:
        return f"GrantedSecret(name={self.name!r}, value=***)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("value", "***")]


class JobGrant(Message, frozen=True, kw_only=True):
    """A leased job, whole. `environment` is what the server adds to every step, `notes` are lines for its first log.

    At most one of `git` and `folder` is there: the source to lay into the workspace. `refused` says why the job
    cannot be run after all: the worker ends the attempt with these words.
    """

    attempt: int
    token: str
    number: int
    job: int
    job_uid: str
    build: int
    build_uid: str
    build_number: int
    project: str
    pipeline: str
    spec: JobSpec
    steps: list[StepGrant]
    git: GitSource | None = None
    folder: FolderSource | None = None
    inputs: list[InputFile] = []
    environment: dict[str, str] = {}
    image_url: str = ""
    service_images: dict[str, str] = {}
    trusted: bool = True
    secrets: list[GrantedSecret] = []
    refused: str = ""
    notes: list[str] = []


class TerminalWish(Message, frozen=True, kw_only=True):
    """Somebody wants a terminal in an attempt's workspace, with a window of this size.

    The worker opens a WebSocket at `terminals/KEY` and says there whether it could (TerminalOpened). From then on
    bytes are keys one way and output the other, texts are the messages below. It hangs up when the socket closes.
    """

    key: str
    attempt: int
    rows: int
    columns: int
    term: str = ""


class TerminalOpened(Message, frozen=True, kw_only=True, tag="opened"):
    """The worker's first word: the program runs, or `refused` says why not."""

    refused: str = ""


class TerminalResized(Message, frozen=True, kw_only=True, tag="resized"):
    """The window has another size."""

    rows: int
    columns: int


class TerminalWatched(Message, frozen=True, kw_only=True, tag="watched"):
    """The person's side is still there; a worker that hears nothing for TERMINAL_SILENCE_S hangs up."""


class TerminalEnded(Message, frozen=True, kw_only=True, tag="ended"):
    """The program has ended; `detail` says what ended it, if it did not end itself."""

    status: int
    detail: str = ""


TerminalWord = TerminalOpened | TerminalResized | TerminalWatched | TerminalEnded
TERMINAL_SILENCE_S = 90.0
TERMINAL_WATCHED_S = 20.0


class Claimed(Message, frozen=True, kw_only=True):
    """Jobs to run; attempts whose cancel is wished; attempts that are no longer the worker's; wishes for terminals.

    A `paused` worker gets no jobs. A `draining` one neither: it leaves when it has none.
    """

    jobs: list[JobGrant] = []
    cancel: list[int] = []
    drop: list[int] = []
    paused: bool = False
    draining: bool = False
    terminals: list[TerminalWish] = []


class Heartbeat(Message, frozen=True, kw_only=True):
    """The worker lives and still holds these."""

    session: str
    held: list[Held]


class Beat(Message, frozen=True, kw_only=True):
    """See Claimed. `now` is the server's clock (microseconds), 0 from servers that do not tell it."""

    cancel: list[int] = []
    drop: list[int] = []
    paused: bool = False
    draining: bool = False
    now: int = 0


class Started(Message, frozen=True, kw_only=True, tag="started"):
    """The attempt's workspace is being made: its setup step runs.

    `at`, here and in the items below: when that was, by the server's clock as the worker knows it (microseconds);
    0 means when the server hears of it. A server bends a time that cannot be to the nearest that can.
    """

    attempt: int
    token: str
    at: int = 0


class StepStarted(Message, frozen=True, kw_only=True, tag="step_started"):
    """A step's command runs."""

    attempt: int
    token: str
    step: int
    at: int = 0


class OutputChunk(Message, frozen=True, array_like=True):
    """See ports.Chunk."""

    stream: Stream
    at: int
    data: bytes


class Output(Message, frozen=True, kw_only=True, tag="output"):
    """Bytes of a log, the first of which has position `offset`."""

    attempt: int
    token: str
    log: int
    offset: int
    chunks: list[OutputChunk]


class StepFinished(Message, frozen=True, kw_only=True, tag="step_finished"):
    """A step ended; all its output has been sent before: `log_size` bytes."""

    attempt: int
    token: str
    step: int
    log: int
    log_size: int
    result: Result
    cause: Cause = Cause.NONE
    detail: str = ""
    exit_status: int | None = None
    at: int = 0


class OutputFile(Message, frozen=True, kw_only=True):
    """A kept output, whose blob has been stored; a link's blob holds its target. For `receipt` see BlobStored."""

    path: str
    sha256: str
    size: int
    mode: int
    link: bool = False
    receipt: str = ""


class SavedCache(Message, frozen=True, kw_only=True):
    """A cache folder, packed, whose blob has been stored."""

    path: str
    key: str
    sha256: str
    size: int
    receipt: str = ""


class ReportedTest(Message, frozen=True, kw_only=True):
    """A test that ran; `value` is passed, failed, error or skipped, `message` says why if it did not pass."""

    name: str
    value: str
    suite: str = ""
    path: str = ""
    line: int = 0
    duration_ns: int = 0
    message: str = ""


class ReportedTests(Message, frozen=True, kw_only=True):
    """The tests of one report. Of very many the `cases` are only the first; the numbers count all."""

    description: str
    passed: int
    failed: int
    skipped: int
    cases: list[ReportedTest] = []


class MetricValue(Message, frozen=True, kw_only=True):
    """A named number that a job measured."""

    name: str
    value: float
    unit: str = ""


class Finished(Message, frozen=True, kw_only=True, tag="finished"):
    """The attempt ended. Steps not reported finished have not run. Its workspace stays for `kept_s` more seconds."""

    attempt: int
    token: str
    result: Result
    cause: Cause = Cause.NONE
    detail: str = ""
    outputs: list[OutputFile] = []
    caches: list[SavedCache] = []
    tests: list[ReportedTests] = []
    metrics: list[MetricValue] = []
    kept_s: int = 0
    at: int = 0


Progress = Started | StepStarted | StepFinished | Finished
Item = Progress | Output


class Report(Message, frozen=True, kw_only=True):
    """What happened, in order, in any number of attempts."""

    session: str
    items: list[Item]


class Answer(StrEnum):
    """What became of a reported item."""

    DONE = "done"
    STALE = "stale"
    REFUSED = "refused"
    RETRY = "retry"


class Ack(Message, frozen=True, kw_only=True):
    """DONE, also for a repeated item. STALE: the attempt is no longer the worker's, kill it.

    REFUSED: the item is wrong (`detail` says why) and will stay so. RETRY: the store was not
    available; this item and all later ones of the same attempt were not taken. `size` is how
    much of the log is stored.
    """

    answer: Answer
    detail: str = ""
    size: int = 0


class Reported(Message, frozen=True, kw_only=True):
    """One Ack for each item, in order."""

    acks: list[Ack]


class PinRevision(Message, frozen=True, kw_only=True):
    """What a branch, or an abbreviated commit, of a held attempt's source turned out to be.

    `source` is the folder of one of several sources.
    """

    attempt: int
    token: str
    commit: str
    source: str = ""
    branch: str = ""
    author: str = ""
    subject: str = ""


class RevisionPinned(Message, frozen=True, kw_only=True):
    """The commit that all jobs of the build check out: the first that was told."""

    commit: str


class FindCache(Message, frozen=True, kw_only=True):
    """Which blob to restore for a cache of a held attempt's job."""

    attempt: int
    token: str
    path: str
    key: str


class CacheFound(Message, frozen=True, kw_only=True):
    """The blob, or an empty digest."""

    sha256: str = ""
    size: int = 0


class BlobStored(Message, frozen=True, kw_only=True):
    """What the server stored.

    A worker whose token is bound to a project names these bytes in its results with the `receipt`, unless the
    project had them already (`HEAD` finds them).
    """

    sha256: str
    size: int
    receipt: str = ""


class Failure(Message, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx."""

    error: str
