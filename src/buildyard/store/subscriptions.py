"""What users subscribed to: events of the builds that they submit, each told as the answer to a query of theirs."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import delete, func, select

from buildyard.domain.access import Permission
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import Moment, ProjectId, SubscriptionId, UserId
from buildyard.domain.notifications import Event
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import subscriptions, users
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A user's webhook. `allowed` and `only_project` are the bounds of the token that made it.

    `defined_by` is the API whose language `query` is in.
    """

    id: SubscriptionId
    user: UserId
    username: str
    events: tuple[Event, ...]
    query: str
    url: str
    allowed: frozenset[Permission]
    only_project: ProjectId | None
    defined_by: str
    created_at: Moment


_QUERY = select(
    subscriptions.c.id,
    subscriptions.c.user,
    users.c.username,
    subscriptions.c.events,
    subscriptions.c.query,
    subscriptions.c.url,
    subscriptions.c.allowed,
    subscriptions.c.only_project,
    subscriptions.c.defined_by,
    subscriptions.c.created_at,
).select_from(subscriptions.join(users, users.c.id == subscriptions.c.user))
ADD = insertion(subscriptions)
BY_ID = Statement(_QUERY.where(subscriptions.c.id == given("key")))
OF_USER = Statement(
    _QUERY.where(subscriptions.c.user == given("of"), subscriptions.c.id <= given("start"))
    .order_by(subscriptions.c.id.desc())
    .limit(given("most"))
)
COUNT_OF_USER = Statement(select(func.count()).select_from(subscriptions).where(subscriptions.c.user == given("of")))
REMOVE = Statement(delete(subscriptions).where(subscriptions.c.id == given("key")))
REMOVE_OF_USER = Statement(delete(subscriptions).where(subscriptions.c.user == given("of")))


def _subscription(row: Row) -> Subscription:
    key, user, username, events, query, url, allowed, only_project, defined_by, created_at = row
    return Subscription(
        id=key,
        user=user,
        username=username,
        events=msgspec.json.decode(events, type=tuple[Event, ...]),
        query=query,
        url=url,
        allowed=msgspec.json.decode(allowed, type=frozenset[Permission]),
        only_project=only_project,
        defined_by=defined_by,
        created_at=created_at,
    )


async def add(
    tx: Transaction,
    user: UserId,
    *,
    events: tuple[Event, ...],
    query: str,
    url: str,
    allowed: frozenset[Permission],
    only_project: ProjectId | None,
    defined_by: str,
) -> Subscription:
    """Keep a subscription."""
    (key,) = await tx.allocate("subscriptions")
    await tx.execute(
        ADD,
        id=key,
        user=user,
        events=msgspec.json.encode(events).decode(),
        query=query,
        url=url,
        allowed=msgspec.json.encode(sorted(allowed)).decode(),
        only_project=only_project,
        defined_by=defined_by,
        created_at=tx.now,
    )
    return await get(tx, SubscriptionId(key))


async def get(tx: Transaction, key: SubscriptionId) -> Subscription:
    """The subscription with this id."""
    row = await tx.fetch_one(BY_ID, key=key)
    if row is None:
        raise NotFound("webhook not found")
    return _subscription(row)


async def page_of(tx: Transaction, user: UserId, *, start: int, limit: int) -> list[Subscription]:
    """A user's subscriptions with ids up to `start`, newest first."""
    return [_subscription(row) for row in await tx.fetch(OF_USER, of=user, start=start, most=limit)]


async def count_of(tx: Transaction, user: UserId) -> int:
    """How many a user has."""
    row = await tx.fetch_one(COUNT_OF_USER, of=user)
    return int(row[0]) if row else 0


async def remove(tx: Transaction, key: SubscriptionId) -> None:
    """Forget a subscription; what waits to be sent for it is dropped by the sender."""
    await tx.execute(REMOVE, key=key)


async def remove_of(tx: Transaction, user: UserId) -> None:
    """Forget all subscriptions of a user."""
    await tx.execute(REMOVE_OF_USER, of=user)
