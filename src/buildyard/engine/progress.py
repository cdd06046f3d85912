"""What workers report: starts, output, ends. Output goes to the log store, the rest into one transaction."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from buildyard.domain import transitions
from buildyard.domain.access import Actor, require_worker, serves
from buildyard.domain.builds import Attempt, Build, Job, Step
from buildyard.domain.errors import Conflict, NotFound, Unavailable
from buildyard.domain.ids import SECOND, AttemptId, BuildId, LogId, Moment, Sha256, StepId
from buildyard.domain.states import PASSED, Phase, Result, goes_with
from buildyard.domain.trust import is_trusted
from buildyard.engine import reports
from buildyard.engine.engine import Engine
from buildyard.engine.leasing import fencing_digest
from buildyard.engine.receipts import may_name
from buildyard.engine.settling import advance, settle
from buildyard.ports import Chunk, LogState
from buildyard.protocol import (
    Ack,
    Answer,
    Finished,
    Output,
    OutputFile,
    Progress,
    Report,
    Reported,
    SavedCache,
    Started,
    StepFinished,
    StepStarted,
)
from buildyard.store import attempts, builds, jobs, kept, pipelines
from buildyard.store.transactions import Transaction

MOST_KEPT_S = 30 * 24 * 3600
"""Longer than a worker could mean it."""

DONE = Ack(answer=Answer.DONE)
STALE = Ack(answer=Answer.STALE, detail="the attempt is no longer this worker's")
HELD_UP = Ack(answer=Answer.RETRY, detail="an earlier item failed")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a report may do to an attempt: `open` while it runs; a repeated report of an ended one changes nothing."""

    holds: bool
    open: bool
    logs: frozenset[int]


async def standings(
    tx: Transaction, actor: Actor, held: Sequence[tuple[AttemptId, str]]
) -> dict[tuple[AttemptId, str], Standing]:
    """How each attempt stands with the one who reports it with a token."""
    require_worker(actor)
    keys = sorted({key for key, _ in held})
    known, logs = await attempts.get_many(tx, keys), await attempts.logs_of_many(tx, keys)
    if actor.only_project is not None:
        facts = await attempts.grant_facts_of(tx, [one.job for one in known.values()])
        known = {key: one for key, one in known.items() if serves(actor, facts[one.job].project)}
    found: dict[tuple[AttemptId, str], Standing] = {}
    for key, token in held:
        attempt = known.get(key)
        if attempt is None:
            found[key, token] = Standing(False, False, frozenset())
            continue
        holds = attempt.token_hash == fencing_digest(token) and not attempt.state.lost
        its_logs = frozenset(log.id for log in logs.get(key, ()))
        found[key, token] = Standing(holds, attempt.state.phase is not Phase.FINISHED, its_logs)
    return found


async def report(engine: Engine, actor: Actor, message: Report) -> Reported:
    """Take a report: store its output, seal the logs of finished steps, then record the rest at once."""
    held = list(dict.fromkeys((AttemptId(item.attempt), item.token) for item in message.items))
    standing = await engine.read(standings, actor, held)
    acks: list[Ack] = [DONE] * len(message.items)
    sealed: dict[int, LogState] = {}
    by_attempt: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(message.items):
        by_attempt[item.attempt].append(i)
    await asyncio.gather(
        *(_store_output(engine, message, standing, indexes, acks, sealed) for indexes in by_attempt.values())
    )
    progress = [
        (i, item)
        for i, item in enumerate(message.items)
        if acks[i] is DONE and not isinstance(item, Output) and standing[AttemptId(item.attempt), item.token].open
    ]
    if progress:
        refused = await engine.run(record_progress, actor, [item for _, item in progress], sealed)
        for i, item in progress:
            if item.attempt in refused:
                acks[i] = refused[item.attempt]
    return Reported(acks=acks)


