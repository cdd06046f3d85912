"""What a worker of one project has sent. Knowing the digest of somebody's bytes is no right to them.

A worker that is bound to a project may name bytes as a result only if its project has them, or with the receipt that
the server wrote when it sent them: a MAC over the project, the digest and the size.
"""

import hmac
import secrets

from buildyard.domain.access import Actor, require_worker
from buildyard.domain.ids import ProjectId, Sha256
from buildyard.protocol import OutputFile, SavedCache
from buildyard.store import kept, settings
from buildyard.store.transactions import Transaction

KEY = "receipt_key"


async def write_receipt(tx: Transaction, actor: Actor, sha256: Sha256, size: int) -> str:
    """The receipt for bytes that a worker has just sent; none for a worker of all projects, which needs none."""
    require_worker(actor)
    if actor.only_project is None:
        return ""
    key = await settings.find_or_add(tx, KEY, secrets.token_hex(32))
    return _mac(key, actor.only_project, sha256, size)


async def may_name(tx: Transaction, actor: Actor, named: OutputFile | SavedCache) -> bool:
    """Whether a worker may name these bytes as a result."""
    if actor.only_project is None or await kept.is_of_project(tx, Sha256(named.sha256), actor.only_project):
        return True
    key = await settings.find(tx, KEY)
    if key is None:
        return False
    wanted = _mac(key, actor.only_project, Sha256(named.sha256), named.size)
    return hmac.compare_digest(wanted.encode(), named.receipt.encode())


def _mac(key: str, project: ProjectId, sha256: Sha256, size: int) -> str:
    return hmac.digest(bytes.fromhex(key), f"{project}/{sha256}/{size}".encode(), "sha256").hex()
