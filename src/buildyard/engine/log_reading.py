"""A job's log for readers: its attempts' steps one after the other, as one run of bytes that only ever grows.

Setup and steps follow each other; a line `--- attempt 2 ---` stands before what the second attempt wrote. So a
position in the whole keeps its meaning, for ranges and for readers who come back.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission
from buildyard.domain.builds import Attempt, Log, State, Step
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, LogId, Moment, iso
from buildyard.domain.states import Phase, Stream
from buildyard.engine.build_access import require_build
from buildyard.engine.engine import Engine
from buildyard.ports import Chunk, Line
from buildyard.store import attempts, builds, jobs
from buildyard.store.transactions import Transaction

QUIET_SECONDS = 5.0
"""How long nothing may come before a follower looks again whether anything more can."""
_LINES = 1000
REMOVED = "--- this log was deleted by retention on {} ---\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The log of one step of one attempt. `begun`: the step has run; `over`: it will write no more."""

    attempt: int
    step: int
    name: str
    log: LogId
    begun: bool
    over: bool
    removed_at: Moment | None

    @property
    def removed(self) -> bool:
        """Whether retention deleted it."""
        return self.removed_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLog:
    """What a job's log is made of now; `over`: nothing will follow. `uid` and `name` are the job's."""

    uid: str
    name: str
    build: BuildId
    state: State
    parts: tuple[Part, ...]

    @property
    def over(self) -> bool:
        """Whether the job has finished."""
        return self.state.phase is Phase.FINISHED


@dataclass(frozen=True, slots=True)
class Section:
    """A part's place in the whole: a headline, then `size` bytes of the log."""

    part: Part
    start: int
    head: bytes
    size: int

    @property
    def stop(self) -> int:
        """The position after its last byte."""
        return self.start + len(self.head) + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """New bytes of a followed log, the first of which has position `start` in the whole."""

    part: Part
    stream: Stream
    at: Moment
    start: int
    data: bytes

    @property
    def stop(self) -> int:
        """The position after its last byte."""
        return self.start + len(self.data)


async def get_job_log(tx: Transaction, actor: Actor, uid: str) -> JobLog:
    """What the log of the job with this uid is made of."""
    job = await jobs.get_by_uid(tx, uid)
    build = await builds.get(tx, job.build)
    await require_build(tx, actor, Permission.READ, build, "step")
    parts: list[Part] = []
    for attempt in await attempts.of_job(tx, job.id) if job.attempts else ():
        logs = {log.step: log for log in await attempts.logs_of(tx, attempt.id)}
        parts += [_part(attempt, step, logs[step.id]) for step in await attempts.steps_of(tx, attempt.id)]
    return JobLog(uid=job.uid, name=job.name, build=build.id, state=job.state, parts=tuple(parts))


def _part(attempt: Attempt, step: Step, log: Log) -> Part:
    return Part(
        attempt=attempt.number,
        step=step.number,
        name=step.name,
        log=log.id,
        begun=step.started_at is not None,
        over=Phase.FINISHED in (step.state.phase, attempt.state.phase) or log.sealed_at is not None,
        removed_at=log.removed_at,
    )


async def measure(engine: Engine, found: JobLog) -> list[Section]:
    """Where each part that has begun lies in the whole, as far as it is written now."""
    layout = _Layout(engine)
    return [await layout.place(part) for part in found.parts if part.begun]


class _Layout:
    """Puts parts one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._position = 0
        self._attempt = 1
        self._ends_line = True

    def head(self, part: Part) -> bytes:
        """The headline of a part, and that it was removed, if so."""
        head = b"" if part.removed_at is None else REMOVED.format(iso(part.removed_at)).encode()
        if part.attempt > self._attempt:
            head = b"--- attempt %d ---\n%s" % (part.attempt, head)
        return head if self._ends_line or not head else b"\n" + head

    async def place(self, part: Part) -> Section:
        """Put the next part, as far as it is written; later calls come after it."""
        head = self.head(part)
        size = 0 if part.removed else await size_of(self._engine, part.log)
        section = Section(part, self._position, head, size)
        if size:
            last = b"".join([piece async for piece in self._engine.logs.read(part.log, size - 1, size)])
            self._ends_line = last == b"\n"
        elif head:
            self._ends_line = True
        self._position, self._attempt = section.stop, part.attempt
        return section

    @property
    def position(self) -> int:
        """Where the next part will begin."""
        return self._position


async def size_of(engine: Engine, log: LogId) -> int:
    """How many bytes of a log are written, 0 for one not begun."""
    try:
        return (await engine.logs.state(log)).size
    except NotFound:
        return 0


async def read_sections(engine: Engine, sections: list[Section], start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes `start` ≤ i < `stop` of the whole."""
    for section in sections:
        if section.stop <= start or section.start >= stop:
            continue
        first, last = max(start - section.start, 0), min(stop, section.stop) - section.start
        if head := section.head[first:last]:
            yield head
        skip = len(section.head)
        if last > max(first, skip):
            async for piece in engine.logs.read(section.part.log, max(first - skip, 0), last - skip):
                yield piece


