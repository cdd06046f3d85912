"""What the core needs from the world. Each Protocol has two or more real implementations in `adapters`.

All methods may be called concurrently from one event loop unless a docstring says otherwise.
Errors of the libraries below never pass: an adapter raises what its docstring names.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from buildyard.domain.ids import LogId, Moment, Sha256
from buildyard.domain.news import News
from buildyard.domain.notifications import Target
from buildyard.domain.specs import Limits, Source
from buildyard.domain.states import Cause, Result, Stream

# --- logs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of a log's exact bytes from one stream; `at` is when the worker read them."""

    stream: Stream
    at: Moment
    data: bytes


@dataclass(frozen=True, slots=True)
class LogState:
    """How far a log has got: its bytes, its complete and begun lines, and whether it is sealed."""

    size: int
    lines: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: its number from 0, its stream, when it began, and its text without the newline."""

    number: int
    stream: Stream
    at: Moment
    data: bytes


class LogStore(Protocol):
    """Logs as exact bytes, appended while a step runs, then sealed.

    Acknowledged bytes survive the death of the process. A change of stream ends a line for
    numbering. Live logs are readable at once. A sealed log never changes.
    Raises NotFound for a log that was never begun or was removed; Unavailable when the disk or
    the store fails (nothing of that call then counts).
    """

    async def append(self, log: LogId, offset: int, chunks: Sequence[Chunk]) -> LogState:
        """Add `chunks` whose first byte has the position `offset`; begins the log at 0.

        What is already stored is skipped, so repeating a call changes nothing. Raises Conflict if
        `offset` is beyond the end (a gap) or the log is sealed and the bytes would be new.
        """
        ...

    async def seal(self, log: LogId) -> LogState:
        """Finish a log durably (synced, compressed). Sealing again changes nothing; an unknown log is sealed empty."""
        ...

    async def state(self, log: LogId) -> LogState:
        """How far the log has got."""
        ...

    def read(self, log: LogId, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `start` ≤ i < `stop` (None: as far as written now), in pieces of bounded size."""
        ...

    async def lines(self, log: LogId, first: int, count: int) -> list[Line]:
        """At most `count` lines from number `first`; negative `first` counts from the end (tail)."""
        ...

    def follow(self, log: LogId, start: int = 0, *, quiet_s: float | None = None) -> AsyncGenerator[Chunk, None]:
        """The chunks from byte `start` on, then new ones as they are appended, until the log is sealed.

        A log not begun yet is waited for; an empty chunk says, each time, that nothing came for `quiet_s` seconds.
        One reader serves all followers of a log.
        """
        ...

    async def remove(self, log: LogId) -> None:
        """Delete a log; an unknown one is no error."""
        ...


