"""Messages are sent under leases: again after failures, in order where order counts, no target for another's cost."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from buildyard.adapters.notifiers.statuses import StatusNotifier
from buildyard.adapters.notifiers.webhooks import WebhookNotifier
from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import NotFound
from buildyard.domain.notifications import Action, Condition, DeliveryState, Forge, Rule, StatusTarget, WebhookTarget
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Result
from buildyard.engine import delivering, notifications, pipelines
from buildyard.engine.delivering import Queues, Taken
from buildyard.engine.engine import Engine
from buildyard.engine.notifications import means_of
from buildyard.ports import Outcome
from buildyard.store.builds import BuildView
from buildyard.store.deliveries import Delivery, Try
from receiving import Received, Receiver, receiving
from world import Clock, Hand, World, job, settle_in

SOURCE = GitSource(url="https://example.org/x.git", branch="main", commit="a" * 40)


@pytest.fixture
async def world(engine: Engine, clock: Clock, tmp_path: Path) -> World:
    """A world that can send, and has a credential of the server."""
    (tmp_path / "token").write_text("t0ken\n")
    able = replace(
        engine,
        policy=replace(engine.policy, allow_local_sources=True, delivery_tries=3),
        notifiers={
            Action.WEBHOOK: WebhookNotifier(allow_local=True, timeout_s=30),
            Action.STATUS: StatusNotifier(allow_local=True, timeout_s=30),
        },
        credentials={"gh": tmp_path / "token"},
    )
    return await settle_in(able, clock)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that remembers."""
    async with receiving() as made:
        yield made


async def hook(world: World, url: str, **more: bool) -> str:
    made = await world.engine.run(
        notifications.add_notification,
        world.administrator,
        world.project.uid,
        Rule(target=WebhookTarget(url=url, secret="server:gh", **more), condition=Condition.ALWAYS),
        means_of(world.engine),
    )
    return made.uid


async def statuses(world: World, receiver: Receiver) -> None:
    target = StatusTarget(forge=Forge.GITHUB, repository="acme/tool", token="server:gh", api=receiver.url)
    await world.engine.run(
        notifications.add_notification,
        world.administrator,
        world.project.uid,
        Rule(target=target, condition=Condition.ALWAYS),
        means_of(world.engine),
    )


async def build(world: World, result: Result = Result.SUCCESS) -> BuildView:
    """A build that has ended so."""
    hand = world.hands.get("w1") or await world.hand()
    view = await world.submit(job("a"))
    await hand.run_all({"a": result})
    return view


async def take(world: World, queues: Queues | None = None) -> Taken:
    """What a server takes now."""
    return await delivering.take_some(world.engine, queues or Queues())


async def send(world: World, taken: Taken) -> list[Outcome]:
    """Try what was taken, and write it down."""
    outcomes = []
    for message in taken.messages:
        outcome = await delivering.try_delivery(world.engine, message)
        await record(world, message, outcome)
        outcomes.append(outcome)
    return outcomes


async def record(world: World, message: Delivery, outcome: Outcome) -> None:
    tries = world.engine.policy.delivery_tries
    await world.engine.run(delivering.record_try, SYSTEM, message, outcome, 1.0, tries=tries)


async def one(world: World, uid: str) -> tuple[Delivery, list[Try]]:
    return await world.engine.read(notifications.get_delivery, world.owner, uid)


async def everything(world: World) -> list[Delivery]:
    found = await world.engine.read(
        notifications.list_deliveries, world.owner, world.project.uid, state=None, below=2**31 - 1, limit=1000
    )
    return found[::-1]


@pytest.mark.covers("telling.webhooks", "telling.retries")
async def test_a_message_is_sent_once_and_its_try_is_kept(world: World, receiver: Receiver) -> None:
    receiver.always(200, "thanks", {"X-Said": "yes"})
    await hook(world, f"{receiver.url}/hook")
    view = await build(world)

    await send(world, await take(world))
    assert (await take(world)).messages == ()

    (message,) = await everything(world)
    _, (tried,) = await one(world, message.uid)
    assert (message.state, message.attempts, message.error) == (DeliveryState.DELIVERED, 1, "")
    assert (tried.status, tried.body, json.loads(tried.request)["build"]["uid"]) == (200, "thanks", view.build.uid)
    assert "x-said: yes" in tried.headers
    assert [got.headers["X-Buildyard-Delivery"] for got in receiver.got] == [message.uid]


