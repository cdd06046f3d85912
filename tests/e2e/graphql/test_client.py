"""The package `sourcehutx`, as it is published, against a running server with a worker."""

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from e2e.running import served
from needs import need

MANIFEST = """image: alpine/edge
environment:
  GREETING: hello
tasks:
  - greet: |
      echo "$GREETING from $JOB_ID"
  - work: |
      {work}
"""


async def when(client: Any, job: Any, *words: str) -> str:
    """The job's status once it is one of these."""
    async with asyncio.timeout(120):
        while (status := str(await client.get_job_status(job))) not in words:  # noqa: ASYNC110 - as whoever uses it
            await asyncio.sleep(0.05)
        return status


@pytest.mark.covers("sourcehut.graphql.client")
async def test_the_published_client_submits_follows_and_cancels_a_job(tmp_path: Path) -> None:
    need(find_spec("sourcehut"), "the client (PyPI: sourcehutx)")
    from sourcehut.client import SRHT_SERVICE, VISIBILITY, SrhtClient
    from sourcehut.exceptions import SrhtClientError

    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="2") as yard:
        token = await yard.token("jobs:read", "jobs:write")
        async with SrhtClient("x", token, protocol=f"{yard.url}/query#") as connection:
            client = connection.get_builds_client()
            assert await client.whoami() == "admin"
            assert str(await client.version()) == "0.0.0"

            short = await client.submit(MANIFEST.format(work="true"), tags=["hello", "world"], note="by hand")
            assert await when(client, short, "SUCCESS", "FAILED") == "SUCCESS"
            done = await short.get()
            assert (done.tags, done.note, done.image) == (["hello", "world"], "by hand", "alpine/edge")
            assert (done.owner, done.visibility) == ("admin", VISIBILITY.UNLISTED)
            assert done.runner

            long = await client.submit(MANIFEST.format(work="sleep 600"), execute=False)
            assert await when(client, long, "PENDING") == "PENDING"
            await long.start()
            assert await when(client, long, "RUNNING") == "RUNNING"
            await long.cancel()
            assert await when(client, long, "CANCELLED", "FAILED") == "CANCELLED"

            assert [job.id async for job in client.list_jobs(max_pages=None)] == [long.id, short.id]
            assert [one async for one in client.list_secrets()] == []
            log = await connection.query(
                SRHT_SERVICE.BUILDS,
                "query($id: Int!) { job(id: $id) { tasks { name status log { last128KiB } } } }",
                {"id": short.id},
            )
            greet = log["job"]["tasks"][0]
            assert (greet["name"], greet["status"]) == ("greet", "SUCCESS")
            assert f"hello from {short.id}" in greet["log"]["last128KiB"]
            with pytest.raises(SrhtClientError, match="Missing image in manifest"):
                await client.submit("tasks: []")
