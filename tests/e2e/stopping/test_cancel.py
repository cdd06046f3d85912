"""Cancelling a running build ends all it started, and keeps what it said."""

import json
from pathlib import Path

import pytest

from e2e.running import (
    Oracle,
    finished,
    has_logged,
    http_get,
    job_of,
    no_processes_left,
    nothing_left,
    script,
    served,
    step_log,
    submit,
)


@pytest.mark.covers("engine.cancel.running", "engine.cancel.log", "engine.audit", "executors.tree")
async def test_a_cancelled_job_is_dead_with_all_its_daemons_and_keeps_its_log(
    executor: str, oracle: Oracle, tmp_path: Path
) -> None:
    settings = {
        "BUILDYARD_EXECUTOR": executor,
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(oracle.folder),
    }
    async with served(tmp_path / "data", **settings) as yard:
        client = yard.client()
        running = "\n".join(
            [
                'trap "" TERM INT HUP',
                oracle.beat("daemon"),
                "(setsid setsid sleep 1000 &) >/dev/null 2>&1",
                "echo said before",
                oracle.say("runs"),
                oracle.gate("never"),
            ]
        )
        jobs = {"busy": script("b", running, oracle.say("too far")), "next": script("n", "true", needs=["busy"])}
        build = await submit(client, **jobs)
        await oracle.hears("daemon", 3)
        await has_logged(client, build, "busy", b"said before\n")

        await client.cancel(build.uid, "wrong branch")
        await no_processes_left(yard.data / "worker", timeout=2)
        tree = await finished(client, build)
        oracle.heard.clear()
        await nothing_left(yard.data / "worker")

        assert (tree.build.result, oracle.heard) == ("cancelled", [])
        busy, following = job_of(tree, "busy"), job_of(tree, "next")
        assert (busy.result, following.result, len(busy.attempts)) == ("cancelled", "cancelled", 1)
        assert "cancelled by admin: wrong branch" in busy.detail
        assert "cancelled by admin: wrong branch" in following.detail
        assert (await step_log(client, tree, "busy")).startswith(b"said before\n")
        _, body = await http_get(f"{yard.url}/api/audit-logs?limit=20")
        (entry,) = [entry for entry in json.loads(body)["auditLogs"] if entry["action"] == "build.cancel"]
        assert (entry["reason"], entry["resourceId"], entry["actor"]) == ("wrong branch", build.uid, "admin")
