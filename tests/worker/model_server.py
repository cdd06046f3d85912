"""A server of the worker protocol in memory: the model that workers are tested against, with faults on demand."""

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import httptools
import msgspec

from buildyard.domain.specs import JobSpec, StepSpec
from buildyard.domain.states import Result, Stream
from buildyard.protocol import (
    VERSION,
    Ack,
    Answer,
    Beat,
    BlobStored,
    CacheFound,
    Claim,
    Claimed,
    Failure,
    FindCache,
    Finished,
    Heartbeat,
    Hello,
    InputFile,
    Item,
    JobGrant,
    Message,
    Output,
    PinRevision,
    Report,
    Reported,
    RevisionPinned,
    Started,
    StepFinished,
    StepGrant,
    StepStarted,
    Welcome,
)

GENEROUS_S = 30.0


class Fault(Enum):
    """What befalls one request."""

    NONE = "none"
    DROP_BEFORE = "the connection breaks before the request is processed"
    DROP_AFTER = "the connection breaks after the request was processed"
    CUT = "the answer breaks off in its middle"
    TWICE = "the request is processed twice, the second answer is given"
    ERROR = "500 without processing"
    ERROR_AFTER = "500 after processing"


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class Log:
    """A log as it was received."""

    data: bytearray = field(default_factory=bytearray)
    streams: list[tuple[Stream, bytes]] = field(default_factory=list)

    def text(self, stream: Stream) -> str:
        """All text of one stream."""
        return b"".join(data for of, data in self.streams if of is stream).decode(errors="replace")


@dataclass
class Attempt:
    """What the server knows of an attempt."""

    grant: JobGrant
    session: str = ""
    token: str = ""
    started: int = 0
    steps: dict[int, StepFinished] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)
    logs: dict[int, Log] = field(default_factory=dict)
    ends: list[Finished] = field(default_factory=list)
    cancel: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> Finished:
        """The one end."""
        assert len(self.ends) == 1, self.ends
        return self.ends[0]

    def log(self, number: int) -> Log:
        """The log of the step with this number."""
        return self.logs.setdefault(self.grant.steps[number].log, Log())

    def output(self, number: int = 1) -> str:
        """What a step printed on its standard output."""
        return self.log(number).text(Stream.OUTPUT)

    def said(self, number: int = 0) -> str:
        """What Buildyard said in a step's log."""
        return self.log(number).text(Stream.HEADER)

    def result(self, number: int) -> Result:
        """How a step ended."""
        return self.steps[self.grant.steps[number].step].result

    async def until(self, condition: Callable[["Attempt"], object]) -> None:
        """Wait for something to become true of the attempt."""
        async with asyncio.timeout(GENEROUS_S):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()

    async def finished(self) -> Finished:
        """Wait for the end."""
        await self.until(lambda attempt: attempt.ends)
        return self.end


@dataclass
class Call:
    """One request as the faults' chooser sees it."""

    name: str
    number: int


