"""What operators rely on: the server says that it listens, that it is well, and what it does."""

import json
from pathlib import Path

import pytest

from e2e.running import finished, http_get, script, served, submit


@pytest.mark.covers("cli.serve", "ops.health", "ops.metrics", "ops.request_id", "repo.run.announces")
async def test_a_server_tells_that_it_listens_how_it_is_and_what_it_does(tmp_path: Path) -> None:
    settings = {"BUILDYARD_EXECUTOR": "process", "BUILDYARD_WORKERS": "1", "BUILDYARD_LOG_FORMAT": "json"}
    async with served(tmp_path / "data", **settings) as yard:
        assert yard.url.startswith("http://127.0.0.1:")
        assert any(line.startswith("executor: process") for line in yard.server.printed)
        for path in ("/health", "/ready", "/live"):
            head, body = await http_get(f"{yard.url}{path}")
            assert head.startswith("HTTP/1.1 200")
            assert json.loads(body)["status"] == "ok"
        build = await submit(yard.client(), one=script("o", "true"))
        await finished(yard.client(), build)
        head, body = await http_get(f"{yard.url}/metrics")
        assert "text/plain" in head
        assert b"buildyard_http_requests_total" in body
        assert b'buildyard_deliveries{state="waiting"} 0.0' in body

        head, _ = await http_get(f"{yard.url}/api/nowhere", {"X-Request-ID": "ours-42"})
        assert "x-request-id: ours-42" in head.lower()
        entries = [json.loads(line) for line in yard.log.read_text().splitlines()]
        assert any(entry.get("request") == "ours-42" and entry["path"] == "/api/nowhere" for entry in entries)
        await yard.stop()
        worker = [json.loads(line) for line in (yard.data / "worker.log").read_text().splitlines() if line[0] == "{"]
        assert any(entry["event"] == "attempt_begun" and entry["build"] == build.id for entry in worker)
