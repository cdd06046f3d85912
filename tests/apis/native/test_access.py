"""Who is let in, how fast, and what costs CPU before that."""

import asyncio

import pytest

from apis.native.conftest import Serve
from apis.native.serving import PASSWORD, Server, password

SLOW_FILE = "jobs: {a: {run: [" + "x," * 200_000 + "]}}"
"""Reading this costs a second."""


async def test_no_password_is_looked_at_before_it_is_known_who_asks(server: Server) -> None:
    reader = await server.token("bob", "jobs:read")

    for by, status in ((reader, 403), (None, 401)):
        made = await server.call("POST", "/users", {"username": "x", "password": "short"}, by=by)
        changed = await server.call("PUT", "/users/bob/password", {"password": "short"}, by=by)

        assert (made.status, changed.status) == (status, status), "one that is looked at would be too short"


async def test_no_file_is_read_before_it_is_known_who_asks(server: Server) -> None:
    for by in (await server.token("bob", "jobs:read"), await server.token("bob", "jobs:write"), None):
        answer = await server.call("POST", "/builds", {"workflow": "{", "project": "hello"}, by=by)

        assert answer.status in (401, 403), "a file that is read would be found to be malformed"


async def test_a_file_for_a_project_that_one_may_not_define_is_not_read(server: Server) -> None:
    assert (await server.submit("jobs: {a: {run: 'true'}}", project="hers")).status == 201
    token = await server.token("bob", "projects:write", "jobs:write")
    await server.publish("hers")

    answer = await server.submit("{", project="hers", by=token)

    assert answer.status == 403


async def test_while_a_large_file_is_read_others_are_answered(server: Server) -> None:
    slow = asyncio.ensure_future(server.submit(SLOW_FILE))
    answered = 0
    while not slow.done():
        assert (await server.call("GET", "/builds")).status == 200
        answered += 1

    assert (await slow).status == 400
    assert answered > 3


async def test_after_five_wrong_passwords_a_user_must_wait(server: Server) -> None:
    for _ in range(5):
        assert (await server.call("GET", "/builds", by=password("wrong"))).status == 401

    refused = await server.call("GET", "/builds", by=password(PASSWORD))

    assert refused.status == 429
    assert refused.headers["Retry-After"] == "1"
    assert "too many failed sign-ins" in refused.body["error"]
    assert (await server.call("GET", "/builds")).status == 200, "tokens are not guessed"


async def test_after_five_wrong_passwords_an_address_must_wait_whatever_the_users_are(server: Server) -> None:
    for number in range(5):
        assert (await server.call("GET", "/builds", by=password("wrong", f"user{number}"))).status == 401

    assert (await server.call("GET", "/builds", by=password(PASSWORD))).status == 429


async def test_a_password_is_set_with_the_password_and_then_counts(server: Server) -> None:
    assert (
        await server.call("PUT", "/users/admin/password", {"password": "another one"}, by=password(PASSWORD))
    ).status == 204

    assert (await server.call("GET", "/builds", by=password(PASSWORD))).status == 401
    assert (await server.call("GET", "/builds", by=password("another one"))).status == 200


@pytest.mark.parametrize("text", ["short", "x" * 1001])
async def test_passwords_have_a_least_and_a_greatest_length(server: Server, text: str) -> None:
    answer = await server.call("POST", "/users", {"username": "bob", "password": text})

    assert (answer.status, answer.body["faults"][0]["path"]) == (400, "password")


async def test_anonymous_people_read_public_builds_unless_the_server_says_no(serve: Serve) -> None:
    server = await serve()
    build = (await server.submit("jobs: {a: {run: 'true'}}", project="shown")).body["id"]
    await server.publish("shown")

    assert (await server.call("GET", f"/builds/{build}", by=None)).status == 200
    assert len((await server.call("GET", "/builds", by=None)).body["builds"]) == 1


async def test_with_anonymous_read_off_they_see_nothing(serve: Serve) -> None:
    server = await serve(BUILDYARD_ANONYMOUS_READ="0")
    build = (await server.submit("jobs: {a: {run: 'true'}}", project="shown")).body["id"]
    await server.publish("shown")

    assert (await server.call("GET", f"/builds/{build}", by=None)).status == 404
    assert (await server.call("GET", "/builds", by=None)).body["builds"] == []


@pytest.mark.covers("ops.limits.bodies")
async def test_bodies_have_the_limit_of_the_settings(serve: Serve) -> None:
    server = await serve(BUILDYARD_LIMIT_BODY="2KiB")

    answer = await server.submit("#" * 3000)

    assert answer.status == 413
    assert "2048 bytes" in answer.body["error"]
