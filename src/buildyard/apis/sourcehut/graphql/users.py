"""Users: the one who asks, and others."""

from typing import Any

from buildyard.apis.sourcehut.graphql.context import Info, Resolvers
from buildyard.domain.access import Permission
from buildyard.domain.errors import Forbidden
from buildyard.domain.ids import UserId
from buildyard.engine.departing import delete_own_account
from buildyard.engine.profiles import Profile, find_profile, load_profiles


def user(profile: Profile) -> dict[str, object]:
    """A user as the schema has them."""
    return {
        "__typename": "User",
        "id": profile.id,
        "created": profile.created_at,
        "updated": profile.updated_at,
        "canonicalName": f"~{profile.username}",
        "username": profile.username,
        "email": profile.email,
        "url": None,
        "location": None,
        "bio": None,
    }


async def me(_source: Any, info: Info) -> dict[str, object]:
    """Whose token it is."""
    context = info.context
    found = await context.engine.read(find_profile, context.actor, context.actor.name)
    assert found is not None
    return user(found)


async def user_by_id(_source: Any, info: Info, *, id: int) -> dict[str, object] | None:  # noqa: A002 - the schema's name
    """The user with this id."""
    context = info.context
    found = await context.load(load_profiles, UserId(id))
    return user(found) if found and not found.gone else None


async def user_by_name(_source: Any, info: Info, *, username: str) -> dict[str, object] | None:
    """The user of this name, with or without `~`."""
    context = info.context
    found = await context.engine.read(find_profile, context.actor, username.removeprefix("~"))
    return user(found) if found else None


async def delete_user(_source: Any, info: Info) -> int:
    """End the asker's account; only a token that can do all that its user can is let in."""
    context = info.context
    if context.webhook is not None or not context.actor.allowed >= {Permission.MANAGE_SELF}:
        raise Forbidden("Access denied")
    return await delete_own_account(context.engine, context.actor)


RESOLVERS: Resolvers = {
    "Query": {"me": me, "userByID": user_by_id, "userByName": user_by_name},
    "Mutation": {"deleteUser": delete_user},
}
