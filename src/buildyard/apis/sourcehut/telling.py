"""What this API's webhooks say: the answer to a user's query, signed as receivers of builds.sr.ht expect it."""

from typing import TYPE_CHECKING, Final

import msgspec

from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig, execute_query
from buildyard.domain.notifications import Event
from buildyard.domain.user_webhooks import JobEvent, Occasion
from buildyard.engine.engine import Engine
from buildyard.engine.user_webhooks import read_subscriber
from buildyard.ports import Document

if TYPE_CHECKING:
    from buildyard.store.deliveries import Delivery

DIALECT: Final = "sourcehut"
"""Who words the messages of subscriptions made here."""

JOB_EVENTS: Final = {Event.CREATED: JobEvent.CREATED, Event.UPDATED: JobEvent.UPDATED}
EVENTS: Final = {word: event for event, word in JOB_EVENTS.items()}


async def answer_subscription(engine: Engine, message: "Delivery", config: GraphqlConfig) -> Document:
    """What a user's webhook is posted: the answer to its query, as its user may see it now.

    Raises NotFound for a webhook that was deleted, Unauthenticated for one of a user who may not sign in any more.
    """
    assert message.subscription is not None
    subscription, actor = await read_subscriber(engine, message.subscription)
    event = JOB_EVENTS[message.event]
    occasion = Occasion(uid=message.uid, event=event, at=message.created_at, build=message.build)
    answer = await execute_query(engine, actor, subscription.query, webhook=occasion, config=config)
    headers = {"X-Webhook-Event": str(event), "X-Webhook-Delivery": message.uid}
    return signed(engine, msgspec.json.encode(answer), headers)


def signed(engine: Engine, body: bytes, headers: dict[str, str]) -> Document:
    """A body with its headers and those that prove where it comes from."""
    made = engine.signing.sign(body)
    proof = {"X-Payload-Nonce": made.nonce, "X-Payload-Signature": made.signature}
    return Document(body=body, headers={**headers, **proof})