class ModelServer:
    """Speaks the protocol on a unix socket or a port. Its state outlives `stop` and `start`, like a database."""

    def __init__(self, *, lease_s: float = 30.0, heartbeat_s: float = 0.2, token: str = "secret") -> None:
        self.lease_s = lease_s
        self.heartbeat_s = heartbeat_s
        self.token = token
        self.protocol = VERSION
        self.attempts: dict[int, Attempt] = {}
        self.sessions: set[str] = set()
        self.hellos: list[Hello] = []
        self.heartbeats: list[Heartbeat] = []
        self.claims: list[Claim] = []
        self.blobs: dict[str, bytes] = {}
        self.caches: dict[tuple[str, str], str] = {}
        self.calls: Counter[str] = Counter()
        self.fault: Callable[[Call], Fault] = lambda _: Fault.NONE
        self.before: Callable[[Call], asyncio.Future[None] | None] = lambda _: None
        self.ack: Callable[[Item], Ack | None] = lambda _: None
        self.claimed: Callable[[Claimed], Claimed] = lambda claimed: claimed
        self.dropped: set[int] = set()
        self.refuse_blobs: tuple[int, str] | None = None
        self.new_tokens = False
        self.clock_offset = 0
        self.unknown: dict[str, object] = {}
        self.withheld: set[str] = set()
        self.paused = False
        self.draining = False
        self.left: list[str] = []
        self.pinned: list[PinRevision] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._early: dict[asyncio.StreamWriter, bytes] = {}

    # --- what tests do

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[str]:
        """Serve on a unix socket; the address."""
        await self.start(path)
        try:
            yield f"unix://{path}"
        finally:
            await self.stop()

    async def start(self, path: Path | None = None) -> int:
        """Begin to listen: on a unix socket, or on a free port of the loopback (answered)."""
        if path is not None:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path)
            return 0
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and break all connections, as a killed server does."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0)
            self._server = None

    def submit(self, spec: JobSpec | str, **grant: object) -> Attempt:
        """Queue a job: a specification, or the script of its only step."""
        if isinstance(spec, str):
            spec = JobSpec(name="job", steps=(StepSpec(name="only", run=spec),))
        number = len(self.attempts) + 1
        steps = [
            StepGrant(step=number * 1000 + position, number=position, name=name, log=number * 1000 + 500 + position)
            for position, name in enumerate(["setup", *(step.name for step in spec.steps)])
        ]
        made = JobGrant(
            attempt=number,
            token="",
            number=1,
            job=number,
            job_uid=f"job-{number}",
            build=number,
            build_uid=f"build-{number}",
            build_number=number,
            project="project",
            pipeline="pipeline",
            spec=spec,
            steps=steps,
            **grant,  # type: ignore[arg-type]
        )
        self.attempts[number] = Attempt(made)
        self._tell_change()
        return self.attempts[number]

    def direct(self, *, paused: bool = False, draining: bool = False) -> None:
        """Wish the worker to pause, to drain, or neither."""
        self.paused, self.draining = paused, draining
        self._tell_change()

    def cancel(self, attempt: Attempt) -> None:
        """Wish a cancel."""
        attempt.cancel = True
        self._tell_change()

    def drop(self, attempt: Attempt) -> None:
        """Take an attempt away from its worker, as when its lease has expired."""
        attempt.token = "somebody else's"
        attempt.session = "somebody else"
        self.dropped.add(attempt.grant.attempt)
        self._tell_change()

    def store(self, data: bytes) -> str:
        """Put a blob."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def store_input(self, path: str, data: bytes, mode: int = 0o644, *, link: bool = False) -> InputFile:
        """Put a blob that is an input."""
        return InputFile(path=path, sha256=self.store(data), size=len(data), mode=mode, link=link)

    def now(self) -> int:
        """The server's clock, in microseconds."""
        return time.time_ns() // 1000 + self.clock_offset

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to become true; checked after each call."""
        async with asyncio.timeout(GENEROUS_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    # --- the protocol

    def _tell_change(self) -> None:
        self._changed.set()
        for attempt in self.attempts.values():
            attempt.changed.set()

    def _hello(self, hello: Hello) -> Welcome:
        if hello.protocol != self.protocol:
            raise Refused(426, f"this server speaks protocol {self.protocol}")
        self.hellos.append(hello)
        self._tell_change()
        self.sessions.add(hello.session)
        drop = [held.attempt for held in hello.held if self.attempts[held.attempt].session != hello.session]
        return Welcome(
            protocol=VERSION,
            worker=1,
            version="test",
            now=self.now(),
            lease_s=self.lease_s,
            heartbeat_s=self.heartbeat_s,
            drop=drop,
        )

    async def _claim(self, claim: Claim) -> Claimed:
        self._check_session(claim.session)
        if claim.leaving:
            self.left.append(claim.session)
            self._tell_change()
            return Claimed()
        if self.protocol != VERSION:
            raise Refused(426, f"this server speaks protocol {self.protocol}")
        self.claims.append(claim)
        number = len(self.claims)
        self._tell_change()
        deadline = time.monotonic() + claim.wait_s
        while True:
            if number < len(self.claims) or claim.session != self.hellos[-1].session:
                raise Refused(409, "a later claim or another process took this one's place")
            claimed = self._find_jobs(claim)
            left = deadline - time.monotonic()
            if claimed.jobs or claimed.cancel or claimed.drop or left <= 0 or (self.draining and claim.free):
                return self.claimed(claimed)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _find_jobs(self, claim: Claim) -> Claimed:
        jobs, cancel = [], []
        for number, attempt in self.attempts.items():
            if attempt.ends or attempt.session not in ("", claim.session):
                continue
            if not attempt.session and len(jobs) < claim.free and not (self.paused or self.draining):
                attempt.session, attempt.token = claim.session, f"token-{number}"
                jobs.append(attempt)
            elif attempt.session and number not in claim.have:
                attempt.token += "+" if self.new_tokens else ""
                jobs.append(attempt)
            if attempt.cancel and attempt.session and number not in claim.cancelling:
                cancel.append(number)
        granted = [msgspec.structs.replace(attempt.grant, token=attempt.token) for attempt in jobs]
        drop = [number for number in claim.have if number in self.dropped]
        return Claimed(jobs=granted, cancel=cancel, drop=drop, paused=self.paused, draining=self.draining)

    def _heartbeat(self, heartbeat: Heartbeat) -> Beat:
        self._check_session(heartbeat.session)
        self.heartbeats.append(heartbeat)
        cancel, drop = [], []
        for held in heartbeat.held:
            attempt = self.attempts[held.attempt]
            if attempt.token != held.token:
                drop.append(held.attempt)
            elif attempt.cancel and not attempt.ends:
                cancel.append(held.attempt)
        return Beat(cancel=cancel, drop=drop, paused=self.paused, draining=self.draining, now=self.now())

    def _report(self, report: Report) -> Reported:
        self._check_session(report.session)
        held_up: set[int] = set()
        acks = []
        for item in report.items:
            ack = self._take(item) if item.attempt not in held_up else Ack(answer=Answer.RETRY)
            if ack.answer is Answer.RETRY:
                held_up.add(item.attempt)
            acks.append(ack)
        return Reported(acks=acks)

    def _take(self, item: Item) -> Ack:
        attempt = self.attempts[item.attempt]
        if attempt.token != item.token:
            return Ack(answer=Answer.STALE)
        if (answer := self.ack(item)) is not None:
            return answer
        if isinstance(item, Output):
            return self._append(attempt, item)
        if isinstance(item, Finished):
            self._end(attempt, item)
        elif not attempt.ends:
            self._move(attempt, item)
        return Ack(answer=Answer.DONE)

    def _move(self, attempt: Attempt, item: Started | StepStarted | StepFinished) -> None:
        match item:
            case Started():
                attempt.started = 1
            case StepStarted():
                assert attempt.started
                if item.step not in attempt.begun:
                    attempt.begun.append(item.step)
            case StepFinished():
                assert item.log_size == len(attempt.logs.setdefault(item.log, Log()).data)
                attempt.steps[item.step] = item

    def _end(self, attempt: Attempt, item: Finished) -> None:
        if item not in attempt.ends:
            attempt.ends.append(item)
        for cache in item.caches:
            assert cache.sha256 in self.blobs
            self.caches[cache.path, cache.key] = cache.sha256
        assert all(output.sha256 in self.blobs for output in item.outputs)

    def _append(self, attempt: Attempt, item: Output) -> Ack:
        log = attempt.logs.setdefault(item.log, Log())
        at = item.offset
        if at > len(log.data):
            return Ack(answer=Answer.REFUSED, detail=f"a gap: {at} after {len(log.data)}")
        for chunk in item.chunks:
            new = chunk.data[max(0, len(log.data) - at) :]
            at += len(chunk.data)
            if new:
                log.data += new
                log.streams.append((chunk.stream, new))
        return Ack(answer=Answer.DONE, size=len(log.data))

    def _find_cache(self, wanted: FindCache) -> CacheFound:
        sha256 = self.caches.get((wanted.path, wanted.key), "")
        return CacheFound(sha256=sha256, size=len(self.blobs.get(sha256, b"")))

    def _check_session(self, session: str) -> None:
        if session not in self.sessions:
            raise Refused(404, "this session is not known")

    # --- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._early.pop(writer, None)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = _Request()
        while not request.complete:
            data = self._early.pop(writer, b"") or await reader.read(1 << 20)
            if not data:
                return False
            request.parser.feed_data(data)
        name = f"{request.method} {request.url.decode()}".removeprefix("POST /worker/v1/")
        name = name.replace("/worker/v1/", "")
        name = name.split("/")[0] if "blobs/" in name else name
        call = Call(name, self.calls[name])
        self.calls[call.name] += 1
        if (wait := self.before(call)) is not None:
            await wait
        answering = asyncio.ensure_future(self._answer(call, request, writer))
        early = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({answering, early}, return_when=asyncio.FIRST_COMPLETED)
        if early.done() and not early.result():
            answering.cancel()
        early.cancel()
        await asyncio.wait({answering, early})
        self._early[writer] = b"" if early.cancelled() else early.result()
        return not answering.cancelled() and answering.result()

    async def _answer(self, call: Call, request: "_Request", writer: asyncio.StreamWriter) -> bool:
        fault = self.fault(call)
        if fault is Fault.DROP_BEFORE:
            return False
        status, body = 500, b"broken"
        if fault is not Fault.ERROR:
            status, body = await self._process(request)
        if fault is Fault.TWICE:
            status, body = await self._process(request)
        if fault is Fault.ERROR_AFTER:
            status, body = 500, b"broken"
        self._tell_change()
        if fault is Fault.DROP_AFTER:
            return False
        length = len(body)
        if request.method == "HEAD":
            body = b""
        answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, length, body)
        writer.write(answer[: len(answer) // 2] if fault is Fault.CUT else answer)
        await writer.drain()
        return fault is not Fault.CUT

    async def _process(self, request: "_Request") -> tuple[int, bytes]:
        try:
            if request.headers.get(b"authorization") != f"Bearer {self.token}".encode():
                raise Refused(401, "unknown token")
            return 200, await self._route(request)
        except Refused as exc:
            return exc.status, msgspec.msgpack.encode(Failure(error=str(exc)))

    async def _route(self, request: "_Request") -> bytes:
        path = request.url.decode().removeprefix("/worker/v1/")
        body = bytes(request.body)
        if path.startswith("blobs"):
            return self._blob(request.method, path, body)
        answer: Message
        match path:
            case "hello":
                answer = self._hello(msgspec.msgpack.decode(body, type=Hello))
            case "claim":
                answer = await self._claim(msgspec.msgpack.decode(body, type=Claim))
            case "heartbeat":
                answer = self._heartbeat(msgspec.msgpack.decode(body, type=Heartbeat))
            case "report":
                answer = self._report(msgspec.msgpack.decode(body, type=Report))
            case "revisions/pin":
                self.pinned.append(msgspec.msgpack.decode(body, type=PinRevision))
                answer = RevisionPinned(commit=self.pinned[-1].commit)
            case "caches/find":
                answer = self._find_cache(msgspec.msgpack.decode(body, type=FindCache))
            case _:
                raise Refused(404, "no such call")
        return self._as_another_would(msgspec.msgpack.encode(answer))

    def _as_another_would(self, data: bytes) -> bytes:
        """An answer with fields that a newer server adds, or without those that an older one does not know."""
        if not self.unknown and not self.withheld:
            return data
        answer = msgspec.msgpack.decode(data)
        withheld = self.withheld - {"now"} if "worker" in answer else self.withheld  # the first Welcome told the time
        fields = {name: value for name, value in answer.items() if name not in withheld}
        jobs = [{**job, **self.unknown} for job in fields.get("jobs", [])]
        return msgspec.msgpack.encode({**fields, **({"jobs": jobs} if jobs else {}), **self.unknown})

    def _blob(self, method: str, path: str, body: bytes) -> bytes:
        if self.refuse_blobs is not None:
            raise Refused(*self.refuse_blobs)
        if method == "PUT":
            return msgspec.msgpack.encode(BlobStored(sha256=self.store(body), size=len(body)))
        data = self.blobs.get(path.removeprefix("blobs/"))
        if data is None:
            raise Refused(404, "no such blob")
        return data


class _Request:
    """A request as httptools parses it."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.complete = False

    @property
    def method(self) -> str:
        return self.parser.get_method().decode()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
