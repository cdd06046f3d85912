"""Submits builds to Buildyard through its Build Server API and learns of their ends, as a client would."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.load import Connection, connections
from bench.server import Server

IMAGE = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """Scripts of steps by name, and what each step needs."""

    scripts: Mapping[str, str]
    needs: Mapping[str, Sequence[str]]


def one_step(script: str) -> Workflow:
    """A workflow of one step."""
    return Workflow(scripts={"run": script}, needs={})


class Client:
    """Submits one workflow again and again, and waits for ends, on its own connections."""

    def __init__(self, opened: Sequence[Connection], project: str, workflow: str) -> None:
        self.opened = opened
        self._path = f"/api/projects/{project}/builds"
        self._submission = {"workflowId": workflow}

    async def submit(self, connection: Connection) -> str:
        """Submit a build; its id."""
        answer = await connection.json("POST", self._path, self._submission)
        build: str = answer["id"]
        return build

    async def finished(self, connection: Connection, build: str, *, every: float) -> None:
        """Ask again and again until a build has finished; it must have succeeded."""
        while True:
            found = await connection.json("GET", f"/api/builds/{build}")
            if found["status"] == "SUCCESS":
                return
            if found["status"] == "FAILED":
                raise RuntimeError(f"build {build}: {found}")
            await asyncio.sleep(every)

    async def only_step(self, connection: Connection, build: str) -> dict[str, Any]:
        """The one step of a build."""
        found = await connection.json("GET", f"/api/builds/{build}/steps")
        (step,) = found["steps"]
        return dict(step)


@asynccontextmanager
async def client(server: Server, workflow: Workflow, at_once: int) -> AsyncIterator[Client]:
    """A client with so many connections, whose workflow is defined already."""
    async with connections(server.url, at_once) as opened:
        first = opened[0]
        await first.call("POST", "/api/docker-images", b'{"slug": "bench", "imageUrl": "debian:12", "public": true}')
        project = await first.json("POST", "/api/projects", {"accountId": "bench", "name": secrets.token_hex(8)})
        steps = [_step(name, script, workflow.needs.get(name, ())) for name, script in workflow.scripts.items()]
        made = await first.json("POST", f"/api/projects/{project['id']}/workflows", {"name": "bench", "steps": steps})
        yield Client(opened, project["id"], made["id"])


def _step(name: str, script: str, needs: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "imageSlug": IMAGE,
        "dependsOn": list(needs),
        "runScript": script,
        "cacheDirs": [],
        "outputPaths": [],
    }


async def many(server: Server, workflow: Workflow, count: int, at_once: int) -> float:
    """Builds a second, submitted on `at_once` connections, from the first submission to the last end."""
    async with client(server, workflow, at_once) as bench:
        numbers = iter(range(count))

        async def submit(connection: Connection) -> list[str]:
            return [await bench.submit(connection) for _ in numbers]

        begun = time.perf_counter()
        submitted = await asyncio.gather(*(submit(connection) for connection in bench.opened))
        for build in (build for builds in submitted for build in builds):
            await bench.finished(bench.opened[0], build, every=0.02)
        return count / (time.perf_counter() - begun)