async def _store_output(
    engine: Engine,
    message: Report,
    standing: dict[tuple[AttemptId, str], Standing],
    indexes: list[int],
    acks: list[Ack],
    sealed: dict[int, LogState],
) -> None:
    """Do the log store's part of one attempt's items, in order; after a failure the rest must be sent again.

    Logs of steps that have ended are sealed together, when all their output is in.
    """
    ended: list[tuple[int, StepFinished]] = []
    broken = False
    for i in indexes:
        item = message.items[i]
        state = standing[AttemptId(item.attempt), item.token]
        if not state.holds:
            acks[i] = STALE
        elif broken:
            acks[i] = HELD_UP
        elif state.open and isinstance(item, Output | StepFinished):
            acks[i] = await _take_in(engine, item, state)
            broken = acks[i].answer is Answer.RETRY
            if isinstance(item, StepFinished) and acks[i] is DONE:
                ended.append((i, item))
    seals = await asyncio.gather(*(_seal_log(engine, LogId(item.log)) for _, item in ended))
    for (i, item), outcome in zip(ended, seals, strict=True):
        if isinstance(outcome, Ack):
            _hold_up(acks, [index for index in indexes if index > i])
            acks[i] = outcome
            return
        sealed[item.log] = outcome


def _hold_up(acks: list[Ack], indexes: list[int]) -> None:
    for i in indexes:
        if acks[i].answer is Answer.DONE:
            acks[i] = HELD_UP


async def _take_in(engine: Engine, item: Output | StepFinished, state: Standing) -> Ack:
    """Append output; of a step's end, see that all its output has come."""
    if item.log not in state.logs:
        return Ack(answer=Answer.REFUSED, detail=f"log {item.log} is not this attempt's")
    log = LogId(item.log)
    try:
        if isinstance(item, Output):
            chunks = [Chunk(one.stream, Moment(one.at), one.data) for one in item.chunks]
            return Ack(answer=Answer.DONE, size=(await engine.logs.append(log, item.offset, chunks)).size)
        size = (await engine.logs.state(log)).size if item.log_size else 0
        return DONE if size >= item.log_size else Ack(answer=Answer.RETRY, detail=f"{size} bytes have come", size=size)
    except Conflict as exc:
        size = (await engine.logs.state(log)).size if await _is_begun(engine, log) else 0
        return Ack(answer=Answer.RETRY, detail=str(exc), size=size)
    except (NotFound, Unavailable) as exc:
        return Ack(answer=Answer.RETRY, detail=str(exc))


async def _seal_log(engine: Engine, log: LogId) -> LogState | Ack:
    """Seal a log, or say why it must be tried again."""
    try:
        return await engine.logs.seal(log)
    except (NotFound, Conflict, Unavailable) as exc:
        return Ack(answer=Answer.RETRY, detail=str(exc))


async def _is_begun(engine: Engine, log: LogId) -> bool:
    try:
        await engine.logs.state(log)
    except NotFound:
        return False
    return True


async def record_progress(
    tx: Transaction, actor: Actor, items: Sequence[Progress], sealed: dict[int, LogState]
) -> dict[int, Ack]:
    """Record starts and ends of steps and attempts; gives those attempts whose items were not taken, and why.

    Rows are locked in the order builds, jobs, attempts, each by id.
    """
    require_worker(actor)
    grouped: dict[AttemptId, list[Progress]] = defaultdict(list)
    for item in items:
        grouped[AttemptId(item.attempt)].append(item)
    places = sorted(await attempts.places(tx, grouped), key=lambda place: (place.build, place.job, place.attempt))
    locked = await builds.get_many(tx, sorted({place.build for place in places}), lock=True)
    found = await jobs.get_many(tx, sorted({place.job for place in places}), lock=True)
    held = await attempts.get_many(tx, sorted(grouped), lock=True)
    steps = await attempts.steps_of_many(tx, sorted(grouped))
    refused: dict[int, Ack] = {}
    for place in places:
        recording = _Recording(tx, actor, locked[place.build], found[place.job])
        its_steps = {step.id: step for step in steps.get(place.attempt, ())}
        ack = await recording.record(held[place.attempt], its_steps, grouped[place.attempt])
        locked[place.build] = recording.build
        if ack is not None:
            refused[place.attempt] = ack
    taken = [(place, grouped[place.attempt]) for place in places if place.attempt not in refused]
    await _seal(tx, taken, locked, sealed)
    return refused


