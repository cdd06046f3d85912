"""Rules of telling: of a project, of one of its pipelines, or of one build."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from sqlalchemy import Integer, and_, cast, delete, literal, or_, select, union_all

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, GroupId, Moment, NotificationId, PipelineId, ProjectId, Uid
from buildyard.domain.notifications import (
    Action,
    Condition,
    EmailTarget,
    Rule,
    StatusTarget,
    Target,
    WebhookTarget,
    action_of,
)
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import group_builds, notifications, pipelines
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A rule as stored; `pipeline`, `build` and `group` narrow it to these. `defined_by`: the API or file behind it."""

    id: NotificationId
    uid: Uid
    project: ProjectId
    pipeline: PipelineId | None
    pipeline_slug: str
    build: BuildId | None
    group: GroupId | None
    rule: Rule
    defined_by: str
    created_by: str
    created_at: Moment


OF_MANIFESTS = "manifest"
"""Who makes rules of single builds and groups by the thousands, which no list of a project's rules shows."""

_COLUMNS = (
    notifications.c.id,
    notifications.c.uid,
    notifications.c.project,
    notifications.c.pipeline,
    pipelines.c.slug,
    notifications.c.build,
    notifications.c.group,
    notifications.c.condition,
    notifications.c.action,
    notifications.c.target,
    notifications.c.defined_by,
    notifications.c.created_by,
    notifications.c.created_at,
)
_QUERY = select(*_COLUMNS).select_from(notifications.outerjoin(pipelines, pipelines.c.id == notifications.c.pipeline))
ADD = insertion(notifications)
BY_ID = Statement(_QUERY.where(notifications.c.id == given("key")))
BY_UID = Statement(_QUERY.where(notifications.c.uid == given("of_uid")))
OF_PROJECT = Statement(
    _QUERY.where(notifications.c.project == given("within"), notifications.c.defined_by != OF_MANIFESTS)
    .order_by(notifications.c.id)
    .limit(given("most"))
)
REMOVE = Statement(delete(notifications).where(notifications.c.id == given("key")))
LOCK_PIPELINE = Statement(select(pipelines.c.id).where(pipelines.c.id == given("key")).with_for_update(key_share=True))
OF_FILE = Statement(
    _QUERY.where(
        notifications.c.pipeline == given("of"),
        notifications.c.build.is_(None),
        notifications.c.defined_by == given("maker"),
    )
)
OF_GROUP = Statement(_QUERY.where(notifications.c.group == given("of")).order_by(notifications.c.id))
OF_GROUPS = Statement(
    select(notifications.c.group, notifications.c.condition, notifications.c.action, notifications.c.target)
    .where(notifications.c.group == given("of"))
    .order_by(notifications.c.id)
)
OF_ONE = Statement(_QUERY.where(notifications.c.build == given("of")).order_by(notifications.c.id))
_RULE = (
    cast(given("build"), Integer),
    notifications.c.id,
    notifications.c.condition,
    notifications.c.action,
    notifications.c.target,
)
OF_BUILD = Statement(
    union_all(
        select(*_RULE, literal(0)).where(
            or_(
                notifications.c.build == given("build"),
                and_(notifications.c.pipeline == given("pipeline"), notifications.c.build.is_(None)),
                and_(
                    notifications.c.project == given("project"),
                    notifications.c.pipeline.is_(None),
                    notifications.c.build.is_(None),
                    notifications.c.group.is_(None),
                ),
            )
        ),
        select(*_RULE, group_builds.c.group)
        .select_from(group_builds.join(notifications, notifications.c.group == group_builds.c.group))
        .where(group_builds.c.build == given("build")),
    )
)
"""The rules for a build, each with the build's id, so that those of many builds can be asked for in one trip.

Those of the groups that it is in come with the group, all others with 0.
"""

_TARGETS = {Action.EMAIL: EmailTarget, Action.WEBHOOK: WebhookTarget, Action.STATUS: StatusTarget}


def rule_of(condition: str, action: str, target: str) -> Rule:
    """A rule from its columns."""
    decoded: Target = msgspec.json.decode(target, type=_TARGETS[Action(action)])
    return Rule(target=decoded, condition=Condition(condition))


def number_of(reference: str) -> int | None:
    """The id that people type; None for what is no id."""
    is_id = reference.isascii() and reference.isdecimal() and len(reference) < 10
    return int(reference) if is_id else None


def _notification(row: Row) -> Notification:
    key, uid, project, pipeline, slug, build, group, condition, action, target, defined_by, created_by, at = row
    return Notification(
        id=key,
        uid=uid,
        project=project,
        pipeline=pipeline,
        pipeline_slug=slug or "",
        build=build,
        group=group,
        rule=rule_of(condition, action, target),
        defined_by=defined_by,
        created_by=created_by,
        created_at=at,
    )


async def add(
    tx: Transaction,
    rule: Rule,
    *,
    project: ProjectId,
    pipeline: PipelineId | None,
    build: BuildId | None,
    defined_by: str,
    created_by: str,
    group: GroupId | None = None,
) -> Uid:
    """Keep a rule; its uid. One of a `group` is for the end of that, not for those of its builds."""
    (key,) = await tx.allocate("notifications")
    uid = Uid(tx.fresh_uid())
    await tx.execute(
        ADD,
        id=key,
        uid=uid,
        project=project,
        pipeline=pipeline,
        build=build,
        group=group,
        condition=str(rule.condition),
        action=str(action_of(rule.target)),
        target=msgspec.json.encode(rule.target).decode(),
        defined_by=defined_by,
        created_by=created_by,
        created_at=tx.now,
    )
    return uid


async def get(tx: Transaction, reference: str) -> Notification:
    """The rule with this id or uid."""
    key = number_of(reference)
    row = await (tx.fetch_one(BY_UID, of_uid=reference) if key is None else tx.fetch_one(BY_ID, key=key))
    if row is None:
        raise NotFound("notification not found")
    return _notification(row)


async def of_project(tx: Transaction, project: ProjectId, limit: int) -> list[Notification]:
    """A project's rules and those of its pipelines and builds, oldest first, but for those of manifests."""
    return [_notification(row) for row in await tx.fetch(OF_PROJECT, within=project, most=limit)]


async def remove(tx: Transaction, key: NotificationId) -> None:
    """Forget a rule; what waits to be sent for it is dropped by the sender."""
    await tx.execute(REMOVE, key=key)


async def of_file(tx: Transaction, pipeline: PipelineId, defined_by: str, *, lock: bool = False) -> list[Notification]:
    """The rules of a pipeline that one API or file made; `lock` keeps others from changing them so."""
    if lock:
        await tx.fetch(LOCK_PIPELINE, key=pipeline)
    return [_notification(row) for row in await tx.fetch(OF_FILE, of=pipeline, maker=defined_by)]


async def of_group(tx: Transaction, group: GroupId) -> list[Notification]:
    """The rules of a group of builds, oldest first."""
    return [_notification(row) for row in await tx.fetch(OF_GROUP, of=group)]


async def of_groups(tx: Transaction, keys: Iterable[GroupId]) -> list[tuple[GroupId, Rule]]:
    """The rules of these groups, oldest first."""
    rows = await tx.fetch_many(OF_GROUPS, [{"of": key} for key in keys])
    return [(row[0], rule_of(*row[1:])) for row in rows]


async def of_one_build(tx: Transaction, build: BuildId) -> list[Notification]:
    """The rules that are for one build only, oldest first."""
    return [_notification(row) for row in await tx.fetch(OF_ONE, of=build)]
