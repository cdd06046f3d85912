"""Answers GraphQL queries, over HTTP or for the webhooks of users.

The library is an extra and several megabytes: it is imported with the first query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from buildyard.domain.access import Actor
from buildyard.domain.errors import Unavailable
from buildyard.domain.user_webhooks import Occasion
from buildyard.engine.engine import Engine

MISSING = "GraphQL needs the package graphql-core: pip install 'buildyard[graphql]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphqlConfig:
    """What a query may cost, and what the server says of itself.

    `fields`, `aliases` and `depth` bound the text of a query; `cost` bounds what its answer may hold at the usual
    lengths of lists, `objects` what it does hold, and `tails` how many ends of logs.
    """

    playground: bool = False
    body_bytes: int = 256 * 1024
    tokens: int = 4000
    fields: int = 250
    aliases: int = 50
    fragments: int = 20
    depth: int = 16
    cost: int = 10_000
    objects: int = 5000
    tails: int = 100
    timeout_s: float = 30.0


DEFAULTS = GraphqlConfig()


def is_installed() -> bool:
    """Whether the library is there."""
    return find_spec("graphql") is not None


async def execute_query(
    engine: Engine,
    actor: Actor,
    query: str,
    *,
    variables: Mapping[str, Any] | None = None,
    operation: str | None = None,
    webhook: Occasion | None = None,
    config: GraphqlConfig = DEFAULTS,
) -> dict[str, Any]:
    """The answer to a query: `data`, and `errors` if there are any; it raises nothing that the query is to blame for.

    With `webhook` the query is one of a user's webhook: it may ask for the event, and change nothing.
    """
    if not is_installed():
        raise Unavailable(MISSING)
    from buildyard.apis.sourcehut.graphql.answering import answer
    from buildyard.apis.sourcehut.graphql.context import Context

    return await answer(Context(engine, actor, config, webhook), query, variables, operation)


def check_query(query: str) -> list[str]:
    """What is wrong with a query that is to be kept: syntax, unknown fields, changes that it would make."""
    if not is_installed():
        raise Unavailable(MISSING)
    from buildyard.apis.sourcehut.graphql.answering import faults_of_stored

    return faults_of_stored(query, DEFAULTS)
