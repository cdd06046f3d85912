"""A client of the Build Server API for tests, and the small things that they send."""

import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from buildyard.engine.engine import Engine


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    data: bytes
    body: Any

    @property
    def codes(self) -> dict[str, str]:
        """The code of each fault by its path."""
        return {one["path"]: one["code"] for one in self.body["details"]}


@dataclass
class Api:
    """One server, and a client of it."""

    engine: Engine
    url: str
    session: aiohttp.ClientSession
    stop: Callable[[], Awaitable[None]]
    headers: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """One request; `body` goes as JSON, `data` as it is."""
        more["headers"] = {**self.headers, **more.get("headers", {})}
        if body is not None:
            more["data"] = json.dumps(body).encode()
            more["headers"]["Content-Type"] = "application/json"
        if isinstance(more.get("data"), bytes):
            more["data"] = io.BytesIO(more["data"])
        async with self.session.request(method, self.url + path, **more) as response:
            data = await response.read()
            kind = response.headers.get("content-type", "")
            parsed = await response.json() if data and kind.startswith("application/json") else None
            return Answer(response.status, response.headers, data, parsed)

    async def get(self, path: str, **more: Any) -> Answer:
        """GET."""
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        """POST."""
        return await self.call("POST", path, body, **more)

    async def project(self, name: str = "hello", account: str = "acme") -> str:
        """The id of a new project."""
        return (await self.post("/api/projects", {"accountId": account, "name": name})).body["id"]

    async def image(self, slug: str = "debian") -> str:
        """A slug of an image that is there."""
        await self.post("/api/docker-images", {"slug": slug, "imageUrl": "docker://example.org/debian:12"})
        return slug

    async def workflow(self, project: str, *steps: dict[str, Any]) -> str:
        """The id of a new workflow."""
        await self.image()
        answer = await self.post(f"/api/projects/{project}/workflows", {"name": "ci", "steps": list(steps)})
        assert answer.status == 201, answer.body
        return answer.body["id"]

    async def build(self, *steps: dict[str, Any], **source: str) -> "Submitted":
        """A new build of these steps in a project of its own."""
        project = await self.project()
        return await self.build_again(project, await self.workflow(project, *steps), **source)

    async def build_of(self, account: str, *steps: dict[str, Any]) -> "Submitted":
        """A new build (of one step, unless others are given) in an account that is there."""
        project = await self.project(account=account)
        return await self.build_again(project, await self.workflow(project, *(steps or (step(),))))

    async def build_again(self, project: str, workflow: str, **source: str) -> "Submitted":
        """A new build of a workflow that is there."""
        answer = await self.post(f"/api/projects/{project}/builds", {"workflowId": workflow, **source})
        assert answer.status == 201, answer.body
        found = (await self.get(f"/api/builds/{answer.body['id']}/steps")).body["steps"]
        return Submitted(project, workflow, answer.body["id"], {one["name"]: one["id"] for one in found})


@dataclass(frozen=True)
class Submitted:
    """A build and the ids of its steps by name."""

    project: str
    workflow: str
    id: str
    steps: dict[str, str]


def step(name: str = "test", script: str = "true", **more: Any) -> dict[str, Any]:
    """A step of a workflow."""
    empty: dict[str, Any] = {"dependsOn": [], "cacheDirs": [], "outputPaths": []}
    return {"name": name, "imageSlug": "debian", "runScript": script, **empty, **more}