async def _seal(
    tx: Transaction,
    taken: Sequence[tuple[attempts.Place, list[Progress]]],
    locked: Mapping[BuildId, Build],
    sealed: Mapping[int, LogState],
) -> None:
    """Note the final sizes of the logs of finished steps."""
    await attempts.seal_logs(
        tx,
        [
            attempts.SealedLog(
                LogId(item.log), sealed[item.log].size, sealed[item.log].lines, locked[place.build].project, place.build
            )
            for place, items in taken
            for item in items
            if isinstance(item, StepFinished) and item.log in sealed
        ],
    )


def _change(steps: dict[StepId, Step], key: int, move: Callable[[Step], Step]) -> None:
    if step := steps.get(StepId(key)):
        steps[step.id] = move(step)


def _between(earliest: Moment, said: int, now: Moment) -> Moment:
    """When something was, as far as that can be: not before what came before it, not after now."""
    return Moment(max(earliest, min(said or now, now)))


def _end_step(item: StepFinished, step: Step, *, at: Moment) -> Step:
    state = transitions.finished(item.result, item.cause, item.detail)
    return transitions.finish_step(transitions.start_step(step, at=at), state, at=at, exit_status=item.exit_status)


def _contradiction(items: list[Progress]) -> str:
    """What cannot be true of ends as reported, or nothing."""
    for item in items:
        if isinstance(item, StepFinished | Finished):
            if not goes_with(item.cause, item.result):
                return f"cause {item.cause} does not go with result {item.result.word}"
            if item.result is Result.DEPENDENCY_FAILED:
                return "dependency_failed is not for workers to say"
    return ""


