"""Sends what waits in `deliveries`: under leases, a few at a time for each host, again after failures up to a limit.

A message is sent at least once: a server that dies between sending and writing down leaves a lease that runs out,
and the message is sent again with the same uid.
"""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import EngineError, NotFound, Unauthenticated, Unavailable
from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.notifications import (
    SERVER,
    Action,
    DeliveryState,
    Event,
    credential_of,
    dialect_of,
    retry_delay,
)
from buildyard.engine.engine import Engine
from buildyard.engine.news import read_news
from buildyard.engine.surviving import survived
from buildyard.engine.telling_secrets import use_secret
from buildyard.ports import Notice, Outcome
from buildyard.store import deliveries
from buildyard.store.deliveries import Delivery, Try
from buildyard.store.telling import TOPIC
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

PER_HOST = 4
MOST = 256
"""How many tries run at the same time, for one host and for all."""

SLOW_POLL = 5.0
BUSY_POLL = 1.0
"""How soon a message is looked at again that another one of its stream holds up."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Messages that are now ours to try, and in how many seconds the next one is due."""

    messages: tuple[Delivery, ...]
    wait_s: float


@dataclass
class Queues:
    """What this server sends now: how many for each host, and which hosts did not answer the last time."""

    running: Counter[str] = field(default_factory=Counter)
    failing: set[str] = field(default_factory=set)

    def rooms(self, hosts: list[str]) -> dict[str, int]:
        """How many more may be sent to each of these; one at a time where nothing answers."""
        left = MOST - self.running.total()
        rooms: dict[str, int] = {}
        for host in hosts:
            room = min(left, (1 if host in self.failing else PER_HOST) - self.running[host])
            if room > 0:
                rooms[host] = room
                left -= room
        return rooms

    def leave(self, host: str, *, answered: bool) -> None:
        """One is done."""
        self.running[host] -= 1
        if self.running[host] <= 0:
            del self.running[host]
        (self.failing.discard if answered else self.failing.add)(host)


async def send_deliveries(engine: Engine) -> None:
    """Send until cancelled; what is under way then is tried again after its lease."""
    queues = Queues()
    async with engine.bus.subscribe(TOPIC) as news, asyncio.TaskGroup() as group:
        while True:
            taken = Taken((), SLOW_POLL)
            with survived("loop_failed", loop="deliveries"):
                taken = await take_some(engine, queues)
            for message in taken.messages:
                group.create_task(_send(engine, queues, message))
            await news.wait(taken.wait_s)


async def take_some(engine: Engine, queues: Queues) -> Taken:
    """Take what is due, as far as there is room for its host."""
    hosts = await engine.read(waiting_hosts, SYSTEM)
    random.shuffle(hosts)
    rooms = queues.rooms(hosts)
    if not rooms:
        return Taken((), SLOW_POLL)
    lease_s = 2 * engine.policy.delivery_timeout_seconds + 1
    taken = await engine.run(take_due, SYSTEM, rooms, lease_s=lease_s)
    queues.running.update(message.host for message in taken.messages)
    return taken


async def _send(engine: Engine, queues: Queues, message: Delivery) -> None:
    """Try one message and write down what came of it; nothing that goes wrong here harms another."""
    answered = True
    try:
        outcome = await try_delivery(engine, message)
        answered = outcome.delivered or outcome.status > 0
        chance = random.random()  # noqa: S311 - spreads tries, guards nothing
        await engine.run(record_try, SYSTEM, message, outcome, chance, tries=engine.policy.delivery_tries)
        log.info("delivery_tried", delivery=message.uid, delivered=outcome.delivered, error=outcome.error)
    except EngineError as exc:
        log.warning("delivery_not_recorded", delivery=message.uid, error=str(exc))
    except Exception:
        log.exception("delivery_failed", delivery=message.uid)
    finally:
        queues.leave(message.host, answered=answered)
        with suppress(EngineError):
            await engine.bus.publish([TOPIC])


async def waiting_hosts(tx: Transaction, _actor: Actor) -> list[str]:
    """The hosts that something waits for."""
    return await deliveries.waiting_hosts(tx)


async def take_due(tx: Transaction, _actor: Actor, rooms: Mapping[str, int], *, lease_s: float) -> Taken:
    """Lease what is due, at most so many for each host; another server that takes the same leaves it to one of us."""
    taken: list[Delivery] = []
    wait_s = SLOW_POLL
    lease, until = secrets.token_hex(8), Moment(tx.now + int(lease_s * SECOND))
    for message in await deliveries.next_of(tx, {host: rooms[host] for host in sorted(rooms)}):
        if message.due_at > tx.now:
            wait_s = min(wait_s, (message.due_at - tx.now) / SECOND)
        elif message.rule is None:
            await _drop(tx, message, "its rule was removed")
        elif not await _may_send(tx, message):
            wait_s = min(wait_s, BUSY_POLL)
        elif await deliveries.lease(tx, message, lease, until):
            taken.append(await _held(tx, message))
        else:
            wait_s = 0.0
    return Taken(tuple(taken), max(wait_s, 0.05))


async def _held(tx: Transaction, message: Delivery) -> Delivery:
    found = await deliveries.get(tx, message.id)
    assert found is not None
    return found


