"""A real server with its own worker: a manifest's shell, also after the server was killed."""

import json
from pathlib import Path

import pytest

from buildyard.client.http import HttpClient
from buildyard.client.messages import Build
from contracts.executors.watching import become_true, processes_with, unique_sleep
from e2e.attach.typist import Typist
from e2e.running import Yard, finished, log_of, served

MANIFEST = "{image: here, shell: true, tasks: [{one: echo from the task > note}]}"

pytestmark = [pytest.mark.covers("sourcehut.attach.crashes"), pytest.mark.covers("sourcehut.attach.shell")]


async def _submitted(yard: Yard, token: str) -> Build:
    http = HttpClient(yard.url, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    body = json.dumps({"manifest": MANIFEST}).encode()
    status, answer = await http.call("POST", "/api/jobs", body, timeout=60)
    await http.close()
    assert status == 200, answer
    return (await yard.client().tree(str(json.loads(answer)["id"]))).build


async def test_a_killed_server_takes_shells_with_it_and_leaves_the_workspace(tmp_path: Path, executor: str) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR=executor) as yard:
        token, seconds = await yard.token("*"), unique_sleep()
        build = await _submitted(yard, token)
        tree = await finished(yard.client(), build)
        assert tree.build.result == "success"
        said = await log_of(yard.client(), tree.jobs[0].attempts[0].steps[-1].log)
        assert f"buildyard attach {build.id} job" in said.decode()

        async with Typist(yard.url, token, "attach", str(build.id)) as person:
            await person.sees(b"attached")
            person.type(f"cat note; nohup sleep {seconds} & sleep {seconds}\n".encode())
            await person.sees(b"from the task")
            await become_true(lambda: len(processes_with(seconds)) == 2)
            await yard.restart()
            assert await person.ended() == 3
            await become_true(lambda: processes_with(seconds) == [])

        async with Typist(yard.url, token, "attach", str(build.id)) as person:
            await person.sees(b"attached")
            person.type(b"cat note; exit 9\n")
            await person.sees(b"from the task")
            assert await person.ended() == 9

        await yard.kill_worker()
        await yard.worker_pid()
        async with Typist(yard.url, token, "attach", str(build.id)) as person:
            assert await person.ended() in (3, 5)
        assert any(words in person.drawn for words in (b"has ended since", b"is not connected", b"did not open"))
