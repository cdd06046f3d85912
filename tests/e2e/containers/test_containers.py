"""Builds in containers, from the submission to the last container's removal."""

import asyncio
from pathlib import Path

import pytest

from e2e.running import (
    finished,
    has_logged,
    job_of,
    kill_stranger,
    log_of,
    nothing_left,
    script,
    served,
    step_log,
    submit,
)
from podman import IMAGE, Podman, fresh_podman


def settings(podman: Podman, **more: str) -> dict[str, str]:
    """A server with one worker, whose jobs run in containers."""
    return {
        "BUILDYARD_EXECUTOR": "container",
        "BUILDYARD_CONTAINER_HOST": podman.address,
        "BUILDYARD_CONTAINER_PULL": "never",
        "BUILDYARD_WORKERS": "2",
        **more,
    }


@pytest.mark.covers("executors.container.build", "executors.container.image")
async def test_jobs_run_side_by_side_in_containers_and_pass_on_outputs(podman: Podman, tmp_path: Path) -> None:
    async with served(tmp_path / "data", **settings(podman)) as yard:
        client = yard.client()
        build = await submit(
            client,
            left=script("l", "echo left > out; echo tool > /opt-tool", "cat /opt-tool", image=IMAGE, outputs=["out"]),
            right=script("r", "until [ -e /opt-right ]; do echo > /opt-right; done; echo right", image=IMAGE),
            both=script("b", "cat out; hostname", image=IMAGE, needs=["left", "right"]),
            absent=script("a", "true", image="localhost/absent:1", allow_failure=True),
            none=script("n", "true", allow_failure=True),
        )
        tree = await finished(client, build)

        assert {job.name: job.result for job in tree.jobs} == {
            "left": "success",
            "right": "success",
            "both": "success",
            "absent": "error",
            "none": "error",
        }
        assert (await step_log(client, tree, "left", 2)).startswith(b"tool\n")
        assert await step_log(client, tree, "both") == b"left\nbuildyard\n"
        for name, words in {
            "absent": "buildyard image load FILE --as NAME",
            "none": "BUILDYARD_CONTAINER_IMAGE",
        }.items():
            attempt = job_of(tree, name).attempts[0]
            assert (attempt.result, attempt.cause) == ("error", "unsupported")
            assert words in attempt.detail
            assert words in (await log_of(client, attempt.steps[0].log)).decode()
        await nothing_left(yard.data / "worker")
        assert podman.containers(label="buildyard.state") == []


SERVE = ["bash", "-c", "echo serving; exec socat TCP-LISTEN:5432,fork,reuseaddr SYSTEM:'echo $GREETING'"]
READY = "bash -c 'exec 5<>/dev/tcp/localhost/5432'"


@pytest.mark.covers("executors.container.services")
async def test_services_are_reached_by_name_and_have_logs_of_their_own(podman: Podman, tmp_path: Path) -> None:
    db = {"image": IMAGE, "command": SERVE, "env": {"GREETING": "from the service"}, "ready": READY}
    never = {"image": IMAGE, "command": ["bash", "-c", "echo waiting; sleep 1000"], "ready": "false", "timeout": 1}
    dead = {"image": IMAGE, "command": ["bash", "-c", "echo oh no; exit 3"], "ready": "false"}
    async with served(tmp_path / "data", **settings(podman)) as yard:
        client = yard.client()
        build = await submit(
            client,
            with_db=script("w", "true", "cat < /dev/tcp/db/5432", image=IMAGE, services={"db": db}),
            slow=script("s", "true", image=IMAGE, services={"db": never}, allow_failure=True),
            broken=script("b", "true", image=IMAGE, services={"db": dead}, allow_failure=True),
        )
        tree = await finished(client, build)

        assert {job.name: job.result for job in tree.jobs} == {"with_db": "success", "slow": "error", "broken": "error"}
        assert await step_log(client, tree, "with_db", 2) == b"from the service\n"
        steps = {job.name: job.attempts[0].steps for job in tree.jobs}
        assert [step.name for step in steps["with_db"]] == ["setup", "w1", "w2", "service db"]
        assert [step.result for step in steps["with_db"]] == ["success"] * 4
        assert await log_of(client, steps["with_db"][3].log) == b"serving\n"
        assert job_of(tree, "slow").attempts[0].detail == "service db was not ready within 1 s"
        assert await log_of(client, steps["slow"][2].log) == b"waiting\n"
        assert "ended with status 3 before it was ready" in job_of(tree, "broken").attempts[0].detail
        assert (await log_of(client, steps["broken"][2].log)).startswith(b"oh no\n")
        assert [step.result for step in steps["broken"]] == ["error", None, "failure"]
        await nothing_left(yard.data / "worker")
        assert podman.containers(label="buildyard.state") == []