@pytest.mark.covers("telling.retries", "telling.dead_letters")
async def test_failures_are_tried_again_later_and_later_until_given_up_and_sent_again_by_hand(
    world: World, receiver: Receiver
) -> None:
    receiver.always(503, "busy")
    await hook(world, receiver.url)
    await build(world)
    for wait in (5, 10):
        await send(world, await take(world))
        world.clock.advance(wait - 0.1)
        assert (await take(world)).messages == ()
        world.clock.advance(0.2)
    await send(world, await take(world))
    world.clock.advance(1e6)
    (dead,) = await everything(world)
    assert (dead.state, dead.attempts, dead.error) == (DeliveryState.DEAD, 3, "the answer was 503")
    assert (await take(world)).messages == ()

    receiver.always(200)
    again = await world.engine.run(notifications.resend_delivery, world.owner, dead.uid)
    assert again.state is DeliveryState.WAITING
    await send(world, await take(world))

    message, tries = await one(world, dead.uid)
    assert (message.state, [each.status for each in tries]) == (DeliveryState.DELIVERED, [503, 503, 503, 200])
    assert {got.headers["X-Buildyard-Delivery"] for got in receiver.got} == {dead.uid}


@pytest.mark.covers("telling.retries")
async def test_a_target_that_names_a_time_is_left_alone_until_then(world: World, receiver: Receiver) -> None:
    receiver.always(429, "", {"Retry-After": "600"})
    await hook(world, receiver.url)
    await build(world)

    await send(world, await take(world))
    world.clock.advance(599)
    assert (await take(world)).messages == ()
    world.clock.advance(2)

    assert len((await take(world)).messages) == 1


@pytest.mark.covers("telling.dead_letters")
async def test_an_answer_that_is_final_gives_the_message_up_at_once(world: World, receiver: Receiver) -> None:
    receiver.always(410)
    await hook(world, receiver.url)
    await build(world)

    await send(world, await take(world))

    assert [each.state for each in await everything(world)] == [DeliveryState.DEAD]


@pytest.mark.covers("telling.leases")
async def test_two_servers_never_hold_the_same_message_and_a_lost_lease_is_taken_over(
    world: World, receiver: Receiver
) -> None:
    await hook(world, receiver.url)
    for _ in range(6):
        await build(world)

    held: list[Delivery] = []
    for _ in range(2):  # who comes second may find all that he looked at taken
        both = await asyncio.gather(take(world), take(world), take(world))
        held += [message for taken in both for message in taken.messages]
    assert len({message.id for message in held}) == len(held) == 6

    world.clock.advance(100)
    later = [*(await take(world)).messages, *(await take(world)).messages]
    assert {message.uid for message in later} == {message.uid for message in held}
    await record(world, held[0], Outcome(delivered=False, final=True, error="late"))
    message, tries = await one(world, held[0].uid)
    assert (message.state, [each.error for each in tries]) == (DeliveryState.WAITING, ["late", ""])


@pytest.mark.covers("telling.hosts")
async def test_a_dead_target_takes_few_places_and_delays_no_other(world: World, receiver: Receiver) -> None:
    async with receiving() as dead:
        gate = asyncio.Event()

        async def hang(_received: Received) -> web.StreamResponse:
            await gate.wait()
            return web.Response(status=500)

        dead.answer = hang
        await hook(world, dead.url)
        await hook(world, receiver.url)
        for _ in range(12):
            await build(world)
        sender = asyncio.create_task(delivering.send_deliveries(world.engine))

        await receiver.has(12)
        assert len(dead.got) <= delivering.PER_HOST
        gate.set()
        await dead.has(delivering.PER_HOST)
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


@pytest.mark.covers("telling.hosts")
def test_a_host_that_did_not_answer_is_asked_one_at_a_time() -> None:
    queues = Queues()
    queues.running.update({"dead": 2})
    queues.leave("dead", answered=False)
    assert queues.rooms(["dead", "live"]) == {"live": delivering.PER_HOST}
    queues.leave("dead", answered=False)
    assert queues.rooms(["dead"]) == {"dead": 1}
    queues.running["dead"] += 1
    queues.leave("dead", answered=True)
    assert queues.rooms(["dead"]) == {"dead": delivering.PER_HOST}


