"""Messages to send, each under a lease while a server tries it, and how its tries went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, DeliveryId, GroupId, Moment, ProjectId, SubscriptionId, Uid
from buildyard.domain.notifications import Condition, DeliveryState, Event, Rule, WebhookTarget
from buildyard.store import counters, events
from buildyard.store.notifications import number_of, rule_of
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import (
    builds,
    deliveries,
    delivery_attempts,
    notifications,
    projects,
    subscriptions,
)
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message. `rule` is None once its rule was removed. `due_at`: not before; under a lease, its end.

    One for a `group` tells its end, and `build` is its first; one for a `subscription` has a rule made of that.
    `attempts` counts all tries, `failures` those that came to nothing since it was last sent on its way.
    """

    id: DeliveryId
    uid: Uid
    project: ProjectId
    project_slug: str
    build: BuildId
    build_uid: Uid
    restarts: int
    event: Event
    kind: str
    address: str
    host: str
    stream: str
    state: DeliveryState
    due_at: Moment
    lease: str
    attempts: int
    failures: int
    error: str
    created_at: Moment
    finished_at: Moment | None
    rule: Rule | None
    rule_uid: Uid | None
    group: GroupId | None
    subscription: SubscriptionId | None

    @property
    def rank(self) -> tuple[int, int, int]:
        """Its place in its stream: a later build, restart or event replaces an earlier one."""
        return self.build, self.restarts, int(self.event is Event.FINISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt at sending. Without `finished_at` it runs, or its server ended and nobody knows what came of it."""

    number: int
    started_at: Moment
    finished_at: Moment | None
    status: int
    error: str
    request: str
    headers: str
    body: str


_COLUMNS = (
    deliveries.c.id,
    deliveries.c.uid,
    deliveries.c.project,
    projects.c.slug,
    deliveries.c.build,
    builds.c.uid,
    deliveries.c.restarts,
    deliveries.c.event,
    deliveries.c.kind,
    deliveries.c.address,
    deliveries.c.host,
    deliveries.c.stream,
    deliveries.c.state,
    deliveries.c.due_at,
    deliveries.c.lease,
    deliveries.c.attempts,
    deliveries.c.failures,
    deliveries.c.error,
    deliveries.c.created_at,
    deliveries.c.finished_at,
    notifications.c.condition,
    notifications.c.action,
    notifications.c.target,
    notifications.c.uid,
    notifications.c.group,
    deliveries.c.subscription,
    subscriptions.c.url,
    subscriptions.c.defined_by,
)
_QUERY = select(*_COLUMNS).select_from(
    deliveries.join(projects, projects.c.id == deliveries.c.project)
    .join(builds, builds.c.id == deliveries.c.build)
    .outerjoin(notifications, notifications.c.id == deliveries.c.notification)
    .outerjoin(subscriptions, subscriptions.c.id == deliveries.c.subscription)
)
_IS_WAITING = deliveries.c.state == int(DeliveryState.WAITING)

_first = select(func.min(deliveries.c.host).label("host")).where(_IS_WAITING).cte("chosen", recursive=True)
_hosts = _first.union_all(
    select(
        select(func.min(deliveries.c.host)).where(_IS_WAITING, deliveries.c.host > _first.c.host).scalar_subquery()
    ).where(_first.c.host.is_not(None))
)
WAITING_HOSTS = Statement(select(_hosts.c.host).where(_hosts.c.host.is_not(None)))
"""The hosts that something waits for, by hops along the index: the cost does not depend on how much waits."""

NEXT_OF_HOST = Statement(
    _QUERY.where(_IS_WAITING, deliveries.c.host == given("of_host")).order_by(deliveries.c.due_at).limit(given("most"))
)
BY_ID = Statement(_QUERY.where(deliveries.c.id == given("key")))
OF_SUBSCRIPTION = Statement(
    _QUERY.where(
        deliveries.c.subscription == given("of"), deliveries.c.subscription > 0, deliveries.c.id <= given("start")
    )
    .order_by(deliveries.c.id.desc())
    .limit(given("most"))
)
BY_UID = Statement(_QUERY.where(deliveries.c.uid == given("of_uid")))
LOCK_STREAM = Statement(
    select(deliveries.c.id)
    .where(deliveries.c.stream == given("of_stream"), deliveries.c.stream > "")
    .order_by(deliveries.c.id)
    .with_for_update()
)
OF_STREAM = Statement(
    _QUERY.where(deliveries.c.stream == given("of_stream"), deliveries.c.stream > "").order_by(deliveries.c.id)
)
LEASE = Statement(
    update(deliveries)
    .where(deliveries.c.id == given("key"), _IS_WAITING, deliveries.c.due_at == given("seen"))
    .values(due_at=given("until"), lease=given("lease"), attempts=deliveries.c.attempts + 1)
)
POSTPONE = Statement(
    update(deliveries)
    .where(deliveries.c.id == given("key"), _IS_WAITING, deliveries.c.due_at == given("seen"))
    .values(due_at=given("until"), lease="")
)
END = Statement(
    update(deliveries)
    .where(deliveries.c.id == given("key"), _IS_WAITING, deliveries.c.lease == given("held"))
    .values(
        state=given("state"),
        due_at=given("due_at"),
        lease="",
        failures=given("failures"),
        error=given("error"),
        finished_at=given("finished_at"),
    )
)
SEND_AGAIN = Statement(
    update(deliveries)
    .where(deliveries.c.id == given("key"), deliveries.c.state != int(DeliveryState.WAITING))
    .values(state=int(DeliveryState.WAITING), due_at=given("at"), failures=0, finished_at=None)
)
NOTE_SECRET = Statement(
    update(deliveries)
    .where(deliveries.c.id == given("key"), deliveries.c.secret != given("used"))
    .values(secret=given("used"))
)
_counted = select(deliveries.c.id).where(deliveries.c.state == given("of_state")).limit(given("most")).subquery()
COUNT = Statement(select(func.count()).select_from(_counted))
ADD_TRY = insertion(delivery_attempts)
END_TRY = Statement(
    update(delivery_attempts)
    .where(delivery_attempts.c.delivery == given("of"), delivery_attempts.c.number == given("at_number"))
    .values(
        finished_at=given("finished_at"),
        status=given("status"),
        error=given("error"),
        request_body=given("request"),
        response_headers=given("headers"),
        response_body=given("body"),
    )
)
_TRY = (
    delivery_attempts.c.number,
    delivery_attempts.c.started_at,
    delivery_attempts.c.finished_at,
    delivery_attempts.c.status,
    delivery_attempts.c.error,
    delivery_attempts.c.request_body,
    delivery_attempts.c.response_headers,
    delivery_attempts.c.response_body,
)
TRIES = Statement(select(*_TRY).where(delivery_attempts.c.delivery == given("of")).order_by(delivery_attempts.c.number))
LAST_TRY = Statement(
    select(delivery_attempts.c.delivery, *_TRY)
    .where(delivery_attempts.c.delivery == given("of"))
    .order_by(delivery_attempts.c.number.desc())
    .limit(1)
)
DROP_OLD = Statement(
    delete(deliveries).where(
        deliveries.c.id.in_(
            select(deliveries.c.id)
            .where(deliveries.c.state == given("of_state"), deliveries.c.created_at < given("before"))
            .order_by(deliveries.c.id)
            .limit(given("most"))
        )
    )
)


def _list(*, by_project: bool, by_state: bool) -> Statement:
    query = _QUERY.where(deliveries.c.id < given("below"))
    if by_project:
        query = query.where(deliveries.c.project == given("within"), deliveries.c.subscription == 0)
    if by_state:
        query = query.where(deliveries.c.state == given("of_state"))
    return Statement(query.order_by(deliveries.c.id.desc()).limit(given("most")))


LISTS = {
    (by_project, by_state): _list(by_project=by_project, by_state=by_state)
    for by_project in (False, True)
    for by_state in (False, True)
}


def _subscribed(url: str | None, dialect: str) -> Rule | None:
    """A subscription as a rule; None if it was removed."""
    return None if url is None else Rule(target=WebhookTarget(url=url, dialect=dialect), condition=Condition.ALWAYS)


def _delivery(row: Row) -> Delivery:
    condition, action, target, rule_uid, group, subscription, url, dialect = row[20:]
    return Delivery(
        id=row[0],
        uid=row[1],
        project=row[2],
        project_slug=row[3],
        build=row[4],
        build_uid=row[5],
        restarts=row[6],
        event=Event(row[7]),
        kind=row[8],
        address=row[9],
        host=row[10],
        stream=row[11],
        state=DeliveryState(row[12]),
        due_at=row[13],
        lease=row[14],
        attempts=row[15],
        failures=row[16],
        error=row[17],
        created_at=row[18],
        finished_at=row[19],
        rule=_subscribed(url, dialect) if target is None else rule_of(condition, action, target),
        rule_uid=rule_uid,
        group=group,
        subscription=subscription or None,
    )


async def waiting_hosts(tx: Transaction) -> list[str]:
    """The hosts that something waits for, due or not."""
    return [row[0] for row in await tx.fetch(WAITING_HOSTS)]


async def next_of(tx: Transaction, counts: Mapping[str, int]) -> list[Delivery]:
    """The first so many of each host, earliest due first; not all of them are due, or free."""
    rows = await tx.fetch_many(NEXT_OF_HOST, [{"of_host": host, "most": most} for host, most in counts.items()])
    return [_delivery(row) for row in rows]


async def stream(tx: Transaction, name: str, *, lock: bool = False) -> list[Delivery]:
    """All messages of a stream; `lock` keeps other servers from taking any of them."""
    if lock:
        await tx.fetch(LOCK_STREAM, of_stream=name)
    return [_delivery(row) for row in await tx.fetch(OF_STREAM, of_stream=name)]


async def get(tx: Transaction, key: DeliveryId) -> Delivery | None:
    """The message with this id, unless it was deleted with its build."""
    row = await tx.fetch_one(BY_ID, key=key)
    return _delivery(row) if row else None


async def get_referred(tx: Transaction, reference: str) -> Delivery:
    """The message with this id or uid."""
    key = number_of(reference)
    row = await (tx.fetch_one(BY_UID, of_uid=reference) if key is None else tx.fetch_one(BY_ID, key=key))
    if row is None:
        raise NotFound("delivery not found")
    return _delivery(row)


async def page(
    tx: Transaction, project: ProjectId | None, state: DeliveryState | None, *, below: int, limit: int
) -> list[Delivery]:
    """Messages with ids below `below`, newest first. Those of users' webhooks are no project's business."""
    values: dict[str, int] = {"below": below, "most": limit}
    if project is not None:
        values["within"] = project
    if state is not None:
        values["of_state"] = int(state)
    return [_delivery(row) for row in await tx.fetch(LISTS[project is not None, state is not None], **values)]


async def page_of(tx: Transaction, subscription: SubscriptionId, *, start: int, limit: int) -> list[Delivery]:
    """Messages of a subscription with ids up to `start`, newest first."""
    return [_delivery(row) for row in await tx.fetch(OF_SUBSCRIPTION, of=subscription, start=start, most=limit)]


async def last_tries(tx: Transaction, found: Sequence[DeliveryId]) -> dict[DeliveryId, Try]:
    """The newest try of each of these that was tried at all."""
    rows = await tx.fetch_many(LAST_TRY, [{"of": key} for key in found])
    return {row[0]: _try(row[1:]) for row in rows}


async def tries_of(tx: Transaction, delivery: DeliveryId) -> list[Try]:
    """How its tries went, first to last."""
    return [_try(row) for row in await tx.fetch(TRIES, of=delivery)]


def _try(row: Row) -> Try:
    number, started_at, finished_at, status, error, request, headers, body = row
    return Try(
        number=number,
        started_at=started_at,
        finished_at=finished_at,
        status=status,
        error=error,
        request=request,
        headers=headers,
        body=body,
    )


async def lease(tx: Transaction, delivery: Delivery, lease: str, until: Moment) -> bool:
    """Take a message that is due, and note that a try begins; False if another server was first."""
    if not await tx.execute(LEASE, key=delivery.id, seen=delivery.due_at, until=until, lease=lease):
        return False
    await tx.execute(
        ADD_TRY,
        delivery=delivery.id,
        number=delivery.attempts + 1,
        started_at=tx.now,
        finished_at=None,
        status=0,
        error="",
        request_body="",
        response_headers="",
        response_body="",
    )
    return True


async def postpone(tx: Transaction, delivery: Delivery, until: Moment) -> None:
    """Look at a message that is due again later."""
    await tx.execute(POSTPONE, key=delivery.id, seen=delivery.due_at, until=until)


async def end(
    tx: Transaction,
    delivery: Delivery,
    lease: str,
    state: DeliveryState,
    *,
    due_at: Moment,
    failures: int,
    error: str,
) -> bool:
    """Say what became of a message held under `lease` (empty: nobody holds it); False if that is no longer so."""
    finished_at = None if state is DeliveryState.WAITING else tx.now
    changed = await tx.execute(
        END,
        key=delivery.id,
        held=lease,
        state=int(state),
        due_at=due_at,
        failures=failures,
        error=error,
        finished_at=finished_at,
    )
    if changed and state is not DeliveryState.WAITING:
        events.add(tx, state.word, "delivery", delivery.id, project=delivery.project, build=None)
        counters.bump(tx, "deliveries", 0, {f"{delivery.kind} {state.word}": 1})
    return bool(changed)


async def note_secret(tx: Transaction, delivery: DeliveryId, secret: int) -> bool:
    """Note that a message is sent with a secret; False if that was noted before."""
    return bool(await tx.execute(NOTE_SECRET, key=delivery, used=secret))


async def count(tx: Transaction, state: DeliveryState, most: int) -> int:
    """How many messages are in a state; counted along the index, and no further than to `most`."""
    row = await tx.fetch_one(COUNT, of_state=int(state), most=most)
    return int(row[0]) if row else 0


async def end_try(tx: Transaction, delivery: DeliveryId, ended: Try) -> None:
    """Note how a try went."""
    await tx.execute(
        END_TRY,
        of=delivery,
        at_number=ended.number,
        finished_at=tx.now,
        status=ended.status,
        error=ended.error,
        request=ended.request,
        headers=ended.headers,
        body=ended.body,
    )


async def send_again(tx: Transaction, delivery: Delivery) -> bool:
    """Send a message that has ended on its way once more; False if it still waits."""
    changed = await tx.execute(SEND_AGAIN, key=delivery.id, at=tx.now)
    if changed:
        events.add(tx, "queued", "delivery", delivery.id, project=delivery.project, build=None)
    return bool(changed)


async def drop_before(tx: Transaction, state: DeliveryState, before: Moment, count: int) -> int:
    """Delete at most `count` messages that ended so and are older than `before`, with their tries."""
    return await tx.execute(DROP_OLD, of_state=int(state), before=before, most=count)
