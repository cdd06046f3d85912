"""Users subscribe to what happens to their own builds; each event is written once, with the event."""

from dataclasses import replace

import pytest

from buildyard.domain.access import ANONYMOUS, SYSTEM, Permission
from buildyard.domain.errors import Forbidden, Invalid, LimitReached, NotFound, Unauthenticated
from buildyard.domain.ids import Moment, Uid
from buildyard.domain.notifications import DeliveryState, Event
from buildyard.engine import delivering, identity, notifications, user_webhooks
from buildyard.engine.user_webhooks import NewUserWebhook, WebhookDelivery
from buildyard.store.deliveries import Try
from buildyard.store.subscriptions import Subscription
from world import World, job

URL = "https://example.org/hook"
BOTH = (Event.CREATED, Event.UPDATED)


async def subscribe(world: World, *events: Event, url: str = URL, query: str = "{ webhook { uuid } }") -> Subscription:
    """A webhook of the administrator, who submits the world's builds."""
    new = NewUserWebhook(url=url, events=events or BOTH, query=query, defined_by="an API")
    return await world.engine.run(user_webhooks.create_user_webhook, world.administrator, new, allow_local=False)


async def told(world: World, webhook: Subscription) -> list[WebhookDelivery]:
    """What was written for a webhook, oldest first."""
    found = await world.engine.read(user_webhooks.list_webhook_deliveries, world.administrator, webhook.id)
    return found[::-1]


@pytest.mark.covers("user_webhooks.events")
async def test_a_build_is_told_when_it_is_made_and_whenever_its_state_shows_another_word(world: World) -> None:
    both, created = await subscribe(world), await subscribe(world, Event.CREATED)
    hand = await world.hand()
    view = await world.submit(job("a", steps=2))
    assert [each.delivery.event for each in await told(world, both)] == [Event.CREATED]
    grant = await hand.take()
    world.clock.advance(1)
    await hand.report(hand.started(grant), hand.step_started(grant, 0))
    world.clock.advance(1)
    await hand.report(hand.step_finished(grant, 0), hand.step_started(grant, 1))
    world.clock.advance(1)
    await hand.finish(grant)

    assert [each.delivery.event for each in await told(world, both)] == [Event.CREATED, Event.UPDATED, Event.UPDATED]
    assert [each.delivery.event for each in await told(world, created)] == [Event.CREATED]
    assert {each.delivery.build for each in await told(world, both)} == {view.build.id}
    assert all(each.last_try is None and each.answer is None for each in await told(world, both))


@pytest.mark.covers("user_webhooks.events")
async def test_builds_of_others_are_not_told(world: World) -> None:
    new = NewUserWebhook(url=URL, events=BOTH, query="{ webhook { uuid } }", defined_by="an API")
    others = await world.engine.run(user_webhooks.create_user_webhook, world.owner, new, allow_local=False)
    await world.submit(job("a"))

    assert await world.engine.read(user_webhooks.list_webhook_deliveries, world.owner, others.id) == []


@pytest.mark.covers("user_webhooks.manage")
async def test_a_webhook_shows_to_its_user_only_and_is_gone_when_deleted(world: World) -> None:
    first, second = await subscribe(world), await subscribe(world, Event.CREATED)
    engine, me = world.engine, world.administrator
    assert await engine.read(user_webhooks.list_user_webhooks, me) == [second, first]
    assert await engine.read(user_webhooks.list_user_webhooks, me, start=second.id, limit=1) == [second]
    assert await engine.read(user_webhooks.get_user_webhook, me, first.id) == first
    assert (first.events, first.url, first.query) == (BOTH, URL, "{ webhook { uuid } }")
    for who in (world.owner, replace(me, only_project=world.project.id)):
        with pytest.raises(NotFound):
            await engine.run(user_webhooks.delete_user_webhook, who, first.id)
    await world.submit(job("a"))

    assert await engine.run(user_webhooks.delete_user_webhook, me, first.id) == first
    with pytest.raises(NotFound):
        await engine.read(user_webhooks.list_webhook_deliveries, me, first.id)
    taken = await engine.run(delivering.take_due, SYSTEM, {"example.org:443": 10}, lease_s=60)
    assert [each.subscription for each in taken.messages] == [second.id]