async def _may_send(tx: Transaction, message: Delivery) -> bool:
    """Whether nothing of its stream stands in the way; what it replaces is dropped, what is replaced may not go.

    A status that was sent late would hide a newer one. So of a commit and context one is sent at a time, and only
    the newest.
    """
    if not message.stream:
        return True
    others = [
        other
        for other in await deliveries.stream(tx, message.stream, lock=True)
        if other.id != message.id and other.state is not DeliveryState.DROPPED
    ]
    place = (message.rank, message.id)
    if any((other.rank, other.id) > place for other in others):
        await _drop(tx, message, "a later one replaces it")
        return False
    waiting = [other for other in others if other.state is DeliveryState.WAITING]
    if any(other.lease and other.due_at > tx.now for other in waiting):
        await deliveries.postpone(tx, message, Moment(tx.now + int(BUSY_POLL * SECOND)))
        return False
    for other in waiting:
        await _drop(tx, other, "a later one replaces it")
    return True


async def _drop(tx: Transaction, message: Delivery, why: str) -> None:
    await deliveries.end(
        tx,
        message,
        message.lease,
        DeliveryState.DROPPED,
        due_at=message.due_at,
        failures=message.failures,
        error=why,
    )


async def try_delivery(engine: Engine, message: Delivery) -> Outcome:
    """Send one message once."""
    assert message.rule is not None
    notifier = engine.notifiers.get(Action(message.kind))
    if notifier is None:
        return Outcome(delivered=False, error=f"this server is not set up to send by {message.kind}")
    target = message.rule.target
    try:
        credential = await read_credential(engine, message, credential_of(target))
        notice = Notice(uid=message.uid, target=target, address=message.address, credential=credential)
        notice = await _worded(engine, message, notice)
    except (NotFound, Unavailable, Unauthenticated) as exc:
        return Outcome(delivered=False, error=str(exc))
    return _masked(await notifier.send(notice), credential)


async def _worded(engine: Engine, message: Delivery, notice: Notice) -> Notice:
    """The notice with what it says: in the words of the API that the target names, or our own."""
    dialect = dialect_of(notice.target)
    if not dialect:
        tails = message.kind == Action.EMAIL and message.event is Event.FINISHED
        return replace(notice, news=await read_news(engine, message.build, message.event, tails=tails))
    if dialect not in engine.writers:
        raise Unavailable(f"this server does not speak {dialect}")
    return replace(notice, written=await engine.writers[dialect](engine, message))


def _masked(outcome: Outcome, credential: str) -> Outcome:
    """The outcome without the credential, which the other side may have repeated in its answer."""
    if not credential:
        return outcome
    error, request, headers, body = (
        text.replace(credential, "***") for text in (outcome.error, outcome.request, outcome.headers, outcome.body)
    )
    return replace(outcome, error=error, request=request, headers=headers, body=body)


async def read_credential(engine: Engine, message: Delivery, name: str) -> str:
    """The secret text of this name; it is read for each try, so that a changed one counts at once."""
    if not name:
        return ""
    if not name.startswith(SERVER):
        return await engine.run(use_secret, SYSTEM, message, name, engine.keys)
    path = engine.credentials.get(name.removeprefix(SERVER))
    if path is None:
        raise NotFound(f"there is no credential {name}")
    try:
        return (await asyncio.to_thread(path.read_text)).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise Unavailable(f"the file of the credential {name} cannot be read") from exc


async def record_try(
    tx: Transaction, _actor: Actor, message: Delivery, outcome: Outcome, chance: float, *, tries: int
) -> None:
    """Write down how a try went, and what follows: done, given up, or when to try again.

    If the lease was lost meanwhile, somebody else has it. A status sent so late may hide a newer one, which is then
    sent once more.
    """
    await deliveries.end_try(
        tx,
        message.id,
        Try(
            number=message.attempts,
            started_at=tx.now,
            finished_at=tx.now,
            status=outcome.status,
            error=outcome.error,
            request=outcome.request,
            headers=outcome.headers,
            body=outcome.body,
        ),
    )
    failures = message.failures + (not outcome.delivered)
    state = _after(outcome, failures, tries)
    delay = retry_delay(failures, chance, outcome.retry_after_s) if state is DeliveryState.WAITING else 0.0
    held = await deliveries.end(
        tx,
        message,
        message.lease,
        state,
        due_at=Moment(tx.now + int(delay * SECOND)),
        failures=failures,
        error=outcome.error,
    )
    if not held and message.stream:
        await _repeat_newest(tx, message)


def _after(outcome: Outcome, failures: int, tries: int) -> DeliveryState:
    if outcome.delivered:
        return DeliveryState.DELIVERED
    return DeliveryState.DEAD if outcome.final or failures >= tries else DeliveryState.WAITING


async def _repeat_newest(tx: Transaction, late: Delivery) -> None:
    counted = [
        other
        for other in await deliveries.stream(tx, late.stream, lock=True)
        if other.state is not DeliveryState.DROPPED
    ]
    newest = max(counted, key=lambda other: (other.rank, other.id), default=None)
    if newest is not None and newest.id != late.id and newest.state is DeliveryState.DELIVERED:
        await deliveries.send_again(tx, newest)
        tx.wake(TOPIC)


async def drop_old(tx: Transaction, _actor: Actor, *, keep: Mapping[DeliveryState, float]) -> int:
    """Delete a round of messages that ended so many seconds ago, by how they ended."""
    dropped = 0
    for state, seconds in keep.items():
        dropped += await deliveries.drop_before(tx, state, Moment(tx.now - int(seconds * SECOND)), 1000)
    return dropped


DAY = 86_400.0
KEEP: Mapping[DeliveryState, float] = {
    DeliveryState.DELIVERED: 30 * DAY,
    DeliveryState.DROPPED: 30 * DAY,
    DeliveryState.DEAD: 90 * DAY,
}
"""How many seconds messages are kept after they were made."""
