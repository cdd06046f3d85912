"""Servers and workers that are asked to stop: what runs may end, what does not is cancelled, what waits is kept."""

import signal
from pathlib import Path

import pytest

from buildyard.worker.folder import holder
from e2e.running import (
    Oracle,
    finished,
    job_of,
    nothing_left,
    script,
    served,
    step_log,
    submit,
    tree_when,
    working,
)

ONE = {"BUILDYARD_EXECUTOR": "process", "BUILDYARD_WORKERS": "1"}


def gated(oracle: Oracle, name: str) -> dict[str, object]:
    """A job that tells when it runs, waits, and goes on."""
    words = [oracle.say(f"{name} runs $BUILDYARD_ATTEMPT"), "echo begun", oracle.gate(name), "echo ended"]
    return script(name, "\n".join(words))


@pytest.mark.covers("ops.stop", "cli.serve", "worker.drain", "engine.recovery.server")
async def test_a_stopping_server_lets_running_jobs_end_and_the_next_one_goes_on_with_the_queue(
    oracle: Oracle, tmp_path: Path
) -> None:
    async with served(tmp_path / "data", **ONE) as yard:
        client = yard.client()
        first = await submit(client, first=gated(oracle, "first"))
        await oracle.hears("first runs 1")
        second = await submit(client, second=gated(oracle, "second"))
        yard.server.signal(signal.SIGTERM)
        await yard.server.line("stopping")
        oracle.open_gate("first")
        assert await yard.server.ended(12) == 0
        assert holder(yard.data / "worker") is None
        assert oracle.heard == ["first runs 1"]

        await yard.start()
        tree = await finished(client, first)
        assert (tree.build.result, len(job_of(tree, "first").attempts)) == ("success", 1)
        assert await step_log(client, tree, "first") == b"begun\nended\n"
        oracle.open_gate("second")
        tree = await finished(client, second)
        lost = [attempt.lost for attempt in job_of(tree, "second").attempts]
        assert (tree.build.result, lost) in (("success", [False]), ("success", [True, False]))
        assert oracle.heard == ["first runs 1", f"second runs {len(lost)}"]  # a lost one had not reached the worker


@pytest.mark.covers("ops.stop", "cli.serve")
async def test_a_job_that_does_not_end_in_time_is_cancelled_and_the_server_ends_within_twelve_seconds(
    oracle: Oracle, tmp_path: Path
) -> None:
    async with served(tmp_path / "data", **ONE) as yard:
        client = yard.client()
        build = await submit(client, long=gated(oracle, "long"))
        await oracle.hears("long runs 1")
        yard.server.signal(signal.SIGTERM)
        assert await yard.server.ended(12) == 0
        await nothing_left(yard.data / "worker")

        yard.variables["BUILDYARD_WORKERS"] = "0"
        await yard.start()
        tree = await finished(client, build)
        job = job_of(tree, "long")
        assert (job.result, job.cause, len(job.attempts)) == ("cancelled", "interrupted", 1)
        assert (await step_log(client, tree, "long")).startswith(b"begun\n")


@pytest.mark.covers("ops.stop", "cli.serve")
async def test_a_second_signal_cancels_what_runs_at_once(oracle: Oracle, tmp_path: Path) -> None:
    async with served(tmp_path / "data", **ONE, BUILDYARD_DRAIN_SECONDS="600") as yard:
        client = yard.client()
        build = await submit(client, long=gated(oracle, "long"))
        await oracle.hears("long runs 1")
        yard.server.signal(signal.SIGTERM)
        await yard.server.line("stopping")
        yard.server.signal(signal.SIGTERM)
        assert await yard.server.ended(30) == 0
        await nothing_left(yard.data / "worker")

        yard.variables["BUILDYARD_WORKERS"] = "0"
        await yard.start()
        tree = await finished(client, build)
        assert (tree.build.result, job_of(tree, "long").cause) == ("cancelled", "interrupted")


@pytest.mark.covers("worker.drain", "worker.remote", "cli.worker")
async def test_a_worker_drains_at_the_first_signal_and_stops_at_the_second(oracle: Oracle, tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_WORKERS="0", BUILDYARD_EXECUTOR="process") as yard:
        client = yard.client()
        token = await yard.token("runner")
        async with working(yard.url, token, tmp_path / "worker", "hand") as worker:
            builds = {name: await submit(client, **{name: gated(oracle, name)}) for name in ("short", "long")}
            await oracle.hears("short runs 1")
            await oracle.hears("long runs 1")
            worker.signal(signal.SIGTERM)
            waiting = await submit(client, waiting=gated(oracle, "waiting"))
            oracle.open_gate("short")
            assert (await finished(client, builds["short"])).build.result == "success"
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 0
        await nothing_left(tmp_path / "worker")
        tree = await finished(client, builds["long"])
        assert (tree.build.result, job_of(tree, "long").cause) == ("cancelled", "interrupted")
        tree = await tree_when(client, waiting, lambda _tree: True)
        assert (tree.build.phase, job_of(tree, "waiting").attempts) == ("queued", [])
