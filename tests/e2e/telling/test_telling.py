"""A real server tells of real builds: over its death, from the command line, by mail."""

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest
from aiohttp import web

from buildyard.client.messages import NewNotification, Webhook
from e2e.running import environment, finished, script, served, submit
from receiving import Received, mail_server, receiving

DUMMY = {"BUILDYARD_EXECUTOR": "process", "BUILDYARD_WORKERS": "2", "BUILDYARD_ALLOW_LOCAL_SOURCES": "1"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.covers("telling.crash", "telling.never_lost")
async def test_a_server_that_dies_between_sending_and_noting_it_sends_the_same_message_again(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        served(tmp_path / "data", BUILDYARD_TELLING_TIMEOUT_SECONDS="2", **DUMMY) as yard,
    ):
        client = yard.client()
        first = await submit(client, a=script("a", "true"))
        await finished(client, first)
        await client.add_notification(NewNotification(project="e2e", on="always", webhook=Webhook(url=receiver.url)))
        killed = asyncio.Event()

        async def kill_first(_received: Received) -> web.StreamResponse:
            if not killed.is_set():
                killed.set()
                await yard.server.kill()
            return web.Response()

        receiver.answer = kill_first
        builds = [await submit(client, a=script("a", "true")) for _ in range(3)]
        await asyncio.wait_for(killed.wait(), 60)
        await yard.start()
        for build in builds:
            await finished(client, build)
        got = await receiver.has(4)

        uids = [each.headers["X-Buildyard-Delivery"] for each in got]
        told = [json.loads(each.body)["build"]["uid"] for each in got]
        assert set(told) == {build.uid for build in builds}
        assert len(set(zip(uids, told, strict=True))) == 3
        assert uids.count(uids[0]) >= 2
        assert len({each.body for each in got}) == 3


@pytest.mark.covers("telling.cli", "telling.mail", "telling.dead_letters")
async def test_the_command_line_sets_up_mail_and_sends_dead_letters_again(tmp_path: Path) -> None:
    port = free_port()
    settings = {
        **DUMMY,
        "BUILDYARD_MAIL_HOST": "127.0.0.1",
        "BUILDYARD_MAIL_PORT": str(port),
        "BUILDYARD_MAIL_SECURITY": "none",
        "BUILDYARD_MAIL_FROM": "yard@example.org",
        "BUILDYARD_TELLING_TRIES": "1",
    }
    async with served(tmp_path / "data", **settings) as yard:
        client = yard.client()
        await finished(client, await submit(client, a=script("a", "true")))

        async def command(*arguments: str) -> tuple[int, str, str]:
            variables = {"BUILDYARD_DATA": str(yard.data), "BUILDYARD_URL": yard.url}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "buildyard.cli", *arguments),
                env=environment(variables),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            return process.returncode or 0, out.decode(), err.decode()

        added = await command("notify", "add", "e2e", "--email", "dev@example.org", "--json")
        assert added[0] == 0, added
        rule = json.loads(added[1])["id"]
        build = await submit(client, a=script("a", "echo the reason; exit 3"))
        await finished(client, build)
        while not (dead := (await client.deliveries(state="dead")).deliveries):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
        listed = await command("deliveries", "list", "--dead")
        assert listed[1].splitlines()[2].split()[:3] == [str(dead[0].id), "dead", str(build.id)]

        with mail_server(port) as box:
            again = await command("deliveries", "resend", "--dead")
            assert (again[0], again[1]) == (0, "1 messages are on their way again\n")
            async with asyncio.timeout(60):
                while not box.mails:  # noqa: ASYNC110 - the mail server has a loop of its own
                    await asyncio.sleep(0.05)
        ((_, mail, _),) = box.mails
        assert mail["Subject"] == "[e2e] e2e #2 failed"
        assert "    the reason" in mail.get_content()

        shown = await command("deliveries", "show", str(dead[0].id))
        assert "try 1" in shown[1]
        assert "try 2" in shown[1]
        assert "mail to dev@example.org" in (await command("notify", "list", "e2e"))[1]
        assert (await command("notify", "remove", str(rule)))[0] == 0
        assert json.loads((await command("notify", "list", "e2e", "--json"))[1]) == []
        assert (await command("notify", "add", "e2e"))[0] == 5
        assert (await command("deliveries", "show", "unknown", "--json"))[0] == 5
