"""Workers older and newer than the server: messages as the first ones sent them, and as later ones may."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from apis.native.serving import Server
from buildyard.domain.access import SYSTEM, Actor
from buildyard.engine import identity
from buildyard.protocol import VERSION
from buildyard.store.statements import Statement, given
from buildyard.store.tables import workers
from buildyard.store.transactions import Transaction

pytestmark = pytest.mark.covers("worker.versions")

WORKFLOW = "jobs: {make: {run: 'make', outputs: [out], caches: [.cache]}, then: {run: 'use', needs: [make]}}"
SUCCESS = 1
UNKNOWN = {"later": {"nested": [1, "two", None]}, "and_more": True}
SPEAKS = Statement(update(workers).where(workers.c.name == given("called")).values(protocol=given("version")))


@dataclass
class Speaker:
    """A worker that speaks in maps: those of the first release, with `more` in each message and each item."""

    server: Server
    token: str
    more: dict[str, Any]
    name: str = "w1"

    async def say(self, path: str, /, **message: Any) -> tuple[int, dict[str, Any]]:
        """A call; the status and the answer."""
        body = msgspec.msgpack.encode({**message, **self.more})
        answer = await self.server.call("POST", f"/worker/v1/{path}", data=body, by=f"Bearer {self.token}")
        return answer.status, msgspec.msgpack.decode(answer.data)

    async def ask(self, path: str, /, **message: Any) -> dict[str, Any]:
        """A call that is answered well."""
        status, answer = await self.say(path, **message)
        assert status == 200, answer
        return answer

    def greeting(self, protocol: int = VERSION) -> dict[str, Any]:
        """What the first workers said of themselves."""
        return {
            "protocol": protocol,
            "name": self.name,
            "session": "session",
            "state_id": "state",
            "version": "0.1.0",
            "labels": ["linux"],
            "executors": ["process"],
            "system": "x86_64-linux",
            "slots": 2,
        }

    def item(self, tag: str, grant: dict[str, Any], **rest: Any) -> dict[str, Any]:
        """An item of a report."""
        return {"type": tag, "attempt": grant["attempt"], "token": grant["token"], **rest, **self.more}

    async def store(self, data: bytes) -> dict[str, Any]:
        """Send bytes; what they are named by."""
        answer = await self.server.call("PUT", "/worker/v1/blobs", data=data, by=f"Bearer {self.token}")
        stored = msgspec.msgpack.decode(answer.data)
        return {"sha256": stored["sha256"], "size": stored["size"], **self.more}

    async def work(self, grant: dict[str, Any]) -> None:
        """Run a job, in words."""
        step = grant["steps"][1]
        kept = await self.store(b"kept")
        await self.ask("caches/find", attempt=grant["attempt"], token=grant["token"], path=".cache", key="")
        ended = {"step": step["step"], "log": step["log"], "log_size": 6, "result": SUCCESS}
        items = [
            self.item("started", grant),
            self.item("step_started", grant, step=step["step"]),
            self.item("output", grant, log=step["log"], offset=0, chunks=[["o", 1, b"hello\n"]]),
            self.item("step_finished", grant, **ended),
            self.item(
                "finished",
                grant,
                result=SUCCESS,
                outputs=[{"path": "out", "mode": 0o644, **kept}],
                caches=[{"path": ".cache", "key": "", **kept}],
            ),
        ]
        acks = (await self.ask("report", session="session", items=items))["acks"]
        assert [ack["answer"] for ack in acks] == ["done"] * 5


@pytest.fixture
async def token(server: Server) -> str:
    """A worker's token."""
    return (await server.engine.run(identity.create_token, SYSTEM, "admin", ("runner",))).secret


@pytest.mark.parametrize("more", [{}, UNKNOWN], ids=["older", "newer"])
async def test_a_worker_that_knows_less_or_more_of_this_version_does_its_jobs(
    server: Server, token: str, more: dict[str, Any]
) -> None:
    build = (await server.submit(WORKFLOW)).body["id"]
    worker = Speaker(server, token, more)
    welcome = await worker.ask("hello", **worker.greeting())
    assert (welcome["protocol"], welcome["drop"]) == (VERSION, [])

    for name in ("make", "then"):
        (grant,) = (await worker.ask("claim", session="session", free=2, have=[]))["jobs"]
        assert grant["spec"]["name"] == name
        held = [{"attempt": grant["attempt"], "token": grant["token"], **more}]
        assert (await worker.ask("heartbeat", session="session", held=held))["drop"] == []
        await worker.work(grant)

    assert (await server.call("GET", f"/builds/{build}")).body["build"]["result"] == "success"


@pytest.mark.parametrize(("speaks", "remedy"), [(VERSION + 1, "the server"), (VERSION - 2, "the worker")])
async def test_a_version_that_is_not_served_is_told_which_are_and_what_to_upgrade(
    server: Server, token: str, speaks: int, remedy: str
) -> None:
    worker = Speaker(server, token, {})

    status, answer = await worker.say("hello", **worker.greeting(speaks))

    assert status == 426
    served = f"{VERSION - 1} and {VERSION}"
    assert answer["error"] == (
        f"this server serves the worker protocol's versions {served}, the worker speaks {speaks}: upgrade {remedy}"
    )
    assert (await server.call("GET", "/workers")).body["workers"] == []


async def test_the_version_before_is_served(server: Server, token: str) -> None:
    worker = Speaker(server, token, {})

    assert (await worker.ask("hello", **worker.greeting(VERSION - 1)))["protocol"] == VERSION - 1


async def test_what_a_worker_holds_is_not_lost_when_a_server_comes_that_does_not_serve_its_version(
    server: Server, token: str
) -> None:
    build = (await server.submit(WORKFLOW)).body["id"]
    worker = Speaker(server, token, {})
    await worker.ask("hello", **worker.greeting())
    (grant,) = (await worker.ask("claim", session="session", free=1, have=[]))["jobs"]
    await server.engine.run(_speaks, SYSTEM, worker.name, VERSION - 2)

    status, answer = await worker.say("claim", session="session", free=1, have=[grant["attempt"]])

    assert (status, "upgrade the worker" in answer["error"]) == (426, True)
    held = [{"attempt": grant["attempt"], "token": grant["token"]}]
    assert (await worker.ask("heartbeat", session="session", held=held))["drop"] == []
    await worker.work(grant)
    shown = (await server.call("GET", f"/builds/{build}")).body
    assert [(job["phase"], job["result"]) for job in shown["jobs"]] == [("finished", "success"), ("queued", None)]


async def _speaks(tx: Transaction, _actor: Actor, name: str, version: int) -> None:
    await tx.execute(SPEAKS, called=name, version=version)
