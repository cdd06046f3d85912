"""A client of this API's REST part for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from buildyard.domain.access import SYSTEM, Actor
from buildyard.engine import identity
from world import World

MANIFEST = """\
image: debian
sources:
  - https://example.org/hello.git#main
tasks:
  - build: make
  - check: make check
"""
WRITE = ("jobs:read", "jobs:write")


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        assert self.headers["Content-Type"] == "application/json"
        return msgspec.json.decode(self.data)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Field and reason of each error."""
        return [(one.get("field", ""), one["reason"]) for one in self.json["errors"]]


@dataclass
class Rest:
    """A server, and a client of it that is the project's owner if nothing else is said."""

    world: World
    url: str
    session: aiohttp.ClientSession
    tokens: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)

    async def token(self, by: Actor, scopes: tuple[str, ...] = WRITE) -> str:
        """A token of a user."""
        if (by.name, scopes) not in self.tokens:
            made = await self.world.engine.run(identity.create_token, SYSTEM, by.name, scopes)
            self.tokens[by.name, scopes] = made.secret
        return self.tokens[by.name, scopes]

    async def call(
        self,
        method: str,
        path: str,
        *,
        by: Actor | None = None,
        scopes: tuple[str, ...] = WRITE,
        authorization: str | None = None,
        body: object = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A request; `authorization` in place of a token of somebody's, empty for none."""
        sent = dict(headers or {})
        if authorization is None:
            sent["Authorization"] = f"token {await self.token(by or self.world.owner, scopes)}"
        elif authorization:
            sent["Authorization"] = authorization
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, headers=sent, data=data, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **more: Any) -> Reply:
        """A GET."""
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> Reply:
        """A POST."""
        return await self.call("POST", path, body=body, **more)

    async def submit(self, manifest: str = MANIFEST, *, by: Actor | None = None, **fields: object) -> int:
        """A new job's id."""
        reply = await self.post("/api/jobs", {"manifest": manifest, **fields}, by=by)
        assert reply.status == 200, reply.data
        return int(reply.json["id"])
