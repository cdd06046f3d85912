"""A manifest's job from end to end: what it is told, its token, and the death of worker and server under it."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from e2e.running import Oracle, Yard, served

MANIFEST = """
image: debian/stable
oauth: builds.sr.ht/JOBS:RO
environment:
  LIST: [one, two words]
tasks:
- first: |
    {say}
    echo "attempt $BUILDYARD_ATTEMPT $TERM ${{LIST[1]}} $JOB_ID $JOB_URL"
    [ ! -e ~/mark ] && touch ~/mark
    {gate}
- second: |
    acurl -fsS {server}/api/jobs/$JOB_ID | grep -q running
    complete-build
- third: |
    exit 1
"""


async def ask(yard: Yard, path: str, token: str, body: object = None) -> Any:
    """A request to the API of jobs; its JSON."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{yard.url}{path}", data=data, headers=headers)

    def send() -> Any:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(send)


@pytest.mark.covers("worker.facts", "worker.lent_token", "worker.done_early", "executors.at_home")
async def test_a_manifests_job_runs_again_from_the_start_when_worker_and_server_die_under_it(
    oracle: Oracle, tmp_path: Path
) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process") as yard:
        token = await yard.token("jobs:write")
        text = MANIFEST.format(say=oracle.say("begins $BUILDYARD_ATTEMPT"), gate=oracle.gate("g"), server=yard.url)
        job = await ask(yard, "/api/jobs", token, {"manifest": text})
        await oracle.hears("begins 1")
        await yard.server.kill()
        await yard.kill_worker()
        await yard.start()
        await oracle.hears("begins 2")
        oracle.open_gate("g")

        async with asyncio.timeout(120):
            at = f"/api/jobs/{job['id']}"
            while (now := await ask(yard, at, token))["status"] in ("queued", "running"):  # noqa: ASYNC110 - as clients do
                await asyncio.sleep(0.1)

        assert now["status"] == "success"
        assert [task["status"] for task in now["tasks"]] == ["success", "success", "skipped"]
        assert oracle.heard == ["begins 1", "begins 2"]
