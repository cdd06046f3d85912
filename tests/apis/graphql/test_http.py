"""`POST /query` as a client meets it."""

import json

import pytest
from starlette.types import ASGIApp

from apis.graphql.asking import Answer, call
from buildyard.apis.sourcehut.graphql.app import graphql_app
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.engine import identity
from world import World


@pytest.fixture
async def token(sqlite_world: World) -> str:
    """Of bob."""
    made = await sqlite_world.engine.run(identity.create_token, sqlite_world.owner, "bob", ("*",))
    return made.secret


@pytest.fixture
async def app(sqlite_world: World) -> ASGIApp:
    """The application."""
    return graphql_app(sqlite_world.engine, GraphqlConfig())


async def post(app: ASGIApp, body: object, authorization: str, kind: str = "application/json") -> Answer:
    """One query."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await call(app, "POST", "/query", data, authorization=authorization, content_type=kind)


@pytest.mark.covers("sourcehut.graphql.http")
@pytest.mark.parametrize("scheme", ["Bearer", "token"])
async def test_a_query_is_answered(app: ASGIApp, token: str, scheme: str) -> None:
    asked = {"query": "query q($n: String!) { userByName(username: $n) { username } }", "variables": {"n": "bob"}}

    answer = await post(app, {**asked, "operationName": "q", "extensions": {}}, f"{scheme} {token}")

    assert (answer.status, answer.body) == (200, {"data": {"userByName": {"username": "bob"}}})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.covers("sourcehut.graphql.http")
async def test_what_is_wrong_with_a_query_is_told_with_status_200(app: ASGIApp, token: str) -> None:
    answer = await post(app, {"query": "{ nothing }"}, f"Bearer {token}")

    assert answer.status == 200
    assert answer.message == "Cannot query field 'nothing' on type 'Query'."


@pytest.mark.covers("sourcehut.graphql.http")
async def test_without_a_token_there_is_no_answer(app: ASGIApp) -> None:
    answer = await call(app, "POST", "/query", b'{"query": "{ me { id } }"}', content_type="application/json")

    assert answer.status == 401
    assert answer.message == (
        "Authentication error: Authorization header is required. Expected 'Authorization: Bearer [token]'"
    )


@pytest.mark.covers("sourcehut.graphql.http")
@pytest.mark.parametrize(
    ("authorization", "status", "words"),
    [
        ("Bearer", 400, "Invalid Authorization header"),
        ("Basic Ym9iOmJvYg==", 400, "Invalid Authorization header"),
        ("Bearer wrong", 403, "Invalid or expired OAuth 2.0 bearer token"),
        ("Bearer \x00", 403, "Invalid or expired OAuth 2.0 bearer token"),
    ],
)
async def test_a_wrong_token_is_refused(app: ASGIApp, authorization: str, status: int, words: str) -> None:
    answer = await post(app, {"query": "{ me { id } }"}, authorization)

    assert (answer.status, answer.message) == (status, f"Authentication error: {words}")


@pytest.mark.covers("sourcehut.graphql.http")
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"query": "\xff"}', "application/json", 400),
        (b'{"query": "\\ud800"}', "application/json", 400),
        (b"{}", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'[{"query": "{ me { id } }"}]', "application/json", 400),
        (b'{"query": 7}', "application/json", 400),
        (b'{"query": null}', "application/json", 400),
        (b'{"query": "{ me { id } }", "variables": []}', "application/json", 400),
        (b'{"query": "{ me { id } }", "operationName": {}}', "application/json", 400),
        (b'{"query": "{ me { id } }", "variables": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "application/json", 400),
        (b'{"query": "{ me { id } }"}', "text/plain", 400),
        (b'{"query": "{ me { id } }"}', "", 400),
        (b"query={me{id}}", "application/x-www-form-urlencoded", 400),
        (b'{"query": "' + b"#" * 300_000 + b'"}', "application/json", 413),
    ],
)
async def test_what_is_no_query_is_refused(app: ASGIApp, token: str, body: bytes, kind: str, status: int) -> None:
    answer = await post(app, body, f"Bearer {token}", kind)

    assert answer.status == status
    assert answer.message
    assert answer.body["data"] is None


@pytest.mark.covers("sourcehut.graphql.http")
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_only_post_asks(app: ASGIApp, token: str, method: str) -> None:
    answer = await call(app, method, "/query", authorization=f"Bearer {token}")

    assert answer.status == 405


@pytest.mark.covers("sourcehut.graphql.playground")
async def test_the_page_to_try_queries_on_is_there_only_if_switched_on(sqlite_world: World, app: ASGIApp) -> None:
    switched_on = graphql_app(sqlite_world.engine, GraphqlConfig(playground=True))

    page = await call(switched_on, "GET", "/query")

    assert (await call(app, "GET", "/query")).status == 405
    assert page.status == 200
    assert b"<title>GraphQL</title>" in page.data
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_there_is_nothing_below(app: ASGIApp, token: str) -> None:
    assert (await call(app, "POST", "/query/more", b"{}", authorization=f"Bearer {token}")).status == 404
