"""What people may know of each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildyard.domain.access import Actor, ActorKind, Permission, may_on_server
from buildyard.domain.errors import Forbidden, Unauthenticated
from buildyard.domain.ids import Moment, UserId
from buildyard.store import identity
from buildyard.store.identity import User
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user as others see them; `email` is empty unless it is one's own, or one manages users.

    `gone`: the account is disabled; what they did still bears their name.
    """

    id: UserId
    username: str
    email: str
    created_at: Moment
    updated_at: Moment
    gone: bool


def _require_known(actor: Actor) -> None:
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated("sign in to look people up")
    if Permission.READ not in actor.allowed:
        raise Forbidden(f"{actor.name} may not look people up")


def _profile(actor: Actor, user: User) -> Profile:
    own = user.id == actor.user or may_on_server(actor, Permission.MANAGE_USERS)
    return Profile(
        id=user.id,
        username=user.username,
        email=(user.email or "") if own else "",
        created_at=user.created_at,
        updated_at=user.updated_at,
        gone=user.disabled_at is not None,
    )


async def find_profile(tx: Transaction, actor: Actor, username: str) -> Profile | None:
    """The user of this name."""
    _require_known(actor)
    user = await identity.find_user(tx, username)
    return _profile(actor, user) if user is not None and user.disabled_at is None else None


async def load_profiles(tx: Transaction, actor: Actor, keys: Sequence[UserId]) -> Mapping[UserId, Profile]:
    """The users with these ids, as far as there are any."""
    _require_known(actor)
    return {user.id: _profile(actor, user) for user in await identity.users_by_id(tx, keys)}
