"""A typical script: submit with curl, poll, read the log as it grows, fetch the artifacts."""

import asyncio
import json
from pathlib import Path

import pytest

from e2e.running import Oracle, served
from e2e.sourcehut.curling import Script

MANIFEST = """
image: debian
environment: {{greeting: hello, flags: [-a, "b c"]}}
artifacts: [out/result.txt]
tasks:
  - prepare: |
      mkdir out
      echo begun
      {gate}
  - work: echo "$greeting ${{flags[1]}}" > out/result.txt
"""


@pytest.mark.covers("sourcehut.scripts")
async def test_a_script_submits_polls_follows_the_log_and_fetches_the_artifacts(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path / "oracle")
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process") as yard:
        script = await Script.of(yard, tmp_path)
        job = await script.submit(MANIFEST.format(gate=oracle.gate("go")), note="from a script", tags=["site", "main"])
        assert job["tags"] == "site/main"
        assert "status" not in job

        log = f"{yard.url}/logs/{job['id']}/prepare/log"
        seen = b""
        async with asyncio.timeout(120):
            while b"\nbegun" not in seen.replace(b"\r", b""):
                status, head, data = await script.curl(log, "-r", f"{len(seen)}-")
                if status == 206:
                    assert "content-range: bytes" in head
                    seen += data
                await asyncio.sleep(0.05)
        assert (await script.job(job["id"]))["status"] == "running"
        oracle.open_gate("go")

        ended = await script.ended(job["id"])
        assert ended["status"] == "success"
        assert [(task["name"], task["status"]) for task in ended["tasks"]] == [
            ("prepare", "success"),
            ("work", "success"),
        ]
        _, _, whole = await script.curl(log)
        assert whole.startswith(seen)
        _, _, artifacts = await script.curl(f"/api/jobs/{job['id']}/artifacts")
        (artifact,) = json.loads(artifacts)
        assert (artifact["path"], artifact["size"]) == ("out/result.txt", 10)
        assert (await script.curl(artifact["url"]))[2] == b"hello b c\n"
        assert (await script.curl(artifact["url"], "-r", "6-8"))[2] == b"b c"
        listed = json.loads((await script.curl("/api/jobs"))[2])
        assert [one["id"] for one in listed["results"]] == [job["id"]]
    oracle.close()


@pytest.mark.covers("sourcehut.scripts")
async def test_a_script_may_only_do_what_its_token_is_for(tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process") as yard:
        writer = await Script.of(yard, tmp_path)
        reader = await Script.of(yard, tmp_path, "jobs:read")
        job = await writer.submit("image: x\ntasks: [{a: 'true'}]", execute=False)

        status, _, answer = await reader.curl(f"/api/jobs/{job['id']}/start", "-X", "POST")
        started, _, _ = await writer.curl(f"/api/jobs/{job['id']}/start", "-X", "POST")
        form, _, made = await writer.curl("/api/jobs", "--data-urlencode", "manifest=image: x\ntasks: [{a: 'exit 1'}]")

        assert (status, started, form) == (403, 200, 200)
        assert "jobs:write" in json.loads(answer)["errors"][0]["reason"]
        assert (await writer.ended(job["id"]))["status"] == "success"
        assert (await writer.ended(json.loads(made)["id"]))["status"] == "failed"
