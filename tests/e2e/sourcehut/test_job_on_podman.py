"""A job with three tasks, an artifact, a secret and a trigger, in a container."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from buildyard.client.messages import NewSecret
from e2e.running import nothing_left, served, until
from e2e.sourcehut.curling import Script
from podman import IMAGE, Podman
from receiving import mail_server

MANIFEST = """
image: test
secrets: [deploy-key]
artifacts: [site.txt]
tasks:
  - build: echo built > site.txt
  - sign: test "$(cat ~/key)" = "a value that nobody may read" && cat ~/key && echo signed >> site.txt
  - check: grep -c . site.txt
triggers:
  - {action: email, condition: always, to: Ada <ada@example.org>}
"""


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.covers("sourcehut.podman")
async def test_tasks_secret_artifact_and_mail_of_a_job_in_a_container(podman: Podman, tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "BUILDYARD_EXECUTOR": "container",
        "BUILDYARD_CONTAINER_HOST": podman.address,
        "BUILDYARD_CONTAINER_PULL": "never",
        "BUILDYARD_SOURCEHUT_IMAGES": f"test={IMAGE}",
        "BUILDYARD_MAIL_HOST": "127.0.0.1",
        "BUILDYARD_MAIL_PORT": str(port),
        "BUILDYARD_MAIL_SECURITY": "none",
        "BUILDYARD_MAIL_FROM": "yard@example.org",
    }
    with mail_server(port) as box:
        async with served(tmp_path / "data", **variables) as yard:
            script = await Script.of(yard, tmp_path)
            secret = NewSecret(
                name="deploy-key", value=b"a value that nobody may read", kind="file", path="~/key", account="admin"
            )
            await yard.client().set_secret(secret)

            job = await script.submit(MANIFEST, tags=["site"])
            ended = await script.ended(job["id"])

            logs = {task["name"]: (await script.curl(task["log"]))[2].decode() for task in ended["tasks"]}
            assert ended["status"] == "success", (ended, logs, (await script.curl(ended["setup_log"]))[2])
            assert [task["status"] for task in ended["tasks"]] == ["success"] * 3
            assert "nobody may read" not in "".join(logs.values())
            assert "***" in logs["sign"]
            _, _, artifacts = await script.curl(f"/api/jobs/{job['id']}/artifacts")
            assert b"site.txt" in artifacts
            address, mail, _ = (await until(lambda: box.mails or None))[0]
            assert address == "ada@example.org"
            assert mail["Subject"].startswith("[site")
            assert f"/job/{job['id']}" in mail.get_content()
            await nothing_left(yard.data / "worker")
