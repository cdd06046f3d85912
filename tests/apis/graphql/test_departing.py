"""`deleteUser`: an account ends, and what it leaves behind."""

import pytest

from apis.graphql.asking import ask, ask_badly, with_scopes
from apis.graphql.test_jobs import JOB, submit
from buildyard.domain.access import ANONYMOUS
from buildyard.domain.errors import Unauthenticated
from buildyard.engine import identity
from world import World

DELETE = "mutation { deleteUser }"


@pytest.mark.covers("sourcehut: POST /query: mutation deleteUser", "sourcehut.graphql.departing")
async def test_a_deleted_user_is_gone_and_their_jobs_are_stopped(world: World) -> None:
    eve = await world.user("eve")
    token = await world.engine.run(identity.create_token, eve, "eve", ("*",))
    queued = (await submit(world, by=eve, visibility="PUBLIC"))["id"]
    waiting = (await submit(world, by=eve, visibility="PUBLIC", execute=False))["id"]

    assert await ask(world.engine, eve, DELETE) == {"deleteUser": eve.user}

    with pytest.raises(Unauthenticated):
        await world.engine.read(identity.actor_of_token, ANONYMOUS, token.secret)
    with pytest.raises(Unauthenticated):
        await world.engine.read(identity.actor_of_user, ANONYMOUS, "eve")
    found = [(await ask(world.engine, world.owner, JOB, id=key))["job"] for key in (queued, waiting)]
    assert [(one["status"], one["owner"]["canonicalName"]) for one in found] == [("CANCELLED", "~eve")] * 2
    gone = 'query($id: Int!) { userByName(username: "eve") { id } userByID(id: $id) { id } }'
    assert await ask(world.engine, world.owner, gone, id=eve.user) == {"userByName": None, "userByID": None}


@pytest.mark.covers("sourcehut.graphql.departing")
async def test_only_a_token_that_can_do_everything_ends_an_account_and_never_the_last_administrators(
    world: World,
) -> None:
    for scopes in (("jobs:read", "jobs:write"), ("secrets:write",)):
        assert await ask_badly(world.engine, with_scopes(world.owner, *scopes), DELETE) == "Access denied"
    assert await ask_badly(world.engine, world.administrator, DELETE) == "the last administrator cannot be deleted"
