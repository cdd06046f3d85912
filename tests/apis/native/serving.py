"""A client of the native API for tests."""

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from sqlalchemy import update

from buildyard.domain.access import SYSTEM, Actor, Visibility
from buildyard.engine import identity
from buildyard.engine.engine import Engine
from buildyard.store.statements import Statement, given
from buildyard.store.tables import projects
from buildyard.store.transactions import Transaction

PASSWORD = "only for tests"
PUBLISH = Statement(update(projects).where(projects.c.slug == given("called")).values(visibility=given("visibility")))


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    data: bytes

    @property
    def body(self) -> Any:
        """The answer as JSON."""
        return json.loads(self.data)


@dataclass
class Server:
    """One server, the operator's token and a connection."""

    engine: Engine
    url: str
    operator: str
    session: aiohttp.ClientSession

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | None = "",
        data: bytes | None = None,
        host: str = "",
    ) -> Answer:
        """One request; `by` is an `Authorization`, the operator's if empty, none at all if None."""
        headers = {"Host": host} if host else {}
        headers |= {} if by is None else {"Authorization": by or f"Bearer {self.operator}"}
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        sent = None if data is None else io.BytesIO(data)
        where = self.url + (path if path.startswith(("/worker/", "/api")) else f"/-/api/v1{path}")
        async with self.session.request(method, where, data=sent, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def token(self, username: str, *scopes: str) -> str:
        """The `Authorization` by a new token; the user is made if there is none."""
        if username != "admin" and await self.engine.read(identity.account_id, SYSTEM, username) is None:
            await self.engine.run(identity.create_user, SYSTEM, username, password_hash=None)
        return f"Bearer {(await self.engine.run(identity.create_token, SYSTEM, username, scopes)).secret}"

    async def publish(self, slug: str, *, listed: bool = True) -> None:
        """Let everybody see a project, or everybody who knows it."""
        await self.engine.run(_publish, SYSTEM, slug, Visibility.PUBLIC if listed else Visibility.UNLISTED)

    async def submit(self, workflow: str, *, by: str = "", **more: Any) -> Answer:
        """Build a workflow."""
        return await self.call("POST", "/builds", {"workflow": workflow, **more}, by=by)


async def _publish(tx: Transaction, _actor: Actor, slug: str, visibility: Visibility) -> None:
    await tx.execute(PUBLISH, called=slug, visibility=int(visibility))


def password(text: str, username: str = "admin") -> str:
    """An `Authorization` by password."""
    return f"Basic {base64.b64encode(f'{username}:{text}'.encode()).decode()}"
