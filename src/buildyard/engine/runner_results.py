"""How steps run by a script end: the report, its repetition, and reports without any claim."""

from dataclasses import dataclass, replace

from buildyard.domain import transitions
from buildyard.domain.access import SYSTEM, Actor, Permission
from buildyard.domain.builds import State
from buildyard.domain.errors import Conflict, Invalid, NotFound
from buildyard.domain.ids import LogId, Sha256
from buildyard.domain.states import PASSED, Cause, Phase, Result, Stream
from buildyard.engine import progress, runners
from buildyard.engine.build_access import require_build
from buildyard.engine.engine import Engine, system_clock
from buildyard.engine.runners import Hold
from buildyard.ports import Chunk, LogState
from buildyard.protocol import Finished, OutputFile, Progress, SavedCache
from buildyard.store import attempts, audit, builds, jobs
from buildyard.store.transactions import Transaction

_BEFORE_COMMANDS = frozenset({Cause.SOURCE, Cause.INPUTS})


@dataclass(frozen=True, slots=True)
class NamedOutput:
    """A file that a step made, whose bytes were stored before."""

    path: str
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class NamedCache:
    """A cache folder of a step, packed, whose bytes were stored before."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A report of a step's end. Without a token it is about a step that nobody has claimed.

    `log` is kept if nothing was streamed; `named_outputs` are noted in the audit log only, `outputs` are those whose
    bytes were stored before.
    """

    end: State
    token: str = ""
    log: bytes = b""
    exit_status: int | None = None
    named_outputs: tuple[str, ...] = ()
    outputs: tuple[NamedOutput, ...] = ()
    caches: tuple[NamedCache, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the step did what it should."""
        return self.end.result in PASSED


@dataclass(frozen=True, slots=True)
class Completed:
    """The step's state, and whether its build was complete at the time that the step was."""

    state: State
    build_complete: bool


async def complete_step(engine: Engine, actor: Actor, uid: str, report: Completion) -> Completed:
    """Take a report. The same one again changes nothing and is answered alike; one that contradicts is refused."""
    token = report.token or await _token_of_unclaimed(engine, actor, uid, report)
    if not token:
        return await engine.read(_outcome, actor, uid)
    hold = await engine.read(runners.hold_of_step, actor, uid, token)
    if not hold.is_open:
        _compare(hold.attempt.state, report)
        return await engine.read(_outcome, actor, uid)
    if hold.job.cancel_requested and not report.passed:
        cancelled = transitions.finished(Result.CANCELLED, detail="cancelled while it ran")
        report = replace(report, end=cancelled)
    stored = await _find_kept(engine, report)
    current = _current_command(hold, report)
    await _keep_log(engine, hold, report, hold.log_of[hold.steps[current].id])
    items = _items(hold, report, current, stored)
    await engine.run(record_end, actor, hold, items, await runners.seal_logs(engine, items), report.named_outputs)
    return await engine.read(_outcome, actor, uid)


async def _token_of_unclaimed(engine: Engine, actor: Actor, uid: str, report: Completion) -> str:
    """Claim a queued step for a report that names no token; empty if the step has ended in the way reported."""
    end = await engine.read(_end_of_step, actor, uid)
    if end is None:
        return await engine.run(runners.lease_step, actor, uid, lease=engine.policy.lease_seconds)
    _compare(end, report)
    return ""


async def _end_of_step(tx: Transaction, actor: Actor, uid: str) -> State | None:
    """How a finished step's last attempt ended. Raises Conflict if it ended without any."""
    job = await jobs.get_by_uid(tx, uid)
    build = await builds.get(tx, job.build)
    await require_build(tx, actor, Permission.REPORT, build, "step")
    if job.state.result is None:
        return None
    made = await attempts.of_job(tx, job.id)
    if not made or made[-1].state.lost:
        raise Conflict(f"the step has finished without a report: {job.state.result.word}")
    return made[-1].state


def _compare(end: State, report: Completion) -> None:
    if end.result is None or (end.result in PASSED) is not report.passed:
        word = end.result.word if end.result is not None else "lost"
        raise Conflict(f"the step has finished already: {word}")


async def _outcome(tx: Transaction, actor: Actor, uid: str) -> Completed:
    job = await jobs.get_by_uid(tx, uid)
    build = await builds.get(tx, job.build)
    await require_build(tx, actor, Permission.REPORT, build, "step")
    ended = build.finished_at is not None and job.finished_at is not None and build.finished_at <= job.finished_at
    return Completed(job.state, ended)


@dataclass(frozen=True, slots=True)
class _Kept:
    outputs: list[OutputFile]
    caches: list[SavedCache]


async def _find_kept(engine: Engine, report: Completion) -> _Kept:
    """What the report names, with the sizes as stored. Raises Invalid for what was never stored."""
    try:
        return _Kept(
            [await _output(engine, one) for one in report.outputs],
            [await _cache(engine, one) for one in report.caches],
        )
    except NotFound:
        raise Invalid("the report names bytes that were not stored before") from None


async def _output(engine: Engine, one: NamedOutput) -> OutputFile:
    size = await engine.blobs.size(Sha256(one.sha256))
    return OutputFile(path=one.path, sha256=one.sha256, size=size, mode=one.mode)


async def _cache(engine: Engine, one: NamedCache) -> SavedCache:
    size = await engine.blobs.size(Sha256(one.sha256))
    return SavedCache(path=one.path, key="", sha256=one.sha256, size=size)


def _current_command(hold: Hold, report: Completion) -> int:
    """The number of the command that the report is about: the last that began, else the first."""
    current = max((step.number for step in hold.steps if step.state.phase >= Phase.RUNNING), default=0)
    return 1 if current == 0 and report.end.cause not in _BEFORE_COMMANDS else current


def _items(hold: Hold, report: Completion, current: int, stored: _Kept) -> list[Progress]:
    """What the report comes to in the worker protocol's words."""
    assert report.end.result is not None
    items = runners.begin_command(hold, current)
    items.append(runners.end_command(hold, hold.steps[current], report.end, exit_status=report.exit_status))
    if report.passed:
        items += [runners.end_command(hold, step, report.end) for step in hold.steps[current + 1 :]]
    ended = Finished(
        attempt=hold.attempt.id,
        token=hold.token,
        result=report.end.result,
        cause=report.end.cause,
        detail=report.end.detail,
        outputs=stored.outputs,
        caches=stored.caches,
    )
    return [*items, ended]


async def _keep_log(engine: Engine, hold: Hold, report: Completion, log: LogId) -> None:
    """Store the text of the report as a command's log, unless output was streamed."""
    streamed = [await runners.log_size(engine, hold.log_of[step.id]) for step in hold.steps if step.number]
    if report.log and not any(streamed):
        data = report.log[: hold.spec.limits.log_bytes]
        await engine.logs.append(log, await runners.log_size(engine, log), [Chunk(Stream.OUTPUT, system_clock(), data)])


async def record_end(
    tx: Transaction,
    actor: Actor,
    hold: Hold,
    items: list[Progress],
    sealed: dict[int, LogState],
    named_outputs: tuple[str, ...],
) -> None:
    """Write a step's end and who reported it, or raise Stale."""
    refused = await progress.record_progress(tx, SYSTEM, items, sealed)
    runners.check_taken(refused.get(hold.attempt.id))
    ended = items[-1]
    assert isinstance(ended, Finished)
    details: dict[str, object] = {"build": hold.build.uid, "attempt": hold.attempt.number, "result": ended.result.word}
    if named_outputs:
        details["outputPaths"] = list(named_outputs)
    await audit.add(tx, actor, "step.complete", hold.job.uid, project=hold.build.project, details=details)
