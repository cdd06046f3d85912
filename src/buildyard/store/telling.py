"""Writes a message to send for each rule that an event of a build meets, in the transaction of the event.

What happened is noted while the transaction runs and written at its end, so that the builds of one transaction
share their queries. A message is unique to rule, build, event and recipient: said again, nothing is added.
"""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.builds import Build
from buildyard.domain.ids import BuildId, NotificationId
from buildyard.domain.notifications import (
    SUBMITTER,
    EmailTarget,
    Event,
    Rule,
    StatusTarget,
    action_of,
    host_of,
    is_comparing,
    is_mail_address,
    is_wanted,
    stream_of,
    tells_start,
)
from buildyard.domain.sources import is_exact
from buildyard.domain.states import Result
from buildyard.store import events
from buildyard.store.notifications import OF_BUILD, rule_of
from buildyard.store.statements import Row, Statement, Value, given
from buildyard.store.tables import builds, deliveries, pipelines, revisions, users
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
_UNCOMPARED = frozenset({None, int(Result.CANCELLED), int(Result.SKIPPED)})


def note(tx: Transaction, build: Build, event: Event) -> None:
    """Note that a build has started or finished; what is to be told of it is written with the transaction."""
    tx.pending_news[build.id, event] = build


async def write(tx: Transaction) -> None:
    """Write the messages for all that was noted."""
    noted = sorted(tx.pending_news.items())
    tx.pending_news = {}
    asked = {build.id: build for _, build in noted}
    rows = await tx.fetch_many(OF_BUILD, [_owners(asked[key]) for key in sorted(asked)])
    rules: dict[int, list[tuple[NotificationId, Rule]]] = {}
    for build, key, condition, action, target in rows:
        rules.setdefault(build, []).append((key, rule_of(condition, action, target)))
    for (key, event), build in noted:
        if key in rules:
            await _write_for(tx, build, Event(event), rules[key])


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
        for address in _recipients(rule, facts[3] or ""):
            await _add(tx, build, event, key, rule, facts, address)


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
    named = [submitter if each == SUBMITTER else each for each in rule.target.to]
    yield from (each for each in dict.fromkeys(named) if is_mail_address(each))


async def _before(tx: Transaction, build: Build, branch: str) -> Result | None:
    """How the build before this one ended, on the same branch, cancelled and unfinished ones left out."""
    rows = await tx.fetch(BEFORE, of=build.pipeline, called=build.name, below=build.id, most=LOOK_BACK)
    return next((Result(result) for result, of in rows if result not in _UNCOMPARED and (of or "") == branch), None)


async def _add(
    tx: Transaction, build: Build, event: Event, key: NotificationId, rule: Rule, facts: Row, address: str
) -> None:
    (delivery,) = await tx.allocate("deliveries")
    await tx.execute(
        ADD,
        id=delivery,
        uid=tx.fresh_uid(),
        notification=key,
        project=build.project,
        build=BuildId(build.id),
        restarts=build.restarts,
        event=str(event),
        kind=str(action_of(rule.target)),
        address=address,
        host=host_of(rule.target),
        stream=stream_of(rule.target, facts[2] or "", facts[0]),
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
    events.add(tx, "queued", "delivery", delivery, project=build.project, build=None)
    tx.wake(TOPIC)