async def read_lines(engine: Engine, found: JobLog) -> AsyncIterator[tuple[Part, Line]]:
    """All lines written so far, each with its part."""
    for part in found.parts:
        if not part.begun or part.removed:
            continue
        first = 0
        while lines := await _lines(engine, part, first, _LINES):
            for line in lines:
                yield part, line
            first += len(lines)


async def last_lines(engine: Engine, found: JobLog, count: int) -> list[tuple[Part, Line]]:
    """The last `count` lines written so far, each with its part."""
    kept: list[tuple[Part, Line]] = []
    for part in reversed(found.parts):
        left = count - len(kept)
        if left > 0 and part.begun and not part.removed:
            kept = [(part, line) for line in await _lines(engine, part, -left, left)] + kept
    return kept


async def _lines(engine: Engine, part: Part, first: int, count: int) -> list[Line]:
    try:
        return await engine.logs.lines(part.log, first, count)
    except NotFound:
        return []


async def follow_job(engine: Engine, actor: Actor, uid: str, start: int = 0) -> AsyncGenerator[Piece | None, None]:
    """The whole log from position `start` on, as it grows, until the job has finished.

    None comes when nothing else did for a while. A reader who loses access is told so by NotFound.
    """
    found = await engine.read(get_job_log, actor, uid)
    layout = _Layout(engine)
    done: set[LogId] = set()
    async with engine.bus.subscribe(f"build:{found.build}") as news:
        while True:
            found = await engine.read(get_job_log, actor, uid)
            for part in found.parts:
                if part.log in done:
                    continue
                if not part.begun and not part.over:
                    break
                if part.begun:
                    async for piece in _follow_part(engine, actor, uid, part, layout, start):
                        yield piece
                done.add(part.log)
            else:
                if found.over:
                    return
            if not await news.wait(QUIET_SECONDS):
                yield None


async def _follow_part(
    engine: Engine, actor: Actor, uid: str, part: Part, layout: _Layout, start: int
) -> AsyncGenerator[Piece | None, None]:
    """One part from its headline to its end; afterwards the layout has it placed."""
    begin, head = layout.position, layout.head(part)
    if head and begin + len(head) > start:
        cut = max(0, start - begin)
        yield Piece(part=part, stream=Stream.HEADER, at=Moment(0), start=begin + cut, data=head[cut:])
    position = begin + len(head)
    skip = max(0, start - position)
    if part.over:
        skip = min(skip, 0 if part.removed else await size_of(engine, part.log))
    position += skip
    if not part.removed:
        async for chunk in _chunks(engine, actor, uid, part, skip):
            if chunk is None:
                yield None
                continue
            yield Piece(part=part, stream=chunk.stream, at=chunk.at, start=position, data=chunk.data)
            position += len(chunk.data)
    await layout.place(part)


async def _chunks(engine: Engine, actor: Actor, uid: str, part: Part, start: int) -> AsyncGenerator[Chunk | None, None]:
    """A log's chunks until it is sealed, or until its step is over and all is read; None in long silences."""
    position = start
    async with aclosing(engine.logs.follow(part.log, start, quiet_s=QUIET_SECONDS)) as feed:
        async for chunk in feed:
            position += len(chunk.data)
            if chunk.data:
                yield chunk
            elif await _is_over(engine, actor, uid, part) and position >= await size_of(engine, part.log):
                return
            else:
                yield None


async def _is_over(engine: Engine, actor: Actor, uid: str, part: Part) -> bool:
    found = await engine.read(get_job_log, actor, uid)
    return any(one.log == part.log and one.over for one in found.parts)
