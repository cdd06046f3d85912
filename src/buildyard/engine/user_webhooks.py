"""Webhooks of users: what happens to the builds that a user submits, told as the answer to a query of theirs."""

from dataclasses import dataclass, replace

from buildyard.domain.access import SYSTEM, Actor, Permission
from buildyard.domain.errors import Fault, Forbidden, Invalid, LimitReached, NotFound, Unauthenticated
from buildyard.domain.ids import SubscriptionId, UserId
from buildyard.domain.notifications import Event
from buildyard.domain.sources import check_http_url
from buildyard.engine.engine import Engine
from buildyard.engine.identity import actor_of_user
from buildyard.ports import ANSWER_BYTES
from buildyard.store import audit, deliveries, subscriptions
from buildyard.store.deliveries import Delivery, Try
from buildyard.store.subscriptions import Subscription
from buildyard.store.telling import TOPIC
from buildyard.store.transactions import Transaction

EVENTS = (Event.CREATED, Event.UPDATED)
MOST_SUBSCRIPTIONS = 100
MOST_QUERY_BYTES = 16_384
NEWEST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUserWebhook:
    """What to subscribe to. `query` is in the language of the API `defined_by`, which has checked it."""

    url: str
    events: tuple[Event, ...]
    query: str
    defined_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """A message to a user's webhook, and its newest try; None before the first."""

    delivery: Delivery
    last_try: Try | None

    @property
    def answer(self) -> str | None:
        """The beginning of the answer as text; None if there was none, or it was no text."""
        tried = self.last_try
        if tried is None or not tried.status:
            return None
        kind = next((line for line in tried.headers.lower().splitlines() if line.startswith("content-type:")), "")
        is_text = kind.removeprefix("content-type:").strip().startswith("text/")
        body = tried.body.removesuffix("\ufffd") if len(tried.body.encode()) >= ANSWER_BYTES else tried.body
        return body if is_text and "\ufffd" not in body else None


def _user(actor: Actor) -> UserId:
    """The user who acts; raises for everyone else, and for tokens that may not even read."""
    if actor.user is None:
        raise Unauthenticated("sign in to use webhooks")
    if Permission.READ not in actor.allowed:
        raise Forbidden(f"{actor.name} may not read with this token")
    return actor.user


async def create_user_webhook(tx: Transaction, actor: Actor, new: NewUserWebhook, *, allow_local: bool) -> Subscription:
    """Subscribe to the actor's own builds. What the query shows is bounded by the actor's token, also later on."""
    user = _user(actor)
    if faults := _faults(new, allow_local=allow_local):
        raise Invalid("the webhook is not valid", tuple(faults))
    if await subscriptions.count_of(tx, user) >= MOST_SUBSCRIPTIONS:
        raise LimitReached(f"you have {MOST_SUBSCRIPTIONS} webhooks already: delete one first")
    made = await subscriptions.add(
        tx,
        user,
        events=new.events,
        query=new.query,
        url=new.url,
        allowed=actor.allowed,
        only_project=actor.only_project,
        defined_by=new.defined_by,
    )
    details = {"url": new.url, "events": [str(event) for event in new.events]}
    await audit.add(tx, actor, "user_webhook.create", str(made.id), details=details)
    return made


def _faults(new: NewUserWebhook, *, allow_local: bool) -> list[Fault]:
    faults = check_http_url(new.url, "url", allow_local=allow_local)
    if not new.events:
        faults.append(Fault("events", "must name at least one event", "missing"))
    if len(set(new.events)) != len(new.events):
        faults.append(Fault("events", "names an event twice", "duplicate"))
    faults += [
        Fault(f"events[{i}]", "is no event of builds that can be subscribed to", "event")
        for i, event in enumerate(new.events)
        if event not in EVENTS
    ]
    if not new.query.strip():
        faults.append(Fault("query", "is missing", "missing"))
    if len(new.query.encode("utf-8", "replace")) > MOST_QUERY_BYTES or "\x00" in new.query:
        faults.append(Fault("query", f"must be text of at most {MOST_QUERY_BYTES} bytes", "too_long"))
    return faults


async def delete_user_webhook(tx: Transaction, actor: Actor, webhook: int) -> Subscription:
    """Unsubscribe; what waits to be sent is dropped."""
    found = await get_user_webhook(tx, actor, webhook)
    await subscriptions.remove(tx, found.id)
    await audit.add(tx, actor, "user_webhook.delete", str(found.id), details={"url": found.url})
    tx.wake(TOPIC)
    return found


async def get_user_webhook(tx: Transaction, actor: Actor, webhook: int) -> Subscription:
    """One of the actor's own webhooks; those of others are not there."""
    user = _user(actor)
    found = await subscriptions.get(tx, SubscriptionId(webhook))
    if found.user != user or actor.only_project not in (None, found.only_project):
        raise NotFound("webhook not found")
    return found


async def list_user_webhooks(
    tx: Transaction, actor: Actor, *, start: int | None = None, limit: int = 50
) -> list[Subscription]:
    """The actor's own webhooks with ids up to `start`, newest first."""
    found = await subscriptions.page_of(tx, _user(actor), start=NEWEST if start is None else start, limit=limit)
    return [each for each in found if actor.only_project in (None, each.only_project)]


async def list_webhook_deliveries(
    tx: Transaction, actor: Actor, webhook: int, *, start: int | None = None, limit: int = 50
) -> list[WebhookDelivery]:
    """Messages to one of the actor's own webhooks with ids up to `start`, newest first, each with its newest try."""
    subscription = await get_user_webhook(tx, actor, webhook)
    found = await deliveries.page_of(tx, subscription.id, start=NEWEST if start is None else start, limit=limit)
    tries = await deliveries.last_tries(tx, [each.id for each in found])
    return [WebhookDelivery(delivery=each, last_try=tries.get(each.id)) for each in found]


async def read_subscriber(engine: Engine, webhook: SubscriptionId) -> tuple[Subscription, Actor]:
    """A subscription and its user with the rights of now, within the bounds of the token that made it."""
    return await engine.read(_subscriber, SYSTEM, webhook)


async def _subscriber(tx: Transaction, actor: Actor, webhook: SubscriptionId) -> tuple[Subscription, Actor]:
    found = await subscriptions.get(tx, webhook)
    user = await actor_of_user(tx, actor, found.username)
    return found, replace(user, allowed=found.allowed, only_project=found.only_project)
