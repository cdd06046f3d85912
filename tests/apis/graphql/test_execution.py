"""Queries as they are read, bounded and run; users and the server's version."""

from dataclasses import replace

import pytest
from graphql import get_introspection_query

from apis.graphql.asking import ask, ask_badly, with_scopes
from buildyard.apis.sourcehut.graphql.execution import check_query, execute_query
from world import World

ME = "query { me { canonicalName } }"


@pytest.mark.covers("sourcehut: POST /query: query version", "sourcehut.graphql.schema")
async def test_the_version_has_the_settings_that_clients_show(world: World) -> None:
    found = await ask(
        world.engine, world.owner, "{ version { major minor patch deprecationDate settings { sshUser buildTimeout } } }"
    )

    assert found["version"]["settings"] == {"sshUser": "builds", "buildTimeout": "4h"}
    assert (found["version"]["major"], found["version"]["deprecationDate"]) == (0, None)


@pytest.mark.covers("sourcehut: POST /query: query me")
async def test_me_is_whose_token_it_is(world: World) -> None:
    found = await ask(world.engine, world.owner, "{ me { __typename id canonicalName username created updated bio } }")

    assert found["me"] == {
        "__typename": "User",
        "id": world.owner.user,
        "canonicalName": "~bob",
        "username": "bob",
        "created": "2027-01-15T08:00:00Z",
        "updated": "2027-01-15T08:00:00Z",
        "bio": None,
    }


@pytest.mark.covers("sourcehut: POST /query: query userByID", "sourcehut: POST /query: query userByName")
async def test_others_are_found_by_name_and_by_id_but_not_their_addresses(world: World) -> None:
    eve = await world.user("eve")

    query = 'query($id: Int!) { a: userByID(id: $id) { username email } b: userByName(username: "~bob") { id } }'
    found = await ask(world.engine, eve, query, id=world.owner.user)

    assert found == {"a": {"username": "bob", "email": ""}, "b": {"id": world.owner.user}}
    assert await ask(world.engine, eve, '{ userByID(id: 4711) { id } userByName(username: "nobody") { id } }') == {
        "userByID": None,
        "userByName": None,
    }


@pytest.mark.covers("sourcehut.graphql.scopes")
async def test_a_token_without_the_scope_is_told_which_it_lacks(world: World) -> None:
    runner = with_scopes(world.owner, "secrets:write")

    assert await ask_badly(world.engine, runner, ME) == (
        "Access denied: this needs PROFILE:RO, which the token does not have"
    )


@pytest.mark.covers("sourcehut.graphql.worker")
@pytest.mark.parametrize(
    "mutation",
    [
        "claim(jobId: 1) { id }",
        "updateJob(jobId: 1, status: SUCCESS) { id }",
        "updateTask(taskId: 1, status: SUCCESS) { id }",
        'createArtifact(jobId: 1, path: "x", contents: "x") { id }',
    ],
)
@pytest.mark.covers(
    "sourcehut: POST /query: mutation claim",
    "sourcehut: POST /query: mutation updateJob",
    "sourcehut: POST /query: mutation updateTask",
    "sourcehut: POST /query: mutation createArtifact",
)
async def test_what_is_for_workers_is_denied(world: World, mutation: str) -> None:
    assert await ask_badly(world.engine, world.administrator, f"mutation {{ {mutation} }}") == "Access denied"


@pytest.mark.covers("sourcehut.graphql.limits")
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("{ " + "me { jobs { results { owner { ... on User { " * 4 + "me" + " } " * 21, "levels deep"),
        ("{ " + " ".join(f"a{n}: me {{ id }}" for n in range(51)) + " }", "more than 50 aliases"),
        ("{ me { " + "id " * 251 + "} }", "more than 250 fields"),
        ("{ me { " + "id, " * 100 + "} } " + "#" * 300_000, "more than"),
        ("{ me { id } } " + " ".join(f"fragment f{n} on User {{ id }}" for n in range(21)), "more than 20 fragments"),
        (
            "{ __schema { "
            + " ".join(f"a{n}: types {{ fields {{ name args {{ name }} type {{ name }} }} }}" for n in range(35))
            + " } }",
            "the query costs",
        ),
        ("{ jobs { results { tasks { log { last128KiB } } } } }", "the query costs"),
        (
            "{ jobs { ...a } } fragment a on JobCursor { results { ...b } } fragment b on Job "
            "{ group { jobs { group { jobs { id tasks { id } } } } } }",
            "the query costs",
        ),
        ("{ ...a } fragment a on Query { me { id } ...b } fragment b on Query { ...a }", "itself"),
        ("{ me " * 5000, "nested too deeply"),
        ("{ me { id } } " + "query q { me { id } } " * 1000, "more than"),
        ("{ nothing }", "Cannot query field"),
        ("{ me { id }", "Syntax Error"),
        ("", "Syntax Error"),
        ("query a { me { id } } query b { me { id } }", "Must provide operation name"),
    ],
)
async def test_a_query_that_asks_too_much_or_nothing_sensible_is_refused_whole(
    sqlite_world: World, query: str, words: str
) -> None:
    found = await ask_badly_first(sqlite_world, query)

    assert words in found


async def ask_badly_first(world: World, query: str) -> str:
    """The first error."""
    found = await execute_query(world.engine, world.owner, query)
    assert found.get("data") is None
    return str(found["errors"][0]["message"])


@pytest.mark.covers("sourcehut.graphql.introspection")
async def test_the_schema_can_be_asked_for(sqlite_world: World) -> None:
    found = await ask(sqlite_world.engine, sqlite_world.owner, get_introspection_query())

    names = {each["name"] for each in found["__schema"]["types"]}
    assert {"Job", "SecretFile", "WebhookDelivery", "TriggerInput"} <= names
    events = next(each for each in found["__schema"]["types"] if each["name"] == "WebhookEvent")
    assert [value["name"] for value in events["enumValues"]] == ["JOB_CREATED", "JOB_UPDATED"]


async def test_a_text_with_nul_is_refused(world: World) -> None:
    query = "query($name: String!) { userByName(username: $name) { id } }"

    assert await ask_badly(world.engine, world.owner, query, name="b\0b") == "username must not contain NUL"


async def test_a_disabled_profile_scope_says_nothing_to_the_anonymous(world: World) -> None:
    nobody = replace(world.owner, allowed=frozenset())

    assert "PROFILE:RO" in await ask_badly(world.engine, nobody, ME)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("{ webhook { uuid ... on JobEvent { job { id } } } }", None),
        ("mutation { cancel(jobId: 1) { id } }", "exactly one operation of the kind query"),
        ("{ version { major } } ", None),
        ("query a { version { major } } query b { version { major } }", "exactly one operation"),
        ("{ nothing }", "Cannot query field"),
        ("{", "Syntax Error"),
    ],
)
def test_a_query_to_be_kept_is_checked(query: str, fault: str | None) -> None:
    found = check_query(query)

    assert (found == []) if fault is None else fault in found[0]
