"""What this API tells of jobs: users' webhooks with the answers to their queries, signed."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buildyard.adapters.notifiers.webhooks import WebhookNotifier
from buildyard.apis.sourcehut import telling
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.notifications import Action, Event
from buildyard.engine import delivering, identity, user_webhooks
from buildyard.engine.delivering import Queues
from buildyard.engine.engine import Engine
from buildyard.engine.signing import SigningKey
from buildyard.engine.user_webhooks import NewUserWebhook, WebhookDelivery
from buildyard.ports import Outcome
from buildyard.store.subscriptions import Subscription
from receiving import Received, Receiver, receiving
from world import Clock, World, job, settle_in

WHO = "query { me { username } }"


@pytest.fixture
async def world(engine: Engine, clock: Clock, tmp_path: Path) -> World:
    """A world that can post, sign, and answer queries."""
    signing = SigningKey(tmp_path / "webhooks.key")
    signing.prepare()
    able = replace(
        engine,
        policy=replace(engine.policy, allow_local_sources=True),
        notifiers={Action.WEBHOOK: WebhookNotifier(allow_local=True, timeout_s=30)},
        signing=signing,
        writers={telling.DIALECT: partial(telling.answer_subscription, config=GraphqlConfig())},
    )
    return await settle_in(able, clock)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that remembers."""
    async with receiving() as made:
        yield made


async def subscribe(world: World, receiver: Receiver, query: str = WHO, *, by: Actor | None = None) -> Subscription:
    new = NewUserWebhook(url=f"{receiver.url}/hook", events=(Event.CREATED,), query=query, defined_by=telling.DIALECT)
    made: Subscription = await world.engine.run(
        user_webhooks.create_user_webhook, by or world.administrator, new, allow_local=True
    )
    return made


async def send(world: World) -> list[Outcome]:
    """Try whatever is due."""
    taken = await delivering.take_some(world.engine, Queues())
    outcomes = [await delivering.try_delivery(world.engine, message) for message in taken.messages]
    for message, outcome in zip(taken.messages, outcomes, strict=True):
        await world.engine.run(delivering.record_try, SYSTEM, message, outcome, 1.0, tries=3)
    return outcomes


async def told(world: World, webhook: Subscription, by: Actor | None = None) -> list[WebhookDelivery]:
    found: list[WebhookDelivery] = await world.engine.read(
        user_webhooks.list_webhook_deliveries, by or world.administrator, webhook.id
    )
    return found


def require_genuine(world: World, got: Received) -> None:
    """Raise unless the signature is that of this server, over the body and then the nonce."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(world.engine.signing.public()))
    signature = base64.b64decode(got.headers["X-Payload-Signature"], validate=True)
    key.verify(signature, got.body + got.headers["X-Payload-Nonce"].encode())


@pytest.mark.covers("user_webhooks.queries", "webhooks.signature")
async def test_a_webhook_is_posted_the_signed_answer_to_its_query(world: World, receiver: Receiver) -> None:
    receiver.always(200, "thanks")
    webhook = await subscribe(world, receiver)
    await world.submit(job("a"))
    (outcome,) = await send(world)
    assert outcome.delivered, outcome
    (got,) = await receiver.has(1)
    (kept,) = await told(world, webhook)

    assert json.loads(got.body) == {"data": {"me": {"username": "admin"}}}
    require_genuine(world, got)
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["X-Webhook-Event"] == "JOB_CREATED"
    assert got.headers["X-Webhook-Delivery"] == kept.delivery.uid
    assert kept.last_try is not None
    assert (kept.last_try.request, kept.last_try.status, kept.answer) == (got.body.decode(), 200, "thanks")


@pytest.mark.covers("user_webhooks.queries")
async def test_a_repeated_message_has_the_same_uid_and_another_nonce(world: World, receiver: Receiver) -> None:
    receiver.always(503)
    await subscribe(world, receiver)
    await world.submit(job("a"))
    await send(world)
    world.clock.advance(60)
    receiver.always(204)
    await send(world)
    first, second = await receiver.has(2)

    assert first.headers["X-Webhook-Delivery"] == second.headers["X-Webhook-Delivery"]
    assert first.headers["X-Payload-Nonce"] != second.headers["X-Payload-Nonce"]
    require_genuine(world, second)


@pytest.mark.covers("user_webhooks.rights")
async def test_who_may_not_sign_in_any_more_is_told_nothing(world: World, receiver: Receiver) -> None:
    webhook = await subscribe(world, receiver)
    await world.submit(job("a"))
    blind = replace(world.engine, signing=SigningKey())
    (unsigned,) = await send(replace(world, engine=blind))
    assert not unsigned.delivered
    assert "no key file" in unsigned.error
    world.clock.advance(60)
    await world.engine.run(user_webhooks.delete_user_webhook, world.administrator, webhook.id)

    assert await send(world) == []
    assert receiver.got == []


@pytest.mark.covers("user_webhooks.rights")
async def test_a_query_is_answered_within_the_bounds_of_the_token(world: World, receiver: Receiver) -> None:
    made = await world.engine.run(identity.create_token, SYSTEM, "admin", ("jobs:read",))
    reading = await world.engine.read(identity.actor_of_token, SYSTEM, made.secret)
    await subscribe(world, receiver, "query { secrets { results { name } } }", by=reading)
    await world.submit(job("a"))
    await send(world)
    (got,) = await receiver.has(1)

    assert json.loads(got.body)["data"] is None
    assert json.loads(got.body)["errors"]
