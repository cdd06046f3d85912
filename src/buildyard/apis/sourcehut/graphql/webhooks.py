"""Webhooks of the one who asks, and the event that a webhook's query may ask for."""

from typing import TYPE_CHECKING, Any

from buildyard.apis.sourcehut.graphql.context import Context, Info, Resolvers
from buildyard.apis.sourcehut.graphql.execution import check_query
from buildyard.apis.sourcehut.graphql.jobs import Source, one_job
from buildyard.apis.sourcehut.graphql.scalars import LARGEST, cursor_of, start_of
from buildyard.domain.errors import Fault, Forbidden, Invalid, NotFound
from buildyard.domain.ids import SubscriptionId, Uid
from buildyard.domain.notifications import Event
from buildyard.domain.user_webhooks import JobEvent, Occasion
from buildyard.engine.engine import fresh_uid, system_clock
from buildyard.engine.manifest_jobs import list_jobs_of
from buildyard.engine.user_webhooks import (
    NewUserWebhook,
    WebhookDelivery,
    create_user_webhook,
    delete_user_webhook,
    get_user_webhook,
    list_user_webhooks,
    list_webhook_deliveries,
    read_subscriber,
)

if TYPE_CHECKING:
    from buildyard.store.subscriptions import Subscription

PAGE = 25
DEFINED_BY = "sourcehut"
JOB_EVENTS = {Event.CREATED: JobEvent.CREATED, Event.UPDATED: JobEvent.UPDATED}
EVENTS = {word: event for event, word in JOB_EVENTS.items()}


def subscription(found: "Subscription") -> Source:
    """A webhook as the schema has it."""
    return {
        "__typename": "UserWebhookSubscription",
        "id": found.id,
        "events": [str(JOB_EVENTS[event]) for event in found.events],
        "query": found.query,
        "url": found.url,
        "client": None,
    }


async def user_webhooks(_source: Any, info: Info, *, cursor: str | None = None) -> Source:
    """A page of the asker's webhooks, newest first."""
    context = info.context
    start = start_of("webhooks", cursor)
    found = await context.engine.read(list_user_webhooks, context.actor, start=start, limit=PAGE + 1)
    context.spend(objects=len(found))
    following = found[PAGE].id if len(found) > PAGE else None
    return {"results": [subscription(one) for one in found[:PAGE]], "cursor": cursor_of("webhooks", following)}


async def user_webhook(_source: Any, info: Info, *, id: int) -> Source | None:  # noqa: A002 - the schema's name
    """One of the asker's webhooks."""
    context = info.context
    try:
        return subscription(await context.engine.read(get_user_webhook, context.actor, id))
    except NotFound:
        return None


async def create(_source: Any, info: Info, *, config: dict[str, Any]) -> Source:
    """Subscribe to the asker's jobs."""
    context = info.context
    _require_change(context)
    if faults := check_query(config["query"]):
        raise Invalid(f"the query is not valid: {faults[0]}", tuple(Fault("query", one, "query") for one in faults))
    new = NewUserWebhook(
        url=config["url"],
        events=tuple(EVENTS[JobEvent(word)] for word in config["events"]),
        query=config["query"],
        defined_by=DEFINED_BY,
    )
    allow_local = context.engine.policy.allow_local_sources
    return subscription(await context.engine.run(create_user_webhook, context.actor, new, allow_local=allow_local))


async def delete(_source: Any, info: Info, *, id: int) -> Source:  # noqa: A002 - the schema's name
    """Unsubscribe."""
    context = info.context
    _require_change(context)
    return subscription(await context.engine.run(delete_user_webhook, context.actor, id))


def _require_change(context: Context) -> None:
    if context.webhook is not None:
        raise Forbidden("Access denied: a webhook's query may not change anything")


async def deliveries(source: Source, info: Info, *, cursor: str | None = None) -> Source:
    """A page of the messages to a webhook, newest first."""
    context = info.context
    of = f"deliveries{source['id']}"
    start = start_of(of, cursor)
    found = await context.engine.read(list_webhook_deliveries, context.actor, source["id"], start=start, limit=PAGE + 1)
    context.spend(objects=len(found))
    following = found[PAGE].delivery.id if len(found) > PAGE else None
    return {"results": [delivery(one, source) for one in found[:PAGE]], "cursor": cursor_of(of, following)}


def delivery(found: WebhookDelivery, of: Source) -> Source:
    """A message; of the answer there is something only once there was one."""
    message, tried = found.delivery, found.last_try
    answered = tried is not None and bool(tried.status)
    return {
        "uuid": message.uid,
        "date": message.created_at,
        "event": str(JOB_EVENTS[message.event]),
        "subscription": of,
        "requestBody": tried.request if tried else "",
        "responseBody": found.answer,
        "responseHeaders": tried.headers if tried and answered else None,
        "responseStatus": tried.status if tried and answered else None,
    }


async def sample(source: Source, info: Info, *, event: str) -> str:
    """What a webhook would be sent, with the asker's newest job; nothing is sent."""
    import msgspec

    from buildyard.apis.sourcehut.graphql.answering import answer

    context = info.context
    if context.webhook is not None:
        raise Forbidden("Access denied: a webhook's query has no samples")
    found, actor = await read_subscriber(context.engine, SubscriptionId(source["id"]))
    newest = await context.engine.read(list_jobs_of, actor, start=LARGEST, limit=1)
    if not newest.views:
        raise NotFound("there is no job of yours yet to make a sample of")
    occasion = Occasion(uid=Uid(fresh_uid()), event=JobEvent(event), at=system_clock(), build=newest.views[0].build.id)
    given = await answer(Context(context.engine, actor, context.config, occasion), found.query, None, None)
    return msgspec.json.encode(given).decode()


async def webhook(_source: Any, info: Info) -> Source:
    """The event that is being told."""
    occasion = info.context.webhook
    if occasion is None:
        raise Forbidden("this field is only for the queries of webhooks")
    return {"__typename": "JobEvent", "uuid": occasion.uid, "event": str(occasion.event), "date": occasion.at}


async def job_of_event(_source: Source, info: Info) -> Source:
    """The job that the event is about."""
    occasion = info.context.webhook
    found = await one_job(info.context, occasion.build) if occasion else None
    if found is None:
        raise NotFound("the job is no longer there for you")
    return found


RESOLVERS: Resolvers = {
    "Query": {"userWebhooks": user_webhooks, "userWebhook": user_webhook, "webhook": webhook},
    "Mutation": {"createUserWebhook": create, "deleteUserWebhook": delete},
    "UserWebhookSubscription": {"deliveries": deliveries, "sample": sample},
    "JobEvent": {"job": job_of_event},
}
