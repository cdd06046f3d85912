"""Asks an application in this process, and queries an engine."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.types import ASGIApp, Message

from buildyard.apis.sourcehut.graphql.execution import execute_query
from buildyard.domain.access import SCOPE_MAY, Actor, Permission
from buildyard.domain.user_webhooks import Occasion
from buildyard.engine.engine import Engine


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""

    @property
    def body(self) -> Any:
        """The answer as JSON."""
        return json.loads(self.data)

    @property
    def message(self) -> str:
        """Its only error."""
        (error,) = self.body["errors"]
        return str(error["message"])


async def call(app: ASGIApp, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """One request to an application; `content_type` is the header `Content-Type`."""
    answer = Answer()
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.data += message.get("body", b"")

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": given,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return answer


def with_scopes(actor: Actor, *scopes: str) -> Actor:
    """The actor that a token with these scopes makes of a user."""
    return replace(actor, allowed=frozenset[Permission]().union(*(SCOPE_MAY[scope] for scope in scopes)))


async def ask(
    engine: Engine,
    actor: Actor,
    query: str,
    webhook: Occasion | None = None,
    **given: Any,
) -> Any:
    """The data that a query gets; there are no errors."""
    found = await execute_query(engine, actor, query, variables=given, webhook=webhook)
    assert "errors" not in found, found["errors"]
    return found["data"]


async def ask_badly(
    engine: Engine,
    actor: Actor,
    query: str,
    webhook: Occasion | None = None,
    **given: Any,
) -> str:
    """The one error that a query gets."""
    found = await execute_query(engine, actor, query, variables=given, webhook=webhook)
    (error,) = found["errors"]
    return str(error["message"])
