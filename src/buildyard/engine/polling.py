"""Polls: looking at repositories every so often, and firing once for each move of a branch or tag.

A look is taken by one server, under a lease; what it saw and the builds it started are written together, so that
a move counts once, however many servers look and wherever one of them dies.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import EngineError, NotFound
from buildyard.domain.ids import SECOND, Moment, TriggerId
from buildyard.domain.polling import MOST_MOVES, Move, moves, next_look, pause_after_failure, seen_after
from buildyard.domain.push_filters import refusal_of_push
from buildyard.domain.pushes import Commits, PushEvent, repository_key
from buildyard.domain.triggers import Poll
from buildyard.engine.engine import Engine
from buildyard.engine.receiving import Match, fire_for, note_changes
from buildyard.engine.surviving import survived
from buildyard.store import triggers
from buildyard.store.transactions import Transaction
from buildyard.store.triggers import Trigger, TriggerState, Watched

log = structlog.get_logger()

LEASE_S = 300
AT_ONCE = 8
LONGEST_ERROR = 1000

Seen = dict[str, dict[str, str]]
"""Commits by the names of branches and tags, by the keys of repositories: what `trigger_states.revision` holds."""

_decode = msgspec.json.Decoder(Seen).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Eyes:
    """How repositories are looked at: `heads(url)`, and `news(url, ref, before, after)` for what is new in one."""

    heads: Callable[[str], Awaitable[Mapping[str, str]]]
    news: Callable[[str, str, str, str], Awaitable[Commits]]


@dataclass(frozen=True, slots=True)
class Turn:
    """A server's turn to look for a trigger, until `lease`; the addresses by repository, and what was seen last."""

    trigger: TriggerId
    spec: Poll
    lease: Moment
    urls: Mapping[str, str]
    seen: Seen


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at one repository found; `news` are the new commits of what moved, as far as they were found out."""

    found: Mapping[str, str]
    news: Mapping[str, Commits] = field(default_factory=dict)


async def keep_looking(engine: Engine, eyes: Eyes) -> None:
    """Look for all triggers that are due, until cancelled; a few at a time, so that a slow one delays no other long."""
    room = asyncio.Semaphore(AT_ONCE)
    running: set[TriggerId] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            due = []
            with survived("loop_failed", loop="polls"):
                due = await engine.read(due_polls, SYSTEM, 4 * AT_ONCE)
            for trigger in due:
                if trigger not in running:
                    running.add(trigger)
                    group.create_task(_turn(engine, eyes, trigger, room, running))
            await asyncio.sleep(1.0)


async def _turn(
    engine: Engine, eyes: Eyes, trigger: TriggerId, room: asyncio.Semaphore, running: set[TriggerId]
) -> None:
    async with room:
        try:
            with survived("poll_failed", trigger=trigger):
                await look_for(engine, eyes, trigger)
        finally:
            running.discard(trigger)


async def look_for(engine: Engine, eyes: Eyes, trigger: TriggerId) -> int:
    """Take a trigger's turn if it is due, look, and start what is to be started; how many builds."""
    turn = await engine.run(take_turn, SYSTEM, trigger)
    if turn is None:
        return 0
    looks: dict[str, Look] = {}
    errors: list[str] = []
    for key, url in turn.urls.items():
        try:
            looks[key] = await _look(eyes, turn, key, url)
        except EngineError as exc:
            errors.append(str(exc))
    try:
        error = "; ".join(errors)
        return await engine.run(record_looks, SYSTEM, turn, looks, error=error, queue_limit=engine.policy.queue_limit)
    except EngineError as exc:
        await engine.run(record_looks, SYSTEM, turn, {}, error=str(exc), queue_limit=0)
        return 0


async def _look(eyes: Eyes, turn: Turn, key: str, url: str) -> Look:
    found = await eyes.heads(url)
    moved = moves(turn.spec, turn.seen.get(key), found)[:MOST_MOVES]
    news: dict[str, Commits] = {}
    for move in moved:
        try:
            news[move.name] = await eyes.news(url, move.name, move.before, move.after)
        except EngineError as exc:
            log.info("poll_without_news", trigger=turn.trigger, ref=move.name, error=str(exc))
    return Look(found, news)