async def test_services_need_the_executor_container(tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="1") as yard:
        client = yard.client()
        build = await submit(client, one=script("o", "true", services={"db": {"image": "x"}}))
        tree = await finished(client, build)

        attempt = job_of(tree, "one").attempts[0]
        assert (attempt.result, attempt.cause) == ("error", "unsupported")
        assert "need a worker with the executor container" in attempt.detail


@pytest.mark.covers("executors.container.killed", "engine.recovery.worker")
async def test_a_killed_workers_containers_are_gone_before_the_next_attempt(podman: Podman, tmp_path: Path) -> None:
    async with served(tmp_path / "data", **settings(podman)) as yard:
        client = yard.client()
        command = "echo attempt $BUILDYARD_ATTEMPT; [ $BUILDYARD_ATTEMPT -gt 1 ] || setsid sleep 1000"
        build = await submit(
            client, held=script("h", command, image=IMAGE, services={"db": {"image": IMAGE, "command": SERVE}})
        )
        await has_logged(client, build, "held", b"attempt 1\n")
        first = podman.containers(label="buildyard.state")

        await kill_stranger(await yard.worker_pid())
        tree = await finished(client, build)

        assert tree.build.result == "success"
        assert [attempt.lost for attempt in job_of(tree, "held").attempts] == [True, False]
        assert len(first) == 2
        await nothing_left(yard.data / "worker")
        assert podman.containers(label="buildyard.state") == []


async def test_a_cancelled_build_ends_its_container(podman: Podman, tmp_path: Path) -> None:
    async with served(tmp_path / "data", **settings(podman)) as yard:
        client = yard.client()
        build = await submit(client, held=script("h", "echo begun; (trap '' TERM; setsid sleep 1000)", image=IMAGE))
        await has_logged(client, build, "held", b"begun\n")

        await client.cancel(build.uid, "enough")
        tree = await finished(client, build)

        assert tree.build.result == "cancelled"
        await nothing_left(yard.data / "worker")
        assert podman.containers(label="buildyard.state") == []


@pytest.mark.covers("executors.container.engine_away")
async def test_an_engine_that_dies_under_a_job_is_an_error_that_says_so_and_nothing_stays(tmp_path: Path) -> None:
    with fresh_podman() as own:
        async with served(tmp_path / "data", **settings(own)) as yard:
            client = yard.client()
            build = await submit(client, held=script("h", "echo begun; sleep 20; echo ended", image=IMAGE))
            await has_logged(client, build, "held", b"begun\n")

            own.stop()
            await asyncio.sleep(1)  # some time without an engine
            own.start()
            first = await finished(client, build)
            second = await finished(client, await submit(client, next=script("n", "echo fine", image=IMAGE)))

            (attempt,) = job_of(first, "held").attempts
            assert (attempt.result, attempt.cause) == ("error", "executor")
            assert attempt.detail == "the container ended"
            assert job_of(second, "next").result == "success"
            await nothing_left(yard.data / "worker")
            assert own.containers(label="buildyard.state") == []
