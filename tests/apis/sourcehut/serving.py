"""A client of this API's pages and files for tests."""

from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from buildyard.domain.access import Actor
from buildyard.engine import identity
from world import World


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    data: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.data.decode()


@dataclass
class Site:
    """A server, and a client of it. `token` is the project's owner's."""

    world: World
    url: str
    session: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, *, by: Actor | None = None, method: str = "GET", **headers: str) -> Answer:
        """A request by somebody, or by nobody; `path` goes as it is written."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if by is not None:
            sent["Authorization"] = f"Bearer {await self.token(by)}"
        url = URL(path if path.startswith("http") else self.url + path, encoded=True)
        async with self.session.request(method, url, headers=sent, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read())

    async def token(self, by: Actor) -> str:
        """A token of a user."""
        if by.name not in self.tokens:
            made = await self.world.engine.run(identity.create_token, by, by.name, ("jobs:read",), name="test")
            self.tokens[by.name] = made.secret
        return self.tokens[by.name]
