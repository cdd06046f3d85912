"""Secrets of a person's own account: listed page by page, and copied to others."""

from collections.abc import Mapping, Sequence

from buildyard.domain.access import Actor, ActorKind, Permission, require_of_account
from buildyard.domain.errors import Fault, Forbidden, Invalid, NotFound, Unauthenticated
from buildyard.domain.ids import AccountId, Uid
from buildyard.domain.secrets import SecretValue
from buildyard.engine.keyring import Keyring
from buildyard.engine.secret_keys import KEY
from buildyard.store import audit, identity, secrets, settings
from buildyard.store.secrets import Sealed, Secret
from buildyard.store.transactions import Transaction

_MAY_LIST = frozenset({Permission.RUN, Permission.MANAGE_SECRETS})
NEWEST = 2**31 - 1
MOST_SHARED = 1000
"""How many secrets an account may hold before nobody can give it more."""


def _own_account(actor: Actor) -> AccountId:
    """The actor's personal account, for those whose token may name its secrets."""
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated("sign in to see secrets")
    if actor.account is None or actor.only_project is not None or not actor.allowed & _MAY_LIST:
        raise Forbidden(f"{actor.name} may not see secrets of an account with this token")
    return actor.account


async def list_own_secrets(tx: Transaction, actor: Actor, *, start: int | None = None, limit: int) -> list[Secret]:
    """The secrets of the actor's own account with ids up to `start`, newest first, without their values."""
    return await secrets.page_of_account(tx, _own_account(actor), start=NEWEST if start is None else start, limit=limit)


async def load_own_secrets(tx: Transaction, actor: Actor, keys: Sequence[int]) -> Mapping[int, Secret]:
    """Those of these secrets that belong to the actor's own account."""
    account = _own_account(actor)
    return {one.id: one for one in await secrets.by_ids(tx, keys) if one.scope.account == account}


async def share_secret(tx: Transaction, actor: Actor, uid: str, username: str, keys: Keyring) -> Secret:
    """Copy a secret of the actor's own account to another user's.

    It keeps its name there unless that is taken; then it is known by its uid only. What becomes of the original
    afterwards does not touch the copy.
    """
    account = _own_account(actor)
    require_of_account(actor, Permission.MANAGE_SECRETS, account, "secret")
    found = await secrets.find_by_uid(tx, uid)
    if found is None or found[0].scope.account != account:
        raise NotFound("secret not found")
    original, sealed = found
    target = await _target(tx, actor, username)
    key = await settings.find(tx, KEY, hold=True)
    keys.require(key or "(none)")
    assert key is not None
    value = keys.unseal(sealed.key, original.uid, sealed.data)
    copy = await _add_copy(tx, actor, original, target, key=key, value=value, keys=keys)
    details = {"name": original.name, "kind": original.kind.value, "to": username, "copy": copy.uid}
    await audit.add(tx, actor, "secret.share", original.uid, details=details)
    return copy


async def _target(tx: Transaction, actor: Actor, username: str) -> AccountId:
    user = await identity.find_user(tx, username)
    account = await identity.find_account(tx, username)
    if user is None or user.disabled_at is not None or account is None or account.user != user.id:
        raise NotFound(f"user {username} not found")
    if user.id == actor.user:
        message = "this secret is yours already"
        raise Invalid(message, (Fault("user", message, "self"),))
    if await secrets.count_of_account(tx, account.id) >= MOST_SHARED:
        raise Forbidden(f"~{username} has as many secrets as an account may hold")
    return account.id


async def _add_copy(
    tx: Transaction, actor: Actor, original: Secret, target: AccountId, *, key: str, value: SecretValue, keys: Keyring
) -> Secret:
    uid = Uid(tx.fresh_uid())
    return await secrets.add_copy(
        tx, uid, target, original, sealed=Sealed(key=key, data=keys.seal(key, uid, value)), giver=actor.user
    )
