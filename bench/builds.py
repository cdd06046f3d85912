"""Submits builds to Buildyard over HTTP and learns of their ends, as a client would."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench.load import Connection, connections
from bench.server import Server

NATIVE = "/-/api/v1/builds"


def one_step(script: str) -> dict[str, Any]:
    """A workflow of one job with one step."""
    return {"name": "one", "jobs": {"run": {"steps": [{"name": "run", "run": script}]}}}


class Client:
    """Submits one workflow again and again, and waits for ends, on its own connections."""

    def __init__(self, opened: Sequence[Connection], workflow: dict[str, Any]) -> None:
        self.opened = opened
        self._submission = {"workflow": json.dumps(workflow), "project": "bench"}

    async def submit(self, connection: Connection) -> str:
        """Submit a build; its uid."""
        answer = await connection.json("POST", NATIVE, self._submission)
        uid: str = answer["uid"]
        return uid

    async def tree(self, connection: Connection, uid: str) -> dict[str, Any]:
        """A build with all below it."""
        answer: dict[str, Any] = await connection.json("GET", f"{NATIVE}/{uid}")
        return answer

    async def finished(self, connection: Connection, uid: str, *, every: float) -> dict[str, Any]:
        """Ask again and again until a build has finished; it must have succeeded."""
        while True:
            tree = await self.tree(connection, uid)
            build: dict[str, Any] = tree["build"]
            if build["phase"] == "finished":
                if build["result"] != "success":
                    raise RuntimeError(f"build {uid}: {build}")
                return tree
            await asyncio.sleep(every)


@asynccontextmanager
async def client(server: Server, workflow: dict[str, Any], at_once: int) -> AsyncIterator[Client]:
    """A client with so many connections."""
    async with connections(server.url, at_once, server.token) as opened:
        yield Client(opened, workflow)


async def many(server: Server, workflow: dict[str, Any], count: int, at_once: int) -> float:
    """Builds a second, submitted on `at_once` connections, from the first submission to the last end."""
    async with client(server, workflow, at_once) as bench:
        numbers = iter(range(count))

        async def submit(connection: Connection) -> list[str]:
            return [await bench.submit(connection) for _ in numbers]

        begun = time.perf_counter()
        submitted = await asyncio.gather(*(submit(connection) for connection in bench.opened))
        for uid in (uid for uids in submitted for uid in uids):
            await bench.finished(bench.opened[0], uid, every=0.02)
        return count / (time.perf_counter() - begun)
