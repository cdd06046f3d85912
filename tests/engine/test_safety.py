"""What tokens must not be able to do, and to whom jobs, bytes and credentials must not go."""

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Forbidden, NotFound
from buildyard.engine import identity
from world import World


async def bearer(world: World, username: str, *scopes: str, project_uid: str | None = None) -> Actor:
    """Who shows a new token of this user."""
    made = await world.engine.run(identity.create_token, SYSTEM, username, scopes, project_uid=project_uid)
    return await world.engine.read(identity.actor_of_token, SYSTEM, made.secret)


LESSER = ("jobs:read", "jobs:write", "projects:write", "secrets:write", "runner")


@pytest.mark.parametrize("username", ["bob", "admin"])
@pytest.mark.parametrize("scope", LESSER)
async def test_a_token_that_may_not_do_everything_gets_at_no_password_and_no_token(
    sqlite_world: World, username: str, scope: str
) -> None:
    engine, actor = sqlite_world.engine, await bearer(sqlite_world, username, scope)
    other = (await engine.run(identity.create_token, SYSTEM, username, ("jobs:read",))).token

    with pytest.raises(Forbidden):
        await engine.run(identity.change_password, actor, username, "not a hash")
    with pytest.raises(Forbidden):
        await engine.run(identity.create_token, actor, username, (scope,))
    with pytest.raises(Forbidden):
        await engine.run(identity.revoke_token, actor, other.id)
    with pytest.raises(Forbidden):
        await engine.read(identity.list_tokens, actor, username)


async def test_people_and_tokens_for_everything_manage_their_own_password_and_tokens(sqlite_world: World) -> None:
    engine = sqlite_world.engine
    for actor in (sqlite_world.owner, await bearer(sqlite_world, "bob", "*")):
        made = await engine.run(identity.create_token, actor, "bob", ("jobs:read",))
        assert made.token in await engine.read(identity.list_tokens, actor, "bob")
        await engine.run(identity.revoke_token, actor, made.token.id)
        await engine.run(identity.change_password, actor, "bob", "not a hash")
        with pytest.raises(Forbidden):
            await engine.run(identity.change_password, actor, "admin", "not a hash")


async def test_a_token_of_one_project_gets_at_no_password_and_no_token_whatever_its_scope(sqlite_world: World) -> None:
    engine = sqlite_world.engine
    actor = await bearer(sqlite_world, "admin", "*", project_uid=sqlite_world.project.uid)

    for username in ("admin", "bob"):
        with pytest.raises(Forbidden):
            await engine.run(identity.change_password, actor, username, "not a hash")
        with pytest.raises(Forbidden):
            await engine.run(identity.create_token, actor, username, ("*",))


async def test_nobody_binds_a_token_to_a_project_that_they_cannot_see(sqlite_world: World) -> None:
    stranger = await sqlite_world.user("eve")

    with pytest.raises(NotFound):
        await sqlite_world.engine.run(
            identity.create_token, stranger, "eve", ("jobs:read",), project_uid=sqlite_world.project.uid
        )
