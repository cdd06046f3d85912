"""A real server tells of jobs from manifests: signed webhooks and mail, over its own death."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from e2e.running import Yard, environment, served
from e2e.telling.test_telling import free_port
from receiving import MailBox, Received, mail_server, receiving

MANIFEST = """\
image: debian
tasks:
  - hello: echo hello
  - fail: exit 3
triggers:
  - action: webhook
    condition: always
    url: "{url}/job"
  - action: email
    condition: failure
    to: dev@example.org
    cc: boss@example.org
"""


async def api(yard: Yard, method: str, path: str, body: object) -> dict[str, object]:
    """A request to the API of builds.sr.ht, as the operator."""
    token = (yard.data / "operator.token").read_text().strip()
    headers = {"Authorization": f"token {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"{yard.url}{path}", json=body) as response,
    ):
        answer: dict[str, object] = await response.json()
        assert response.status == 200, answer
        return answer


async def public_key(yard: Yard) -> str:
    """What `buildyard deliveries key` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "buildyard.cli", "deliveries", "key"),
        env=environment({"BUILDYARD_DATA": str(yard.data), "BUILDYARD_URL": yard.url}),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return out.decode().strip()


def require_genuine(public: str, got: Received) -> None:
    """Raise unless the signature is over the body and then the nonce."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    key.verify(base64.b64decode(got.headers["X-Payload-Signature"]), got.body + got.headers["X-Payload-Nonce"].encode())


async def mailed(box: MailBox, count: int) -> None:
    async with asyncio.timeout(60):
        while len(box.mails) < count:  # noqa: ASYNC110 - the mail server has a loop of its own
            await asyncio.sleep(0.05)


@pytest.mark.covers("triggers.crash", "triggers.webhooks", "triggers.mail", "webhooks.signature")
async def test_a_server_killed_while_it_tells_tells_again_and_a_group_once(tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "BUILDYARD_EXECUTOR": "process",
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_ALLOW_LOCAL_SOURCES": "1",
        "BUILDYARD_TELLING_TIMEOUT_SECONDS": "2",
        "BUILDYARD_MAIL_HOST": "127.0.0.1",
        "BUILDYARD_MAIL_PORT": str(port),
        "BUILDYARD_MAIL_SECURITY": "none",
        "BUILDYARD_MAIL_FROM": "yard@example.org",
    }
    with mail_server(port) as box:
        async with receiving() as receiver, served(tmp_path / "data", **settings) as yard:
            killed = asyncio.Event()

            async def kill_first(_received: Received) -> web.StreamResponse:
                if not killed.is_set():
                    killed.set()
                    await yard.server.kill()
                return web.Response()

            receiver.answer = kill_first
            manifest = MANIFEST.format(url=receiver.url)
            made = await api(yard, "POST", "/api/jobs", {"manifest": manifest, "tags": ["lib"], "note": "a note"})
            await asyncio.wait_for(killed.wait(), 120)
            await yard.start()
            first, again = (await receiver.has(2))[:2]
            await mailed(box, 2)

            assert json.loads(first.body) == json.loads(again.body)
            assert json.loads(again.body)["id"] == made["id"]
            assert json.loads(again.body)["status"] == "failed"
            assert [task["status"] for task in json.loads(again.body)["tasks"]] == ["success", "failed"]
            assert first.headers["X-Buildyard-Delivery"] == again.headers["X-Buildyard-Delivery"]
            public = await public_key(yard)
            require_genuine(public, first)
            require_genuine(public, again)
            assert {mail["Subject"] for _, mail, _ in box.mails} == {"[lib] build failed"}
            assert "✓ hello ✗ fail" in box.mails[0][1].get_content()

            plain = "image: debian\ntasks: [{a: 'true'}]\n"
            jobs = [await api(yard, "POST", "/api/jobs", {"manifest": plain, "execute": False}) for _ in range(3)]
            trigger = {"action": "webhook", "condition": "success", "url": f"{receiver.url}/group"}
            body = {"jobs": [job["id"] for job in jobs], "triggers": [trigger], "note": "all", "execute": True}
            killed.clear()
            group = await api(yard, "POST", "/api/job-group", body)
            await asyncio.wait_for(killed.wait(), 120)
            await yard.start()
            await receiver.has(4)
            told = [got for got in receiver.got if got.path == "/group"]

            assert len({got.headers["X-Buildyard-Delivery"] for got in told}) == 1
            require_genuine(public, told[0])
            assert json.loads(told[0].body)["id"] == group["id"]
            assert {job["status"] for job in json.loads(told[0].body)["jobs"]} == {"success"}


@pytest.mark.covers("user_webhooks.queries", "user_webhooks.events", "user_webhooks.manage")
async def test_a_users_webhook_hears_of_a_job_from_its_making_to_its_end(tmp_path: Path) -> None:
    settings = {"BUILDYARD_EXECUTOR": "process", "BUILDYARD_WORKERS": "2", "BUILDYARD_ALLOW_LOCAL_SOURCES": "1"}
    async with receiving() as receiver, served(tmp_path / "data", **settings) as yard:
        receiver.always(200, "heard")
        stored = "query { webhook { event ... on JobEvent { job { id note } } } }"
        make = """mutation($url: String!, $query: String!) {
            createUserWebhook(config: {url: $url, events: [JOB_CREATED, JOB_UPDATED], query: $query}) { id }
        }"""
        made = await api(yard, "POST", "/query", {"query": make, "variables": {"url": receiver.url, "query": stored}})
        job = await api(yard, "POST", "/api/jobs", {"manifest": "image: debian\ntasks: [{a: 'true'}]\n", "note": "n"})
        got = await receiver.has(3)
        public = await public_key(yard)
        for each in got:
            require_genuine(public, each)
            assert json.loads(each.body)["data"]["webhook"]["job"] == {"id": job["id"], "note": "n"}
        events = [each.headers["X-Webhook-Event"] for each in got]
        assert sorted(events) == ["JOB_CREATED", "JOB_UPDATED", "JOB_UPDATED"]

        shown = "query($id: Int!) { userWebhook(id: $id) { deliveries { results { uuid responseBody } } } }"
        webhook = made["data"]["createUserWebhook"]["id"]  # type: ignore[index]  # JSON
        async with asyncio.timeout(60):
            while True:
                answer = await api(yard, "POST", "/query", {"query": shown, "variables": {"id": webhook}})
                kept = answer["data"]["userWebhook"]["deliveries"]["results"]  # type: ignore[index]  # JSON
                if [each["responseBody"] for each in kept] == ["heard"] * 3:
                    break
                await asyncio.sleep(0.05)
        assert {each["uuid"] for each in kept} == {each.headers["X-Webhook-Delivery"] for each in got}
