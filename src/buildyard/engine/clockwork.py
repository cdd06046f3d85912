"""Wakes what waits for a time: starts, and ends of approvals. Asks for the next time only, and sleeps until then."""

import structlog

from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import EngineError
from buildyard.engine import approvals
from buildyard.engine.engine import Engine

log = structlog.get_logger()

ROUND = 200
LONGEST_SLEEP = 60.0
"""A lost wake-up, or a clock that was set, costs at most this long."""

AFTER_FAILURE = 1.0


async def pass_what_is_due(engine: Engine) -> int:
    """Let go on, or end, all whose time has come; safe on several servers at once. Says how many."""
    passed = 0
    while found := await engine.read(approvals.find_due, SYSTEM, ROUND):
        for key in found:
            passed += await engine.run(approvals.pass_due, SYSTEM, key)
    return passed


async def keep_appointments(engine: Engine) -> None:
    """Do so whenever the next time comes, until cancelled."""
    async with engine.bus.subscribe("due") as news:
        while True:
            try:
                await pass_what_is_due(engine)
                left = await engine.read(approvals.seconds_to_next, SYSTEM)
                wait = LONGEST_SLEEP if left is None else min(left, LONGEST_SLEEP)
            except EngineError as exc:
                log.warning("loop_failed", loop="appointments", error=str(exc))
                wait = AFTER_FAILURE
            except Exception:
                log.exception("loop_failed", loop="appointments")
                wait = AFTER_FAILURE
            await news.wait(wait)
