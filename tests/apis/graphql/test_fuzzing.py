"""Queries that nobody would think of, made from the schema, and bodies that are none: never an unforeseen error."""

import json
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from apis.graphql.asking import Answer, call
from apis.graphql.test_jobs import submit
from buildyard.apis.sourcehut.graphql.app import graphql_app
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.domain.secrets import SecretValue
from buildyard.engine import identity, secret_keys, secrets
from needs import need
from world import World

CALM = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
ALL_BUT_LEAVING = ("jobs:read", "jobs:write", "secrets:write", "projects:write")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SUBMIT = (
    "mutation($m: String!, $t: [String!], $n: String) { submit(manifest: $m, tags: $t, note: $n) { id tags image } }"
)


def schema() -> str:
    """The schema's text."""
    return files("buildyard.apis.sourcehut.graphql").joinpath("schema.graphqls").read_text(encoding="utf-8")


@pytest.fixture
async def lived_in(world: World) -> World:
    """A world in which something of everything is there."""
    assert await secret_keys.prepare_keys(world.engine) == ""
    new = secrets.NewSecret(name="KEY", value=SecretValue(b"a value"))
    await world.engine.run(secrets.set_secret, world.owner, secrets.Place(account="bob"), new, world.engine.keys)
    await submit(world)
    await submit(world, execute=False)
    hand = await world.hand()
    await hand.finish(await hand.take())
    return world


@pytest.fixture
async def bearer(lived_in: World) -> str:
    """A token that may do everything but end its user's account."""
    made = await lived_in.engine.run(identity.create_token, lived_in.owner, "bob", ALL_BUT_LEAVING)
    return f"Bearer {made.secret}"


async def post(app: ASGIApp, bearer: str, body: bytes) -> Answer:
    """One request."""
    return await call(app, "POST", "/query", body, authorization=bearer, content_type="application/json")


def is_foreseen(answer: Answer) -> bool:
    """Whether the answer is one that was thought of."""
    found = answer.body
    messages = [error["message"] for error in found.get("errors", [])]
    return answer.status in (200, 400, 413) and "data" in {"data", *found} and "internal server error" not in messages


def made_queries(*, negative: bool = False) -> st.SearchStrategy[str]:
    """Queries and mutations of the schema; with one fault each if `negative`."""
    need(find_spec("hypothesis_graphql"), "hypothesis-graphql (PyPI)")
    from hypothesis_graphql import Mode, from_schema, nodes

    texts = st.sampled_from(["am9iczox", "c2VjcmV0czox", ""]) | st.text(max_size=12)
    scalars = {"Cursor": texts.map(nodes.String), "File": texts.map(nodes.String)}
    return from_schema(schema(), custom_scalars=scalars, mode=Mode.NEGATIVE if negative else Mode.POSITIVE)


@pytest.mark.covers("sourcehut.graphql.fuzzing")
@given(data=st.data())
@CALM
async def test_queries_made_from_the_schema_are_answered(lived_in: World, bearer: str, data: st.DataObject) -> None:
    app = graphql_app(lived_in.engine, GraphqlConfig())
    query = data.draw(made_queries(negative=data.draw(st.booleans())))

    answer = await post(app, bearer, json.dumps({"query": query}).encode())

    assert is_foreseen(answer), (query, answer.data)


@pytest.mark.covers("sourcehut.graphql.fuzzing")
@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), variables=JSON)
@CALM
async def test_bodies_that_are_no_queries_are_refused(
    lived_in: World, bearer: str, body: bytes, variables: Any
) -> None:
    app = graphql_app(lived_in.engine, GraphqlConfig())
    asked = {"query": SUBMIT, "variables": variables}

    assert is_foreseen(await post(app, bearer, body))
    assert is_foreseen(await post(app, bearer, json.dumps(asked).encode()))


@pytest.mark.covers("sourcehut.graphql.fuzzing")
@given(manifest=st.text(max_size=80), tags=st.lists(st.text(max_size=20), max_size=3), note=st.text(max_size=50))
@CALM
async def test_any_text_may_be_handed_in_as_a_manifest(
    lived_in: World, bearer: str, manifest: str, tags: list[str], note: str
) -> None:
    app = graphql_app(lived_in.engine, GraphqlConfig())
    good = "image: debian\ntasks:\n  - a: 'true'\n"
    for text in (manifest, good):
        asked = {"query": SUBMIT, "variables": {"m": text, "t": tags, "n": note}}

        assert is_foreseen(await post(app, bearer, json.dumps(asked).encode()))
