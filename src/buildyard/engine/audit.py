"""What people and tokens did."""

import heapq
from dataclasses import replace
from itertools import islice

from buildyard.domain.access import Actor, Permission, may, may_on_server, require, require_global
from buildyard.domain.errors import Fault, Invalid, NotFound
from buildyard.engine.projects import is_listed
from buildyard.store import audit, identity, projects
from buildyard.store.audit import Entry, Filter
from buildyard.store.transactions import Transaction

ACTIONS = (
    "build.approve",
    "build.cancel",
    "build.create",
    "build.keep",
    "build.reject",
    "build.retry",
    "build.unkeep",
    "image.create",
    "project.create",
    "retention.set",
    "server.gc",
    "secret.create",
    "secret.delete",
    "secret.rotate",
    "secret.update",
    "secret.use",
    "step.claim",
    "step.complete",
    "token.create",
    "token.revoke",
    "user.create",
    "user.password",
    "worker.drain",
    "worker.pause",
    "worker.remove",
    "worker.resume",
    "workflow.create",
)
"""Every action that the audit log may name."""


async def list_audit(
    tx: Transaction, actor: Actor, *, project_uid: str | None, action: str | None, limit: int, offset: int
) -> tuple[list[Entry], int]:
    """A page of the audit log, newest first, of one project or of the whole server, and the number of all."""
    if project_uid is None:
        require_global(actor, Permission.READ_AUDIT, "read the server's audit log")
        return await audit.search(tx, project=None, action=action, limit=limit, offset=offset)
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.READ_AUDIT, project.owner, "project")
    return await audit.search(tx, project=project.id, action=action, limit=limit, offset=offset)


async def read_audit(
    tx: Transaction,
    actor: Actor,
    *,
    project: str = "",
    action: str = "",
    user: str = "",
    before: int = audit.NEWEST,
    limit: int,
) -> list[Entry]:
    """Entries with ids below `before`, newest first: all of the server, or of the projects that the actor administers.

    `project` (a slug), `action` and `user` (a name) narrow that.
    """
    if action and action not in ACTIONS:
        message = f"there is no action {action!r}; there are {', '.join(ACTIONS)}"
        raise Invalid(message, (Fault("action", message, "unknown_action"),))
    who = await identity.find_user(tx, user) if user else None
    whole = may_on_server(actor, Permission.READ_AUDIT)
    if user and who is None:
        if whole:
            raise NotFound(f"user {user} not found")
        return []
    wanted = Filter(action=action or None, user=who.id if who else None)
    if project:
        found = await projects.find_by_slug(tx, project)
        if found is None or not may(actor, Permission.READ_AUDIT, found.owner):
            raise NotFound(f"project {project} not found")
        return await audit.page(tx, replace(wanted, project=found.id), before=before, limit=limit)
    if whole:
        return await audit.page(tx, wanted, before=before, limit=limit)
    pages = [
        await audit.page(tx, replace(wanted, project=one.id), before=before, limit=limit)
        for one in await projects.search(tx, None)
        if may(actor, Permission.READ_AUDIT, one.owner) and is_listed(actor, one.owner)
    ]
    return list(islice(heapq.merge(*pages, key=lambda entry: -entry.id), limit))
