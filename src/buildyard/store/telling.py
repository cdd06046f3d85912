"""Writes a message to send for each rule that an event of a build meets, in the transaction of the event.

What happened is noted while the transaction runs and written at its end, so that the builds of one transaction
share their queries. A message is unique to rule, build, event and recipient: said again, nothing is added.

The end of a group of builds is told with that of its last build. Two last builds may end in two transactions at once,
so each takes the group's row before it looks at the others: the later one sees all of them ended. The message is that
of the group's first build, so that it is unique, too.
"""

from collections.abc import Iterator

import msgspec
from sqlalchemy import Integer, cast, select
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.builds import Build
from buildyard.domain.ids import BuildId, NotificationId, ProjectId, SubscriptionId
from buildyard.domain.notifications import (
    STAGE,
    SUBMITTER,
    EmailTarget,
    Event,
    Rule,
    StatusTarget,
    Target,
    WebhookTarget,
    action_of,
    host_of,
    is_comparing,
    is_mail_address,
    is_wanted,
    result_of_group,
    stream_of,
    tells_start,
)
from buildyard.domain.sources import is_exact
from buildyard.domain.states import Phase, Result
from buildyard.store import events
from buildyard.store.notifications import OF_BUILD, rule_of
from buildyard.store.statements import Row, Statement, Value, given
from buildyard.store.tables import (
    builds,
    deliveries,
    group_builds,
    groups,
    pipelines,
    revisions,
    subscriptions,
    users,
)
from buildyard.store.transactions import Transaction

TOPIC = "deliveries"
"""What is woken when there is something to send."""

LOOK_BACK = 200
"""How many earlier builds are looked through for the one to compare with."""

FACTS = Statement(
    select(pipelines.c.slug, revisions.c.branch, revisions.c.commit, users.c.email)
    .select_from(
        builds.join(pipelines, pipelines.c.id == builds.c.pipeline)
        .outerjoin(revisions, revisions.c.id == builds.c.revision)
        .outerjoin(users, users.c.id == builds.c.submitter)
    )
    .where(builds.c.id == given("key"))
)
BEFORE = Statement(
    select(builds.c.result, revisions.c.branch)
    .select_from(builds.outerjoin(revisions, revisions.c.id == builds.c.revision))
    .where(builds.c.pipeline == given("of"), builds.c.name == given("called"), builds.c.id < given("below"))
    .order_by(builds.c.id.desc())
    .limit(given("most"))
)
ADD = Statement(insert(deliveries).values({c.name: given(c.name) for c in deliveries.columns}).on_conflict_do_nothing())
LOCK_GROUP = Statement(select(groups.c.id).where(groups.c.id == given("key")).with_for_update())
OF_GROUP = Statement(
    select(builds.c.id, builds.c.project, builds.c.phase, builds.c.result, users.c.email)
    .select_from(
        group_builds.join(builds, builds.c.id == group_builds.c.build).outerjoin(
            users, users.c.id == builds.c.submitter
        )
    )
    .where(group_builds.c.group == given("key"))
    .order_by(group_builds.c.build)
)
SUBSCRIBERS = Statement(
    select(
        cast(given("build"), Integer),
        builds.c.project,
        builds.c.restarts,
        subscriptions.c.id,
        subscriptions.c.events,
        subscriptions.c.url,
    )
    .select_from(builds.join(subscriptions, subscriptions.c.user == builds.c.submitter))
    .where(builds.c.id == given("build"))
)
"""What the submitter of a build has subscribed to, with the build's id, as for rules."""

_UNCOMPARED = frozenset({None, int(Result.CANCELLED), int(Result.SKIPPED)})


def note(tx: Transaction, build: Build, event: Event) -> None:
    """Note that a build has started or finished; what is to be told of it is written with the transaction."""
    tx.pending_news[build.id, event] = build


def note_move(tx: Transaction, before: Build, after: Build) -> None:
    """Note for subscriptions that a build has moved, if it shows."""
    if STAGE[after.state.phase] is not STAGE[before.state.phase]:
        note_update(tx, after.id)


def note_update(tx: Transaction, build: BuildId, event: Event = Event.UPDATED) -> None:
    """Note for subscriptions that a build was made, or has changed; what happens to a new one is part of its making."""
    if tx.pending_updates.get(build) != Event.CREATED:
        tx.pending_updates[build] = str(event)


async def write(tx: Transaction) -> None:
    """Write the messages to rules for all that was noted."""
    noted = sorted(tx.pending_news.items())
    tx.pending_news = {}
    asked = {build.id: build for _, build in noted}
    ended = {key for (key, event), _ in noted if event == Event.FINISHED}
    rows = await tx.fetch_many(OF_BUILD, [_owners(asked[key]) for key in sorted(asked)])
    rules: dict[int, list[tuple[NotificationId, Rule]]] = {}
    of_groups: dict[int, dict[NotificationId, Rule]] = {}
    for build, key, condition, action, target, group in rows:
        if not group:
            rules.setdefault(build, []).append((key, rule_of(condition, action, target)))
        elif build in ended:
            of_groups.setdefault(group, {})[key] = rule_of(condition, action, target)
    for (key, event), build in noted:
        if key in rules:
            await _write_for(tx, build, Event(event), rules[key])
    for group, found in sorted(of_groups.items()):
        await _write_for_group(tx, group, found)


