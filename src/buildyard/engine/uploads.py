"""Uploaded folders: who sent one may build it, until the grace time of unused blobs is over.

Knowing the digest of somebody's bytes is no right to them, so an upload is answered with a receipt that only the
server can write: a MAC over the digest, the size and the user.
"""

import hmac
import secrets
from collections.abc import AsyncIterable
from dataclasses import dataclass

from buildyard.domain.access import Actor, require_runner
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import Sha256
from buildyard.domain.specs import FolderSource
from buildyard.engine.engine import Engine
from buildyard.engine.files import store_blob
from buildyard.store import kept, settings
from buildyard.store.transactions import Transaction

KEY = "upload_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A stored folder, and the proof of who sent it."""

    folder: FolderSource
    receipt: str


async def store_upload(engine: Engine, actor: Actor, data: AsyncIterable[bytes]) -> Upload:
    """Keep a packed folder for the submission that follows."""
    require_runner(actor)
    info = await store_blob(engine, actor, data, limit=engine.policy.upload_bytes)
    folder = FolderSource(sha256=info.sha256, size=info.size)
    return Upload(folder=folder, receipt=await engine.run(_sign, actor, folder))


async def _sign(tx: Transaction, actor: Actor, folder: FolderSource) -> str:
    return _mac(await settings.find_or_add(tx, KEY, secrets.token_hex(32)), actor, folder)


def _mac(key: str, actor: Actor, folder: FolderSource) -> str:
    who = actor.kind.value if actor.user is None else str(actor.user)
    return hmac.digest(bytes.fromhex(key), f"{who}/{folder.sha256}/{folder.size}".encode(), "sha256").hex()


async def use_upload(tx: Transaction, actor: Actor, upload: Upload) -> FolderSource:
    """The folder of an upload that this actor made; it is kept for another grace time. NotFound for any other."""
    key = await settings.find(tx, KEY)
    folder = upload.folder
    if key is None or not hmac.compare_digest(_mac(key, actor, folder).encode(), upload.receipt.encode()):
        raise NotFound("the folder was not uploaded by you: upload it first")
    if not await kept.knows_blob(tx, Sha256(folder.sha256)):
        raise NotFound("the uploaded folder has been removed: upload it again")
    await kept.refer_to_blob(tx, Sha256(folder.sha256), references=0)
    return folder
