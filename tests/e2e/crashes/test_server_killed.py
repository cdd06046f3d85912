"""The server dies: what runs goes on, and is told in full when there is a server again."""

import asyncio
from pathlib import Path

import pytest

from e2e.running import Oracle, finished, job_of, log_of, nothing_left, script, served, step_log, submit

LINES = 3000


def printing(word: str) -> str:
    """A command that prints numbered lines, in no hurry."""
    return f'for i in $(seq 1 {LINES}); do echo "{word} $i"; ((i % 50)) || sleep 0.01; done'


def printed(*words: str) -> bytes:
    """What `printing` prints."""
    return "".join(f"{word} {number}\n" for word in words for number in range(1, LINES + 1)).encode()


@pytest.mark.covers("engine.recovery.server", "engine.recovery.once", "worker.embedded", "worker.reconnect")
async def test_jobs_go_on_without_their_server_and_their_logs_have_no_gap(
    executor: str, oracle: Oracle, tmp_path: Path
) -> None:
    settings = {
        "BUILDYARD_EXECUTOR": executor,
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(oracle.folder),
    }
    async with served(tmp_path / "data", **settings) as yard:
        client = yard.client()
        steady = script("s", "\n".join([oracle.say("steady $BUILDYARD_ATTEMPT"), printing("one"), printing("two")]))
        gated = script(
            "g",
            "\n".join(
                [
                    printing("before"),
                    oracle.say("gated $BUILDYARD_ATTEMPT"),
                    oracle.gate("away"),
                    printing("after"),
                    oracle.say("while away $BUILDYARD_ATTEMPT"),
                    oracle.gate("back"),
                ]
            ),
            f"{oracle.say('second step $BUILDYARD_ATTEMPT')}\necho the end; echo to errors >&2",
        )
        following = script("f", f"{oracle.say('follower $BUILDYARD_ATTEMPT')}\necho followed", needs=["gated"])
        build = await submit(client, steady=steady, gated=gated, following=following)
        await oracle.hears("gated 1")
        await oracle.hears("steady 1")
        worker = await yard.worker_pid()

        await yard.server.kill()
        oracle.open_gate("away")
        await oracle.hears("while away 1")
        await yard.start()
        oracle.open_gate("back")
        tree = await finished(client, build)

        assert tree.build.result == "success"
        assert await yard.worker_pid() == worker
        assert f"pid={worker}" in yard.log.read_text().split("worker_found", 1)[1]
        assert [len(job.attempts) for job in tree.jobs] == [1, 1, 1]
        assert sorted(oracle.heard) == sorted(["steady 1", "gated 1", "while away 1", "second step 1", "follower 1"])
        assert await step_log(client, tree, "steady") == printed("one", "two")
        assert await step_log(client, tree, "gated") == printed("before", "after")
        assert sorted((await step_log(client, tree, "gated", 2)).split(b"\n")) == [b"", b"the end", b"to errors"]
        await nothing_left(yard.data / "worker")


@pytest.mark.covers("engine.recovery.server", "logs.durable")
async def test_a_log_has_every_byte_once_however_often_the_server_dies(oracle: Oracle, tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="1") as yard:
        client = yard.client()
        endless = f"i=0; while ! read -r -t 0.005 _ <> {oracle.folder}/gate-end; do i=$((i+1)); echo line $i; done"
        oracle.gate("end")
        words = "\n".join([oracle.say("begun $BUILDYARD_ATTEMPT"), endless, oracle.say("lines $i")])
        build = await submit(client, chatty=script("c", words))
        await oracle.hears("begun 1")
        for _ in range(3):
            await yard.restart()
        oracle.open_gate("end", times=100)  # one may be read and lost as the wait for it times out
        tree = await finished(client, build)

        begun, told = oracle.heard
        assert (begun, tree.build.result) == ("begun 1", "success")
        count = int(told.removeprefix("lines "))
        expected = "".join(f"line {number}\n" for number in range(1, count + 1)).encode()
        assert await step_log(client, tree, "chatty") == expected
        (attempt,) = job_of(tree, "chatty").attempts
        setup = await log_of(client, attempt.steps[0].log)
        assert setup.count(b"attempt 1") == 1


@pytest.mark.covers("engine.recovery.server")
async def test_queued_work_and_acknowledged_submissions_survive_the_server(oracle: Oracle, tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="0") as yard:
        client = yard.client()
        words = oracle.say("$BUILDYARD_BUILD_NUMBER $BUILDYARD_ATTEMPT")
        builds = await asyncio.gather(*(submit(client, one=script("o", words)) for _ in range(20)))
        await yard.server.kill()
        yard.variables["BUILDYARD_WORKERS"] = "2"
        await yard.start()
        trees = await asyncio.gather(*(finished(client, build) for build in builds))

        assert {tree.build.result for tree in trees} == {"success"}
        assert sorted(oracle.heard) == sorted(f"{number} 1" for number in range(1, 21))
