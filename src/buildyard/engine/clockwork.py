"""Wakes what waits for a time: starts, and ends of approvals. Asks for the next time only, and sleeps until then."""

from buildyard.domain.access import SYSTEM
from buildyard.engine import approvals
from buildyard.engine.engine import Engine
from buildyard.engine.surviving import survived

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
            wait = AFTER_FAILURE
            with survived("loop_failed", loop="appointments"):
                await pass_what_is_due(engine)
                left = await engine.read(approvals.seconds_to_next, SYSTEM)
                wait = LONGEST_SLEEP if left is None else min(left, LONGEST_SLEEP)
            await news.wait(wait)