async def _write_for_group(tx: Transaction, group: int, rules: dict[NotificationId, Rule]) -> None:
    """Tell the end of a group, if this is it."""
    await tx.fetch(LOCK_GROUP, key=group)
    members = await tx.fetch(OF_GROUP, key=group)
    if any(phase != Phase.FINISHED for _, _, phase, _, _ in members):
        return
    result = result_of_group(Result(result) for _, _, _, result, _ in members)
    build, project, _, _, submitter = members[0]
    for key, rule in sorted(rules.items()):
        if is_wanted(rule.condition, result, None):
            for address in _recipients(rule, submitter or ""):
                about: dict[str, Value] = {
                    "project": project,
                    "build": build,
                    "restarts": 0,
                    "event": str(Event.FINISHED),
                }
                await _add(tx, about, rule.target, notification=key, address=address)


async def write_updates(tx: Transaction) -> None:
    """Write the messages to subscriptions for all that was noted."""
    noted = tx.pending_updates
    tx.pending_updates = {}
    for build, project, restarts, key, wanted, url in await tx.fetch_many(
        SUBSCRIBERS, [{"build": build} for build in sorted(noted)]
    ):
        event = noted[build]
        if event in msgspec.json.decode(wanted, type=list[str]):
            about: dict[str, Value] = {"project": project, "build": build, "restarts": restarts, "event": event}
            await _add(tx, about, WebhookTarget(url=url), subscription=key, moment=tx.now)


def _owners(build: Build) -> dict[str, Value]:
    return {"build": build.id, "pipeline": build.pipeline, "project": build.project}


async def _write_for(tx: Transaction, build: Build, event: Event, rules: list[tuple[NotificationId, Rule]]) -> None:
    facts = await tx.fetch_one(FACTS, key=build.id)
    assert facts is not None
    before = None
    if event is Event.FINISHED and any(is_comparing(rule.condition) for _, rule in rules):
        before = await _before(tx, build, facts[1] or "")
    for key, rule in rules:
        if not _is_told(build, event, rule, facts, before):
            continue
        stream = stream_of(rule.target, facts[2] or "", facts[0])
        about = _about(build, event)
        for address in _recipients(rule, facts[3] or ""):
            await _add(tx, about, rule.target, notification=key, address=address, stream=stream)


def _about(build: Build, event: Event) -> dict[str, Value]:
    return {"project": build.project, "build": build.id, "restarts": build.restarts, "event": str(event)}


def _is_told(build: Build, event: Event, rule: Rule, facts: Row, before: Result | None) -> bool:
    """Whether a rule tells this event; a status needs a commit that is known exactly."""
    if isinstance(rule.target, StatusTarget) and not is_exact(facts[2] or ""):
        return False
    if event is Event.STARTED:
        return tells_start(rule.target)
    return build.state.result is not None and is_wanted(rule.condition, build.state.result, before)


def _recipients(rule: Rule, submitter: str) -> Iterator[str]:
    """Each gets a message of its own, so that one that is refused leaves the others alone."""
    if not isinstance(rule.target, EmailTarget):
        yield ""
        return
    named = [submitter if each == SUBMITTER else each for each in rule.target.recipients]
    yield from (each for each in dict.fromkeys(named) if is_mail_address(each))


async def _before(tx: Transaction, build: Build, branch: str) -> Result | None:
    """How the build before this one ended, on the same branch, cancelled and unfinished ones left out."""
    rows = await tx.fetch(BEFORE, of=build.pipeline, called=build.name, below=build.id, most=LOOK_BACK)
    return next((Result(result) for result, of in rows if result not in _UNCOMPARED and (of or "") == branch), None)


async def _add(
    tx: Transaction,
    about: dict[str, Value],
    target: Target,
    *,
    notification: NotificationId | int = 0,
    subscription: SubscriptionId | int = 0,
    moment: int = 0,
    address: str = "",
    stream: str = "",
) -> None:
    """Add a message for a rule or a subscription; `about` says which event of which build it tells."""
    (delivery,) = await tx.allocate("deliveries")
    await tx.execute(
        ADD,
        **about,
        id=delivery,
        uid=tx.fresh_uid(),
        notification=notification,
        subscription=subscription,
        moment=moment,
        kind=str(action_of(target)),
        address=address,
        host=host_of(target),
        stream=stream,
        state=0,
        due_at=tx.now,
        lease="",
        attempts=0,
        failures=0,
        error="",
        secret=0,
        created_at=tx.now,
        finished_at=None,
    )
    project = about["project"]
    assert isinstance(project, int)
    events.add(tx, "queued", "delivery", delivery, project=ProjectId(project), build=None)
    tx.wake(TOPIC)
