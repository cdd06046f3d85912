"""Triggers that fire by themselves: cron lines that are due, builds that others follow. Safe on several servers.

What is due lies in the database, and is taken off in the transaction that makes the builds: so each moment and each
end of a build is fired for exactly once, whenever a server dies and however many there are.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import EngineError
from buildyard.domain.ids import SECOND, BuildId, Moment, TriggerId
from buildyard.domain.triggers import Cron, TriggerKind, Upstream
from buildyard.engine.cron import first_due, passed_moments
from buildyard.engine.engine import Engine
from buildyard.engine.firing import Firing, fire
from buildyard.engine.surviving import survived
from buildyard.store import builds, pipelines, projects, triggers
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

ROUND = 100
LONGEST_SLEEP_S = 60.0
LATER_S = 30
"""When a firing that found no room is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be fired now, and in how many seconds there will be more, if that is known."""

    crons: list[tuple[TriggerId, Moment]]
    ends: list[tuple[BuildId, TriggerId]]
    sleep_s: float


async def keep_triggers(engine: Engine) -> None:
    """Fire what is due, for ever; sleep until the next moment, or until somebody says that there is news."""
    async with engine.bus.subscribe("triggers") as news:
        while True:
            sleep_s = LONGEST_SLEEP_S
            with survived("loop_failed", loop="triggers"):
                sleep_s = await fire_due(engine)
            await news.wait(timeout=sleep_s)


async def fire_due(engine: Engine) -> float:
    """Fire all that is due; gives how many seconds to sleep then."""
    while True:
        due = await engine.read(find_due, SYSTEM)
        for trigger, moment in due.crons:
            await _carry_out(engine, fire_cron, trigger, seen=moment)
        for build, trigger in due.ends:
            await _carry_out(engine, follow_build, trigger, build=build)
        if len(due.crons) < ROUND and len(due.ends) < ROUND:
            return due.sleep_s if not (due.crons or due.ends) else 0.0


async def find_due(tx: Transaction, _actor: Actor) -> Due:
    """What is due now."""
    crons = await triggers.due(tx, TriggerKind.CRON, ROUND)
    ends = await triggers.due_ends(tx, ROUND)
    following = await triggers.next_due(tx, TriggerKind.CRON)
    sleep_s = LONGEST_SLEEP_S if following is None else min(LONGEST_SLEEP_S, (following - tx.now) / SECOND)
    return Due(crons=crons, ends=ends, sleep_s=max(0.0, sleep_s))


async def _carry_out(
    engine: Engine, act: Callable[..., Coroutine[Any, Any, int]], trigger: TriggerId, **what: int
) -> None:
    """Fire; what cannot be fired now is noted at the trigger and tried again later."""
    try:
        made = await engine.run(act, SYSTEM, trigger, queue_limit=engine.policy.queue_limit, **what)
    except EngineError as exc:
        log.warning("trigger_failed", trigger=trigger, error=str(exc))
        await engine.run(
            note_problem, SYSTEM, trigger, str(exc), build=BuildId(what["build"]) if "build" in what else None
        )
    else:
        if made:
            log.info("trigger_fired", trigger=trigger, builds=made)


async def fire_cron(tx: Transaction, _actor: Actor, key: TriggerId, *, seen: Moment, queue_limit: int) -> int:
    """Fire for the moments since the one `seen` to be due, unless another server did; gives the number of builds."""
    trigger = await triggers.get(tx, key, lock=True)
    state = await triggers.state_of(tx, key)
    spec = trigger.spec
    if not isinstance(spec, Cron) or not trigger.enabled or state.next_at != seen or seen > tx.now:
        return 0
    made = 0
    for moment in passed_moments(spec, seen, tx.now):
        if await builds.has_evaluation(tx, key, moment):
            continue
        firing = Firing(reason=f"{trigger.name} by the clock", parameters=spec.parameters, due_at=moment)
        made += len((await fire(tx, trigger, firing, queue_limit=queue_limit)).builds)
    following = first_due(spec, tx.now)
    await triggers.save_state(
        tx, replace(state, next_at=following, checked_at=tx.now, error="", error_at=None, leased_until=None)
    )
    return made


async def follow_build(tx: Transaction, _actor: Actor, key: TriggerId, *, build: BuildId, queue_limit: int) -> int:
    """Start what follows an ended build, unless another server did; gives the number of builds."""
    trigger = await triggers.get(tx, key, lock=True)
    if not await triggers.take_end(tx, build, key):
        return 0
    parent, spec = await builds.get(tx, build), trigger.spec
    if not isinstance(spec, Upstream) or not trigger.enabled or parent.state.result not in spec.results:
        return 0
    if not (parent.trusted or spec.untrusted):
        return 0
    pipeline = await pipelines.get(tx, parent.pipeline)
    project = await projects.get(tx, parent.project)
    firing = Firing(
        reason=f"{trigger.name} after build {parent.number} of {project.slug}/{pipeline.slug}",
        parameters={spec.parameter: parent.uid} if spec.parameter else {},
        trusted=parent.trusted,
        parent=build,
    )
    fired = await fire(tx, trigger, firing, queue_limit=queue_limit)
    state = await triggers.state_of(tx, key)
    await triggers.save_state(tx, replace(state, checked_at=tx.now, error="", error_at=None))
    return len(fired.builds)


async def note_problem(tx: Transaction, _actor: Actor, key: TriggerId, why: str, *, build: BuildId | None) -> None:
    """Say at a trigger why it could not fire, and let it be tried again later."""
    await triggers.get(tx, key, lock=True)
    state = await triggers.state_of(tx, key)
    later = Moment(tx.now + LATER_S * SECOND)
    if build is not None:
        await triggers.delay_end(tx, build, key, later)
    noted = replace(state, error=why, error_at=state.error_at or tx.now)
    await triggers.save_state(tx, noted if build is not None else replace(noted, leased_until=later))
