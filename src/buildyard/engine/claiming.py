"""The claim as a long poll: waits for work without holding anything."""

import time

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import AttemptId
from buildyard.engine import leasing
from buildyard.engine.engine import Engine
from buildyard.engine.loops import seal_logs_of
from buildyard.engine.usage import compute_usage
from buildyard.protocol import HEARTBEAT_SECONDS, Beat, Claim, Claimed, Heartbeat, Hello, JobGrant, Welcome
from buildyard.version import VERSION

LONGEST_WAIT = 60.0
SLOW_POLL = 5.0
"""A lost wake-up costs at most this long."""


async def hello(
    engine: Engine, actor: Actor, message: Hello, *, address: str, now: int, labels: tuple[str, ...] = ()
) -> Welcome:
    """Let a worker in, and end what its earlier process held."""
    greeting = await engine.run(
        leasing.greet_worker, actor, message, address=address, lease=engine.policy.lease_seconds, labels=labels
    )
    await seal_logs_of(engine, greeting.lost)
    return Welcome(
        protocol=message.protocol,
        worker=greeting.worker.id,
        version=VERSION,
        now=now,
        lease_s=engine.policy.lease_seconds,
        heartbeat_s=min(HEARTBEAT_SECONDS, engine.policy.lease_seconds / 4),
        drop=[int(key) for key in greeting.drop],
    )


async def claim(engine: Engine, actor: Actor, message: Claim) -> Claimed:
    """Give jobs at once if there are any, else wait for some, for a cancel wish, or for the time to pass.

    A cancel wish that the worker does not know of ends the wait, so does one for a terminal, and the wish that it
    leaves, for one that still asks for jobs.
    """
    if message.leaving:
        lost = await engine.run(leasing.leave, actor, message.session, message.have)
        await seal_logs_of(engine, lost)
        return Claimed()
    deadline = time.monotonic() + min(max(message.wait_s, 0.0), LONGEST_WAIT)
    told = {AttemptId(key) for key in message.cancelling}
    async with engine.bus.subscribe("work") as work:
        while True:
            jobs = await _claim_once(engine, actor, message)
            wishes = await engine.read(leasing.wishes, actor, message.session)
            cancel = [int(key) for key in wishes.cancel if key not in told]
            terminals = [wish for wish in wishes.terminals if wish.key not in message.terminals]
            left = deadline - time.monotonic()
            if jobs or cancel or terminals or left <= 0 or (wishes.draining and message.free > 0):
                return Claimed(
                    jobs=jobs, cancel=cancel, paused=wishes.paused, draining=wishes.draining, terminals=terminals
                )
            await work.wait(min(left, SLOW_POLL))


async def _claim_once(engine: Engine, actor: Actor, message: Claim) -> list[JobGrant]:
    if not await engine.read(leasing.has_work, actor, message.session, message.free, message.have):
        return []
    if engine.usage.stale:
        engine.usage.put(await engine.read(compute_usage, SYSTEM))
    return await engine.run(
        leasing.claim_jobs,
        actor,
        message.session,
        message.free,
        message.have,
        usage=engine.usage.usage,
        lease=engine.policy.lease_seconds,
        charge=engine.usage.charge,
        keys=engine.keys,
        public_url=engine.policy.public_url,
    )


async def heartbeat(engine: Engine, actor: Actor, message: Heartbeat) -> Beat:
    """Renew the leases that a worker holds."""
    return await engine.run(
        leasing.renew_leases, actor, message.session, message.held, lease=engine.policy.lease_seconds
    )
