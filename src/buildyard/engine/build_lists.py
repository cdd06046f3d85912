"""Lists over all projects at once, of what the actor may see, with exact totals."""

import heapq
from collections.abc import Sequence
from itertools import islice

from buildyard.domain.access import Actor, Permission, may
from buildyard.domain.errors import Fault, Invalid
from buildyard.engine.projects import is_listed
from buildyard.store import audit, builds, projects
from buildyard.store.audit import Entry
from buildyard.store.builds import BuildView
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction

DEEPEST = 10_000
"""How far members of some projects only may page: their pages are merged from those of each project."""


async def list_visible_builds(tx: Transaction, actor: Actor, *, limit: int, offset: int) -> tuple[list[BuildView], int]:
    """A page of the builds of all projects that the actor sees, newest first, and the number of all."""
    if actor.administrator and Permission.READ in actor.allowed and actor.only_project is None:
        return await builds.page(tx, None, limit=limit, offset=offset)
    most = _deepest(limit, offset)
    pages = [
        await builds.page(tx, project.id, limit=most, offset=0)
        for project in await _projects(tx, actor, Permission.READ)
    ]
    merged = heapq.merge(*(views for views, _ in pages), key=lambda view: -view.build.id)
    return list(islice(merged, offset, offset + limit)), sum(total for _, total in pages)


async def list_visible_audit(
    tx: Transaction, actor: Actor, *, action: str | None, limit: int, offset: int
) -> tuple[list[Entry], int]:
    """A page of the audit log of the server, or of all projects whose audit log the actor may read."""
    if actor.administrator and Permission.READ_AUDIT in actor.allowed and actor.only_project is None:
        return await audit.search(tx, project=None, action=action, limit=limit, offset=offset)
    most = _deepest(limit, offset)
    pages = [
        await audit.search(tx, project=project.id, action=action, limit=most, offset=0)
        for project in await _projects(tx, actor, Permission.READ_AUDIT)
    ]
    merged = heapq.merge(*(entries for entries, _ in pages), key=lambda entry: entry.uid, reverse=True)
    return list(islice(merged, offset, offset + limit)), sum(total for _, total in pages)


def _deepest(limit: int, offset: int) -> int:
    if offset + limit > DEEPEST:
        message = f"offset and limit may reach {DEEPEST} at most; ask for one project instead"
        raise Invalid(message, (Fault("offset", message, "too_deep"),))
    return offset + limit


async def _projects(tx: Transaction, actor: Actor, permission: Permission) -> Sequence[Project]:
    return [
        project
        for project in await projects.search(tx, None)
        if may(actor, permission, project.owner) and is_listed(actor, project.owner)
    ]