# --- blobs --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob: the digest of its bytes, which is its name, and their number."""

    sha256: Sha256
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes as they lie in a blob store, and since when."""

    sha256: Sha256
    size: int
    stored_at: Moment


class BlobStore(Protocol):
    """Bytes named by their SHA-256, stored once, streamed, never held in memory as a whole.

    Raises Unavailable when the disk is full or the store fails; a failed `put` leaves nothing visible.
    """

    async def put(self, data: AsyncIterable[bytes], *, limit: int | None = None) -> BlobInfo:
        """Store a stream durably and say its digest. Raises TooLarge past `limit` bytes. Equal puts may meet."""
        ...

    async def size(self, sha256: Sha256) -> int:
        """The blob's length in bytes; NotFound if there is none."""
        ...

    def read(self, sha256: Sha256, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `start` ≤ i < `stop`, in pieces of bounded size; NotFound if there is no such blob."""
        ...

    async def remove(self, sha256: Sha256) -> None:
        """Delete a blob; an unknown one is no error."""
        ...

    async def stored(self, after: str, count: int) -> list[StoredBlob]:
        """At most `count` blobs whose digests come after `after`, in their order; fewer only at the end of all."""
        ...


# --- event bus ----------------------------------------------------------------------------------


class EventBus(Protocol):
    """Wake-ups between the servers of one installation. Messages may be lost or repeated, never wrong."""

    async def publish(self, topics: Sequence[str]) -> None:
        """Wake whoever waits for any of these topics, on every server."""
        ...

    def subscribe(self, topic: str) -> "Subscription":
        """Start to listen; use as an async context manager."""
        ...


class Subscription(Protocol):
    """A listener of one topic; wake-ups since the last `wait` are kept as one."""

    async def __aenter__(self) -> "Subscription": ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def wait(self, timeout: float | None = None) -> bool:
        """Sleep until a wake-up (True) or until `timeout` seconds passed (False)."""
        ...


# --- executors ----------------------------------------------------------------------------------

OutputSink = Callable[[Stream, bytes], None]
"""Takes output as it is read, in order, exact bytes; never blocks."""


def _say_nothing(_text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRequest:
    """A program to run beside a workspace's commands; see `domain.specs.ServiceSpec`.

    `begun` is called before it is started, then `output`, then once `ended`, with its exit status if it ended before it
    was ended, at the latest when the workspace is closed.
    """

    name: str
    image: str
    output: OutputSink
    begun: Callable[[], None]
    ended: Callable[[int | None], None]
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ready: str = ""
    ready_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRequest:
    """What a workspace is for. `key` is unique to the attempt; every process has `marker` in its environment.

    `services`, which only `container` can run, are ready when the workspace is. With `at_home` the job's home folder is
    the workspace. `say` takes words about what takes
    time, such as the progress of a download.
    """

    key: str
    marker: str
    image: str = ""
    limits: Limits = field(default_factory=Limits)
    network: str = "default"
    trusted: bool = True
    say: Callable[[str], None] = _say_nothing
    services: tuple[ServiceRequest, ...] = ()
    at_home: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run in a workspace; `cwd` is relative to it, `environment` complete but for the executor's own."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str = "."
    timeout_s: float | None = None
    silent_s: float | None = None
    pty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a command ended: `status` 0 to 255 (128 + n for signal n), and, if a limit ended it, which and in words."""

    status: int
    result: Result
    cause: Cause = Cause.NONE
    detail: str = ""


class Terminal(Protocol):
    """A program on a terminal of its own in a workspace, and the worker's end of that terminal."""

    async def read(self) -> bytes:
        """What the program writes, as it comes; empty at the end. Who reads slowly slows the program down."""
        ...

    async def write(self, data: bytes) -> None:
        """Keys as they are pressed; lost once the program has ended. Waits while the program does not read."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """The window has this size now."""
        ...

    async def ended(self) -> Exit:
        """Wait for the program's end; CANCELLED, with the reason in `detail`, if the terminal was hung up."""
        ...

    async def hang_up(self, why: str) -> None:
        """End the program and what it started; returns when that is dead. Idempotent; the first reason counts."""
        ...


class Workspace(Protocol):
    """A folder and the means to run commands in it, isolated as the executor promises.

    `run` may be called once at a time. Closing kills every process that was started in it,
    however it was started, and removes the folder; it is idempotent.
    """

    @property
    def folder(self) -> Path:
        """Where the workspace's files lie for the worker itself (to lay in sources, inputs, caches)."""
        ...

    @property
    def inside(self) -> str:
        """The path of the same folder as the commands see it."""
        ...

    @property
    def home(self) -> Path:
        """Where the job's home folder lies for the worker: the job's own, gone with the workspace.

        It is `folder` itself if that was asked for, else outside of it.
        """
        ...

    @property
    def inside_home(self) -> str:
        """The path of the home folder as the commands see it."""
        ...

    async def run(self, command: Command, output: OutputSink) -> Exit:
        """Run to the end and pass on all output. When it returns, nothing that it started runs any more."""
        ...

    async def open_terminal(self, command: Command, rows: int, columns: int) -> Terminal:
        """Start a program on a terminal, beside what `run` runs and other terminals, within the same limits.

        Those that were opened while `run` ran are hung up at its end: nothing of them runs when it returns. Raises
        Invalid for a `cwd` outside, Unavailable if the workspace is closed or the executor has no terminals.
        """
        ...

    async def kill(self) -> None:
        """End what runs now, the whole tree, without grace: `run` then returns. Safe at any time."""
        ...

    async def close(self) -> None:
        """Kill, then remove everything that was made for the workspace."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What an executor can do on this machine. `usable` False comes with the reason and the remedy in `missing`."""

    name: str
    usable: bool
    strength: int
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Executor(Protocol):
    """Opens workspaces on this machine."""

    @property
    def name(self) -> str:
        """`process`, `sandbox`, `container`, `dummy`."""
        ...

    async def probe(self) -> Probe:
        """Find out, by trying, what works here."""
        ...

    async def open(self, request: WorkspaceRequest) -> Workspace:
        """Make an empty workspace. Raises Unavailable with the reason if it cannot be made, NotFound for an image
        that is not there and cannot be had.
        """
        ...

    async def sweep(self) -> int:
        """Kill and remove what earlier, dead workers of this state folder left behind; say how many things."""
        ...

    async def close(self) -> None:
        """Release what the executor itself holds (network helpers); workspaces are closed by their users."""
        ...


# --- sources ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRevision:
    """What a fetch laid in: for git the whole commit name, its author and first line; empty for an uploaded folder.

    `branch` is the short name that is checked out; empty when the commit is detached.
    """

    commit: str = ""
    branch: str = ""
    author: str = ""
    subject: str = ""


class SourceFetcher(Protocol):
    """Lays sources into workspaces. Cancelling a fetch ends every process that it started before it returns."""

    async def fetch(
        self, source: Source, folder: Path, say: Callable[[str], None], *, ssh_keys: Sequence[bytes] = ()
    ) -> FetchedRevision:
        """Fill `folder` (made if missing); `say` takes lines about progress, without credentials.

        Where SSH is spoken, `ssh_keys` are tried instead of the worker's own.

        After a failure the folder holds any part of the source. Raises Invalid for a source that is not allowed
        or unusable, NotFound for one that does not exist, TooLarge or LimitReached past a limit, Unavailable when
        the other side or the disk fails. The message of each is fit for a log.
        """
        ...


# --- notifiers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail as an API words it. `thread` is the same for all recipients of one letter, and for its repetitions."""

    subject: str
    text: str
    thread: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON document as an API words it, and the headers that it is posted with."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message to send. `uid` is the same on every try; `address` is mail's one recipient.

    What it says is `news`, to be worded by the notifier, or what was `written` already: one of the two is there.
    """

    uid: str
    target: Target
    news: News | None = None
    written: Letter | Document | None = None
    address: str = ""
    credential: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one try. `final`: another one would be in vain. `status` is 0 where nothing was answered.

    `request` is what was sent, `headers` and `body` what came back, `body` cut to ANSWER_BYTES.
    """

    delivered: bool
    final: bool = False
    status: int = 0
    error: str = ""
    request: str = ""
    headers: str = ""
    body: str = ""
    retry_after_s: float | None = None


ANSWER_BYTES = 64 * 1024


class Notifier(Protocol):
    """Sends messages of one kind. A repeated notice is told as a repetition, by its uid."""

    async def send(self, notice: Notice) -> Outcome:
        """Try once, within a set time. Whatever goes wrong is part of the outcome; only cancelling passes."""
        ...
