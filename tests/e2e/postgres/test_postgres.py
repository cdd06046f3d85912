"""The same crashes with PostgreSQL, and two servers on one database."""

import asyncio
from pathlib import Path

import pytest

from e2e.running import (
    Oracle,
    Yard,
    finished,
    has_logged,
    job_of,
    nothing_left,
    script,
    served,
    step_log,
    submit,
)

LINES = "".join(f"{number}\n" for number in range(1, 3001)).encode()


def gated(oracle: Oracle, name: str) -> dict[str, object]:
    """A job that tells when it runs, waits, prints, and tells that it ends."""
    words = [
        oracle.say(f"{name} runs $BUILDYARD_ATTEMPT"),
        "echo begun",
        oracle.gate(name),
        "seq 1 3000",
        oracle.say(f"{name} ends $BUILDYARD_ATTEMPT"),
    ]
    return script(name, "\n".join(words))


@pytest.mark.covers("engine.recovery.server", "engine.recovery.worker", "engine.recovery.once")
async def test_on_postgres_too_a_dead_server_costs_nothing_and_a_dead_worker_one_attempt(
    oracle: Oracle, empty_postgres: str, tmp_path: Path
) -> None:
    settings = {
        "BUILDYARD_EXECUTOR": "process",
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_DATABASE_URL": empty_postgres,
    }
    async with served(tmp_path / "data", **settings) as yard:
        client = yard.client()
        build = await submit(
            client, one=gated(oracle, "one"), two=gated(oracle, "two"), last=script("l", "true", needs=["one", "two"])
        )
        for name in ("one", "two"):
            await has_logged(client, build, name, b"begun\n")
        await yard.server.kill()
        oracle.open_gate("one")
        await oracle.hears("one ends 1")
        await yard.start()
        await has_logged(client, build, "one", b"3000\n")
        await yard.kill_worker()
        await oracle.hears("two runs 2")
        oracle.open_gate("two")
        tree = await finished(client, build)

        assert tree.build.result == "success"
        assert [len(job.attempts) for job in tree.jobs] == [1, 2, 1]
        assert sorted(oracle.heard) == ["one ends 1", "one runs 1", "two ends 2", "two runs 1", "two runs 2"]
        assert await step_log(client, tree, "one") == b"begun\n" + LINES
        assert await step_log(client, tree, "two", attempt=1) == b"begun\n"
        assert await step_log(client, tree, "two", attempt=2) == b"begun\n" + LINES
        await nothing_left(yard.data / "worker")


@pytest.mark.covers("engine.claim.once", "engine.recovery.server", "worker.embedded")
async def test_two_servers_share_one_database_and_one_goes_on_without_the_other(
    oracle: Oracle, empty_postgres: str, s3_url: str, tmp_path: Path
) -> None:
    settings = {
        "BUILDYARD_EXECUTOR": "process",
        "BUILDYARD_WORKERS": "1",
        "BUILDYARD_DATABASE_URL": empty_postgres,
        "BUILDYARD_BLOBS_URL": "s3://buildyard/two",
        "BUILDYARD_BLOBS_OPTIONS": f"endpoint={s3_url},access_key_id=any,secret_access_key=any",
    }
    async with (
        served(tmp_path / "left", **settings, BUILDYARD_WORKER_NAME="left") as left,
        served(tmp_path / "right", **settings, BUILDYARD_WORKER_NAME="right") as right,
    ):
        build = await submit(left.client(), one=gated(oracle, "one"), two=gated(oracle, "two"))
        await oracle.hears("one runs 1")
        await oracle.hears("two runs 1")
        tree = await right.client().tree(build.uid)
        assert {job.attempts[0].worker for job in tree.jobs} == {"left", "right"}
        more = [await submit(yard.client(), more=_teller(oracle)) for yard in (left, right) * 5]
        await left.server.kill()
        oracle.open_gate("one")
        oracle.open_gate("two")
        await oracle.hears("one ends 1")
        await oracle.hears("two ends 1")
        await asyncio.gather(*(finished(right.client(), each) for each in more))
        await left.start()
        tree = await finished(right.client(), build)

        assert tree.build.result == "success"
        assert [len(job.attempts) for job in tree.jobs] == [1, 1]
        for yard in (left, right):
            for name in ("one", "two"):
                assert await step_log(yard.client(), tree, name) == b"begun\n" + LINES
        told = [words for words in oracle.heard if words.startswith("more")]
        assert sorted(told) == sorted(f"more {each.number} 1" for each in more)
        await _is_quiet(left, right)


def _teller(oracle: Oracle) -> dict[str, object]:
    return script("m", oracle.say("more $BUILDYARD_BUILD_NUMBER $BUILDYARD_ATTEMPT"))


async def _is_quiet(*yards: Yard) -> None:
    for yard in yards:
        await nothing_left(yard.data / "worker")
        assert job_of(await finished(yard.client(), await submit(yard.client(), one=script("o", "true"))), "one")