@pytest.mark.covers("user_webhooks.manage")
@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"url": "ftp://example.org/"}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"events": ()}, "events"),
        ({"events": (Event.CREATED, Event.CREATED)}, "events"),
        ({"events": (Event.FINISHED,)}, "events[0]"),
        ({"query": " "}, "query"),
        ({"query": "x" * 20_000}, "query"),
        ({"query": "a\x00b"}, "query"),
    ],
)
async def test_what_is_wrong_with_a_webhook_is_said(sqlite_world: World, wrong: dict[str, object], path: str) -> None:
    right = NewUserWebhook(url=URL, events=BOTH, query="{ webhook { uuid } }", defined_by="an API")
    with pytest.raises(Invalid) as caught:
        await sqlite_world.engine.run(
            user_webhooks.create_user_webhook,
            sqlite_world.owner,
            replace(right, **wrong),  # type: ignore[arg-type]  # fields of NewUserWebhook
            allow_local=False,
        )
    assert [fault.path for fault in caught.value.faults] == [path]


@pytest.mark.covers("user_webhooks.manage")
async def test_webhooks_need_a_user_who_may_read_and_are_bounded(sqlite_world: World) -> None:
    engine, new = sqlite_world.engine, NewUserWebhook(url=URL, events=BOTH, query="q", defined_by="an API")
    nothing = replace(sqlite_world.owner, allowed=frozenset({Permission.REPORT}))
    with pytest.raises(Unauthenticated):
        await engine.run(user_webhooks.create_user_webhook, ANONYMOUS, new, allow_local=False)
    with pytest.raises(Forbidden):
        await engine.run(user_webhooks.create_user_webhook, nothing, new, allow_local=False)
    for _ in range(user_webhooks.MOST_SUBSCRIPTIONS):
        await engine.run(user_webhooks.create_user_webhook, sqlite_world.owner, new, allow_local=False)
    with pytest.raises(LimitReached):
        await engine.run(user_webhooks.create_user_webhook, sqlite_world.owner, new, allow_local=False)


@pytest.mark.covers("user_webhooks.rights")
async def test_a_subscriber_acts_with_the_rights_of_now_within_those_of_the_token(world: World) -> None:
    made = await world.engine.run(identity.create_token, SYSTEM, "bob", ("jobs:read",))
    reading = await world.engine.read(identity.actor_of_token, SYSTEM, made.secret)
    new = NewUserWebhook(url=URL, events=BOTH, query="q", defined_by="an API")
    webhook = await world.engine.run(user_webhooks.create_user_webhook, reading, new, allow_local=False)

    found, actor = await user_webhooks.read_subscriber(world.engine, webhook.id)

    assert (found, actor.name, actor.allowed) == (webhook, "bob", frozenset({Permission.READ}))
    assert actor.account_roles == world.owner.account_roles


@pytest.mark.parametrize(
    ("headers", "body", "status", "answer"),
    [
        ("Content-Type: text/plain; charset=utf-8", "thanks", 200, "thanks"),
        ("content-type: TEXT/html", "", 204, ""),
        ("Content-Type: application/json", "{}", 200, None),
        ("X-Other: text/plain", "thanks", 200, None),
        ("Content-Type: text/plain", "a\ufffdb", 200, None),
        ("Content-Type: text/plain", "a" * 65535 + "\ufffd", 200, "a" * 65535),
        ("", "", 0, None),
    ],
)
@pytest.mark.covers("user_webhooks.answers")
async def test_only_answers_that_are_text_are_shown(
    sqlite_world: World, headers: str, body: str, status: int, answer: str | None
) -> None:
    webhook = await subscribe(sqlite_world)
    await sqlite_world.submit(job("a"))
    (written,) = await told(sqlite_world, webhook)
    now = Moment(1)
    tried = Try(number=1, started_at=now, finished_at=now, status=status, error="", request="{}", headers=headers,
                body=body)  # fmt: skip

    assert WebhookDelivery(delivery=written.delivery, last_try=tried).answer == answer


@pytest.mark.covers("user_webhooks.events")
async def test_messages_to_webhooks_are_no_business_of_a_project(world: World) -> None:
    webhook = await subscribe(world)
    view = await world.submit(job("a"))
    (written,) = await told(world, webhook)
    listed = await world.engine.read(
        notifications.list_deliveries, world.owner, world.project.uid, state=None, below=2**31 - 1, limit=9
    )

    assert listed == []
    with pytest.raises(Forbidden):
        await world.engine.read(notifications.get_delivery, world.owner, written.delivery.uid)
    found, _ = await world.engine.read(notifications.get_delivery, world.administrator, written.delivery.uid)
    assert (found.build_uid, found.state, found.rule_uid) == (Uid(view.build.uid), DeliveryState.WAITING, None)
