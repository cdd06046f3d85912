"""Changing the key that secrets are encrypted with, in rounds, so that a crash at any moment loses nothing.

The new key is in the file before the database names it; the old one stays in the file until no secret needs it.
"""

import asyncio
from dataclasses import dataclass

import structlog

from buildyard.domain.access import SYSTEM, Actor, Permission, require_global
from buildyard.domain.errors import Conflict, EngineError, Unavailable
from buildyard.engine.engine import Engine
from buildyard.engine.keyring import Keyring, add_key, changing, drop_keys
from buildyard.store import audit, secrets, settings
from buildyard.store.secrets import Sealed
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

KEY = "secrets.key"
RETIRED = "secrets.retired_keys"
ROUND = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What a rotation came to: the new key, how many secrets use it now, how many could not be read."""

    key: str
    rewritten: int
    damaged: int


async def key_in_use(tx: Transaction, _actor: Actor) -> str | None:
    """The id of the key that new secrets are encrypted with; None on a server that is new."""
    return await settings.find(tx, KEY)


async def retired_keys(tx: Transaction, _actor: Actor) -> list[str]:
    """The keys that were in use before and are not known to be needless."""
    return (await settings.find(tx, RETIRED) or "").split()


async def check_may_rotate(tx: Transaction, actor: Actor) -> None:  # noqa: ARG001 - every use-case has a transaction
    """Raise unless the actor may change the key."""
    require_global(actor, Permission.MANAGE_SERVER, "change the key of secrets")


async def take_key_into_use(tx: Transaction, actor: Actor, key: str, *, seen: str) -> None:
    """Have new secrets encrypted with `key`; raises Conflict if the key in use is not the one seen."""
    require_global(actor, Permission.MANAGE_SERVER, "change the key of secrets")
    retired = await settings.find_or_add(tx, RETIRED, "")
    if not await settings.change(tx, KEY, seen=seen, value=key) or not await settings.change(
        tx, RETIRED, seen=retired, value=" ".join([*retired.split(), seen])
    ):
        raise Conflict("another server changed the key at the same moment")
    await audit.add(tx, actor, "secret.rotate", key, details={"from": seen})


async def _name_key(tx: Transaction, _actor: Actor, key: str) -> str:
    return await settings.find_or_add(tx, KEY, key)


async def reseal_some(tx: Transaction, _actor: Actor, keys: Keyring, old: str, after: int) -> tuple[int, int, int]:
    """A round: encrypt some secrets beyond `after` anew. How many, how many failed, the last one (0: no more)."""
    key = await settings.find(tx, KEY, hold=True)
    assert key is not None
    found = await secrets.of_key(tx, old, after=after, count=ROUND)
    sealed: dict[int, Sealed] = {}
    for secret, uid, data in found:
        try:
            sealed[secret] = Sealed(key=key, data=keys.seal(key, uid, keys.unseal(old, uid, data)))
        except Unavailable as exc:
            log.error("secret_not_readable", secret=uid, key=old, error=str(exc))
    await secrets.reseal(tx, sealed)
    return len(sealed), len(found) - len(sealed), found[-1][0] if found else 0


async def _needless_keys(tx: Transaction, actor: Actor) -> set[str]:
    """The retired keys that no secret needs. None will ever again: `take_key_into_use` saw to that."""
    return {key for key in await retired_keys(tx, actor) if not await secrets.is_key_used(tx, key)}


async def _forget_keys(tx: Transaction, actor: Actor, gone: set[str]) -> None:
    retired = await retired_keys(tx, actor)
    kept = [key for key in retired if key not in gone]
    await settings.change(tx, RETIRED, seen=" ".join(retired), value=" ".join(kept))


async def rotate_key(engine: Engine, actor: Actor) -> Rotation:
    """Take a new key into use, encrypt every secret with it, and remove the old one from the file.

    A key that the file holds and that was never in use is taken; else one is made.
    """
    await engine.read(check_may_rotate, actor)
    path = engine.keys.path
    if path is None:
        raise Unavailable("this server has no key file for secrets")
    with changing(path):
        seen = await engine.read(key_in_use, SYSTEM) or ""
        engine.keys.require(seen)
        known = {seen, *await engine.read(retired_keys, SYSTEM)}
        waiting = [key for key in engine.keys.ids() if key not in known]
        new = waiting[0] if waiting else await asyncio.to_thread(add_key, path)
        engine.keys.require(new)
        await engine.run(take_key_into_use, actor, new, seen=seen)
        rewritten, damaged = await _finish(engine)
    return Rotation(key=new, rewritten=rewritten, damaged=damaged)


async def _finish(engine: Engine) -> tuple[int, int]:
    """Carry on whatever rotation was begun: how many secrets were encrypted anew, how many could not be read."""
    rewritten = damaged = 0
    for old in await engine.read(retired_keys, SYSTEM):
        after = 0
        while True:
            done, failed, last = await engine.run(reseal_some, SYSTEM, engine.keys, old, after)
            rewritten, damaged, after = rewritten + done, damaged + failed, last
            if not last:
                break
    needless = await engine.read(_needless_keys, SYSTEM)
    if needless and engine.keys.path is not None:
        try:
            await asyncio.to_thread(drop_keys, engine.keys.path, needless)
            await engine.run(_forget_keys, SYSTEM, needless)
        except Unavailable as exc:
            log.warning("old_keys_left_in_file", keys=sorted(needless), error=str(exc))
    return rewritten, damaged


async def prepare_keys(engine: Engine) -> str:
    """At a start: make the first key, or finish a rotation that was cut off. What is wrong, empty if nothing is.

    Nothing is made when the database names a key that the file does not hold: that would hide the loss.
    """
    path = engine.keys.path
    if path is None:
        return "this server has no key file for secrets"
    try:
        with changing(path):
            key = await engine.read(key_in_use, SYSTEM)
            if key is None:
                held = engine.keys.ids()
                key = await engine.run(_name_key, SYSTEM, held[-1] if held else await asyncio.to_thread(add_key, path))
            engine.keys.require(key)
            await _finish(engine)
    except Conflict:
        return ""
    except EngineError as exc:
        return str(exc)
    return ""