async def begin(world: World) -> tuple[Hand, BuildView]:
    """A build of SOURCE that runs."""
    hand = world.hands.get("w1") or await world.hand()
    known = await world.engine.read(pipelines.list_pipelines, world.owner, world.project.uid)
    view = await world.submit(pipeline=known[0] if known else await world.define(job("a")), source=SOURCE)
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 0))
    return hand, view


async def end(hand: Hand, result: Result = Result.SUCCESS) -> None:
    """End the one that runs longest."""
    await hand.finish(next(iter(hand.held.values())), result)


def states(receiver: Receiver) -> list[str]:
    return [json.loads(got.body)["state"] for got in receiver.got]


@pytest.mark.covers("telling.statuses.order")
async def test_a_commit_is_pending_then_has_its_result(world: World, receiver: Receiver) -> None:
    await statuses(world, receiver)
    hand, _ = await begin(world)
    await send(world, await take(world))
    await end(hand, Result.FAILURE)
    await send(world, await take(world))

    assert states(receiver) == ["pending", "failure"]
    assert receiver.got[0].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.covers("telling.statuses.order")
async def test_a_start_that_was_not_sent_in_time_is_not_sent_after_the_result(world: World, receiver: Receiver) -> None:
    receiver.always(503)
    await statuses(world, receiver)
    hand, _ = await begin(world)
    await send(world, await take(world))
    await end(hand)
    receiver.always(201)
    world.clock.advance(3600)

    await send(world, await take(world))
    await send(world, await take(world))

    assert states(receiver) == ["pending", "success"]
    assert [each.state for each in await everything(world)] == [DeliveryState.DROPPED, DeliveryState.DELIVERED]


@pytest.mark.covers("telling.statuses.order")
async def test_the_result_waits_while_the_start_is_on_its_way(world: World, receiver: Receiver) -> None:
    await statuses(world, receiver)
    hand, _ = await begin(world)
    start = await take(world)
    await end(hand)

    assert (await take(world)).messages == ()
    await send(world, start)
    world.clock.advance(2)
    await send(world, await take(world))

    assert states(receiver) == ["pending", "success"]


@pytest.mark.covers("telling.statuses.order")
async def test_a_start_that_came_after_all_has_the_result_sent_once_more(world: World, receiver: Receiver) -> None:
    await statuses(world, receiver)
    hand, _ = await begin(world)
    start = await take(world)
    await end(hand)
    world.clock.advance(100)
    await send(world, await take(world))

    await send(world, start)
    world.clock.advance(100)
    await send(world, await take(world))

    assert states(receiver) == ["success", "pending", "success"]


@pytest.mark.covers("telling.statuses.order")
async def test_an_older_build_of_the_commit_does_not_hide_the_newer_ones_status(
    world: World, receiver: Receiver
) -> None:
    await statuses(world, receiver)
    hand, _ = await begin(world)
    await send(world, await take(world))
    await begin(world)
    await send(world, await take(world))
    await end(hand, Result.FAILURE)
    await send(world, await take(world))
    await end(hand, Result.SUCCESS)
    await send(world, await take(world))

    assert states(receiver) == ["pending", "pending", "success"]


async def test_what_waits_for_a_removed_rule_is_dropped(world: World, receiver: Receiver) -> None:
    uid = await hook(world, receiver.url)
    await build(world)
    await world.engine.run(notifications.remove_notification, world.owner, uid)

    assert (await take(world)).messages == ()
    assert [each.state for each in await everything(world)] == [DeliveryState.DROPPED]


@pytest.mark.covers("telling.dead_letters")
async def test_a_credential_that_cannot_be_read_is_a_failure_that_says_so(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    await hook(world, receiver.url)
    await build(world)
    (tmp_path / "token").unlink()

    (outcome,) = await send(world, await take(world))

    assert (outcome.delivered, outcome.final, receiver.got) == (False, False, [])
    assert "server:gh" in outcome.error


async def test_old_messages_are_deleted_dead_ones_later(world: World, receiver: Receiver) -> None:
    await hook(world, receiver.url)
    await build(world)
    await send(world, await take(world))
    receiver.always(410)
    await build(world)
    await send(world, await take(world))
    uids = [each.uid for each in await everything(world)]

    for days, left in ((29, 2), (2, 1), (60, 0)):
        world.clock.advance(days * 86_400)
        await world.engine.run(delivering.drop_old, SYSTEM, keep=delivering.KEEP)
        assert len(await everything(world)) == left
    with pytest.raises(NotFound):
        await one(world, uids[0])