# --- use-cases of the clockwork ------------------------------------------------------------------


async def due_polls(tx: Transaction, _actor: Actor, limit: int) -> list[TriggerId]:
    """The polls that are due and that no server looks for just now."""
    return await triggers.due_polls(tx, tx.now, limit)


async def take_turn(tx: Transaction, _actor: Actor, key: TriggerId) -> Turn | None:
    """Take a poll's turn, unless it is not due any more or another server has it."""
    try:
        trigger = await triggers.get(tx, key, lock=True)
    except NotFound:
        return None
    state = await triggers.state_of(tx, key)
    spec = trigger.spec
    if not (isinstance(spec, Poll) and trigger.enabled and _is_due(state, tx.now)):
        return None
    lease = Moment(tx.now + LEASE_S * SECOND)
    await triggers.save_state(tx, replace(state, leased_until=lease))
    watched = await triggers.watched_by(tx, key)
    urls = {repository_key(one.source.url): one.source.url for one in watched}
    return Turn(key, spec, lease, urls, _seen(state))


def _is_due(state: TriggerState, now: Moment) -> bool:
    free = state.leased_until is None or state.leased_until <= now
    return free and (state.next_at is None or state.next_at <= now)


def _seen(state: TriggerState) -> Seen:
    return _decode(state.revision) if state.revision else {}


async def record_looks(
    tx: Transaction, _actor: Actor, turn: Turn, looks: Mapping[str, Look], *, error: str, queue_limit: int
) -> int:
    """Write what was seen and fire for what moved, if the turn is still ours; how many builds were started."""
    trigger = await triggers.get(tx, turn.trigger, lock=True)
    state = await triggers.state_of(tx, turn.trigger)
    spec = trigger.spec
    if state.leased_until != turn.lease or not isinstance(spec, Poll):
        return 0
    watched = await triggers.watched_by(tx, turn.trigger)
    seen, started, more = _seen(state), 0, False
    for key in list(seen):
        if key not in turn.urls:
            del seen[key]
    for key, look in looks.items():
        moved = moves(spec, seen.get(key), look.found)
        for move in moved[:MOST_MOVES]:
            started += await _act(tx, trigger, spec, _of(watched, key), move, look, queue_limit)
        seen[key] = seen_after(spec, look.found, moved[MOST_MOVES:])
        more = more or len(moved) > MOST_MOVES
    await triggers.save_state(
        tx, _state_after(tx.now, spec, replace(state, revision=_encode(seen).decode()), error, more=more)
    )
    return started


def _of(watched: Sequence[Watched], key: str) -> list[Watched]:
    return [one for one in watched if repository_key(one.source.url) == key]


async def _act(
    tx: Transaction, trigger: Trigger, spec: Poll, watched: Sequence[Watched], move: Move, look: Look, queue_limit: int
) -> int:
    if not watched:
        return 0
    news = look.news.get(move.name, Commits())
    push = PushEvent(
        repository=(watched[0].source.url,),
        branch=move.branch,
        tag=move.tag,
        before=move.before,
        after=move.after,
        commits=news.commits,
        whole=news.whole,
    )
    noted = await note_changes(tx, trigger.project, push, "poll")
    if refusal_of_push(spec.filters, spec.skip_words, push):
        return 0
    match = Match(trigger, frozenset(one.pipeline for one in watched))
    return len((await fire_for(tx, match, push, noted, queue_limit=queue_limit)).builds)


def _state_after(now: Moment, spec: Poll, state: TriggerState, error: str, *, more: bool) -> TriggerState:
    if error:
        since = state.error_at or now
        return replace(
            state,
            next_at=Moment(now + pause_after_failure(spec, now - since)),
            error=error[:LONGEST_ERROR],
            error_at=since,
            leased_until=None,
        )
    return replace(
        state,
        checked_at=now,
        next_at=next_look(spec, now, more=more),
        error="",
        error_at=None,
        leased_until=None,
    )