class _Recording:
    """The items of one attempt on their way into the database: read once, moved in memory, written once."""

    def __init__(self, tx: Transaction, actor: Actor, build: Build, job: Job) -> None:
        self.tx = tx
        self.actor = actor
        self.build = build
        self.job = job
        self.last_step = StepId(0)

    async def record(self, attempt: Attempt, steps: dict[StepId, Step], items: list[Progress]) -> Ack | None:
        """Take the items, or say why not; `build` is then as it was moved."""
        tx = self.tx
        if not serves(self.actor, self.build.project):
            return STALE
        if attempt.state.lost or any(attempt.token_hash != fencing_digest(one) for one in {i.token for i in items}):
            return STALE
        if attempt.state.phase is Phase.FINISHED:
            return None
        if contradiction := _contradiction(items):
            return Ack(answer=Answer.REFUSED, detail=contradiction)
        before_steps = dict(steps)
        self.last_step = max(steps, key=lambda key: steps[key].number, default=StepId(0))
        after, end = self._move(attempt, steps, items)
        if isinstance(end, Finished):
            refusal = await self._refusal(end)
            if refusal is not None:
                return refusal
        for key, step in steps.items():
            if step is not before_steps[key]:
                await attempts.save_step(tx, before_steps[key], step, project=self.build.project, build=self.build.id)
        if after is not attempt:
            await attempts.save(tx, attempt, after, project=self.build.project, build=self.build.id)
        await self._follow(after, end)
        return None

    async def _follow(self, attempt: Attempt, end: Finished | None) -> None:
        """Let the job, and what hangs on it, follow its attempt."""
        if end is not None:
            self.build = await self._finish(self.job, attempt, end)
        elif attempt.state.phase is Phase.RUNNING and self.job.state.phase is not Phase.RUNNING:
            started = transitions.start_job(self.job, at=attempt.started_at or self.tx.now)
            self.build = await settle(self.tx, self.build, self.job, started)

    def _move(
        self, attempt: Attempt, steps: dict[StepId, Step], items: list[Progress]
    ) -> tuple[Attempt, Finished | None]:
        """Move the attempt and its steps as the items say, in memory; what follows its end is a repetition."""
        at, end = attempt.started_at or attempt.leased_at, None
        for item in items:
            if end is not None:
                break
            at = _between(at, item.at, self.tx.now)
            match item:
                case Started():
                    attempt = transitions.receive_attempt(attempt, at=at)
                    first = min(steps.values(), key=lambda step: step.number)
                    steps[first.id] = transitions.start_step(first, at=at)
                case StepStarted(step=key):
                    attempt = transitions.start_attempt(attempt, at=at)
                    _change(steps, key, partial(transitions.start_step, at=at))
                case StepFinished(step=key):
                    _change(steps, key, partial(_end_step, item, at=at))
                case Finished():
                    end = item
                    state = transitions.finished(item.result, item.cause, item.detail)
                    attempt = transitions.finish_attempt(attempt, state, at=at)
                    if item.kept_s > 0:
                        attempt = replace(attempt, kept_until=Moment(at + min(item.kept_s, MOST_KEPT_S) * SECOND))
        if end is not None:
            for step in [step for step in steps.values() if step.state.phase is Phase.RUNNING]:
                steps[step.id] = transitions.finish_step(step, attempt.state, at=at)
        return attempt, end

    async def _refusal(self, end: Finished) -> Ack | None:
        named: list[OutputFile | SavedCache] = [*end.outputs, *end.caches]
        for one in named:
            stored = await kept.knows_blob(self.tx, Sha256(one.sha256))
            if not stored or not await may_name(self.tx, self.actor, one):
                return Ack(answer=Answer.REFUSED, detail=f"the bytes of {one.path} were not stored before")
        return None

    async def _finish(self, job: Job, attempt: Attempt, end: Finished) -> Build:
        tx = self.tx
        if end.result in PASSED:
            await self._keep(job, attempt, end)
        await reports.record(tx, self.build, job, self.last_step, end)
        attempts.add_usage(tx, self.build.pipeline, tx.now - attempt.leased_at)
        spec = await pipelines.job_spec(tx, job.spec) if end.result not in PASSED else None
        state = attempt.state
        started = job
        if job.state.phase is Phase.LEASED and attempt.started_at is not None:
            started = replace(job, started_at=job.started_at or attempt.started_at)
        after = (
            transitions.finish_job(started, state, at=tx.now)
            if spec is None
            else transitions.after_attempt(started, state, spec.retry, at=tx.now)
        )
        if self.build.started_at is None and started.started_at is not None:
            running = transitions.start_job(job, at=started.started_at) if job.state.phase is Phase.LEASED else job
            self.build = await advance(tx, self.build, running)
        return await settle(tx, self.build, job, after)

    async def _keep(self, job: Job, attempt: Attempt, end: Finished) -> None:
        for output in end.outputs:
            await kept.add_artifact(
                self.tx,
                build=self.build.id,
                job=job.id,
                attempt=attempt.id,
                path=output.path,
                sha256=Sha256(output.sha256),
                size=output.size,
                mode=output.mode,
                link=output.link,
            )
        for cache in end.caches:
            await kept.save_cache(
                self.tx,
                self.build.project,
                scope=job.name,
                path=cache.path,
                key=cache.key,
                trusted=is_trusted(self.build),
                sha256=Sha256(cache.sha256),
                size=cache.size,
            )


async def record_sealed(tx: Transaction, _actor: Actor, attempt: AttemptId, states: dict[LogId, LogState]) -> None:
    """Note the final size of an ended attempt's logs."""
    found = await attempts.get(tx, attempt)
    job = await jobs.get(tx, found.job)
    build = await builds.get(tx, job.build)
    sealed = [
        attempts.SealedLog(log, state.size, state.lines, build.project, build.id) for log, state in states.items()
    ]
    await attempts.seal_logs(tx, sealed)
