"""What people and tokens did."""

from buildyard.domain.access import Actor, Permission, require, require_global
from buildyard.store import audit, projects
from buildyard.store.audit import Entry
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
