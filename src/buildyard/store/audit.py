"""What people and tokens did, written in the transaction of the act and kept for years."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from buildyard.domain.access import Actor
from buildyard.domain.ids import Moment, ProjectId, Uid, UserId
from buildyard.store import counters
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import audit, projects
from buildyard.store.transactions import Transaction

ADD = insertion(audit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One act: by whom, on what, why; `details` are facts of the act."""

    id: int
    uid: Uid
    at: Moment
    actor: str
    action: str
    resource: str
    resource_id: str
    project: Uid | None
    project_slug: str
    reason: str
    ip: str
    agent: str
    details: dict[str, object]


async def add(
    tx: Transaction,
    actor: Actor,
    action: str,
    resource_id: str | int,
    *,
    project: ProjectId | None = None,
    reason: str = "",
    details: Mapping[str, object] | None = None,
) -> None:
    """Note that `actor` did `action` (`build.cancel`; the part before the dot is the kind of resource)."""
    (entry,) = await tx.allocate("audit")
    await tx.execute(
        ADD,
        id=entry,
        uid=tx.fresh_uid(),
        at=tx.now,
        actor=actor.name,
        user=actor.user,
        action=action,
        resource=action.partition(".")[0],
        resource_id=str(resource_id),
        project=project,
        reason=reason,
        ip=actor.ip,
        agent=actor.agent,
        details=json.dumps(details or {}, separators=(",", ":")),
    )
    counters.bump(tx, "audit", 0, {"total": 1, action: 1})
    if project is not None:
        counters.bump(tx, "audit", project, {"total": 1, action: 1})


_COLUMNS = (
    audit.c.uid,
    audit.c.at,
    audit.c.actor,
    audit.c.action,
    audit.c.resource,
    audit.c.resource_id,
    projects.c.uid,
    audit.c.reason,
    audit.c.ip,
    audit.c.details,
    audit.c.id,
    audit.c.agent,
    projects.c.slug,
)
NEWEST = 2**31 - 1
"""Above every id."""


def _search(*, by_project: bool, by_action: bool) -> Statement:
    query = select(*_COLUMNS).select_from(audit.outerjoin(projects, projects.c.id == audit.c.project))
    if by_project:
        query = query.where(audit.c.project == given("of_project"))
    if by_action:
        query = query.where(audit.c.action == given("of_action"))
    return Statement(query.order_by(audit.c.id.desc()).limit(given("most")).offset(given("skip")))


SEARCH = {
    (by_project, by_action): _search(by_project=by_project, by_action=by_action)
    for by_project in (False, True)
    for by_action in (False, True)
}


def _page(*, by_project: bool, by_action: bool, by_user: bool) -> Statement:
    query = select(*_COLUMNS).select_from(audit.outerjoin(projects, projects.c.id == audit.c.project))
    if by_project:
        query = query.where(audit.c.project == given("of_project"))
    if by_action:
        query = query.where(audit.c.action == given("of_action"))
    if by_user:
        query = query.where(audit.c.user == given("by_user"))
    return Statement(query.where(audit.c.id < given("before")).order_by(audit.c.id.desc()).limit(given("most")))


PAGE = {
    (by_project, by_action, by_user): _page(by_project=by_project, by_action=by_action, by_user=by_user)
    for by_project in (False, True)
    for by_action in (False, True)
    for by_user in (False, True)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries: of a project, an action, a user; each None for any."""

    project: ProjectId | None = None
    action: str | None = None
    user: UserId | None = None


def _entry(row: Row) -> Entry:
    uid, at, actor, action, resource, resource_id, project, reason, ip, details, key, agent, slug = row
    return Entry(
        id=key,
        uid=uid,
        at=at,
        actor=actor,
        action=action,
        resource=resource,
        resource_id=resource_id,
        project=project,
        project_slug=slug or "",
        reason=reason,
        ip=ip,
        agent=agent,
        details=json.loads(details or "{}"),
    )


async def search(
    tx: Transaction, *, project: ProjectId | None, action: str | None, limit: int, offset: int
) -> tuple[list[Entry], int]:
    """A page of entries, newest first, and the number of all that match."""
    values: dict[str, int | str] = {"most": limit, "skip": offset}
    if project is not None:
        values["of_project"] = project
    if action is not None:
        values["of_action"] = action
    rows = await tx.fetch(SEARCH[project is not None, action is not None], **values)
    total = await counters.value(tx, "audit", project or 0, action or "total")
    return [_entry(row) for row in rows], total


async def page(tx: Transaction, wanted: Filter, *, before: int = NEWEST, limit: int) -> list[Entry]:
    """Entries with ids below `before`, newest first."""
    values: dict[str, int | str] = {"before": before, "most": limit}
    if wanted.project is not None:
        values["of_project"] = wanted.project
    if wanted.action is not None:
        values["of_action"] = wanted.action
    if wanted.user is not None:
        values["by_user"] = wanted.user
    statement = PAGE[wanted.project is not None, wanted.action is not None, wanted.user is not None]
    return [_entry(row) for row in await tx.fetch(statement, **values)]
