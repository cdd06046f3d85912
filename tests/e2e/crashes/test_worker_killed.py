"""The worker dies: its jobs are dead before one new attempt of each begins."""

from pathlib import Path

import pytest

from e2e.running import Oracle, finished, has_logged, job_of, nothing_left, script, served, step_log, submit


def settings(oracle: Oracle, executor: str) -> dict[str, str]:
    """A server with one worker, whose jobs reach the oracle."""
    return {
        "BUILDYARD_EXECUTOR": executor,
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(oracle.folder),
    }


def haunted(oracle: Oracle, gate: str) -> str:
    """A command with a grandchild in a session of its own, which lives on where nobody ends it."""
    return "\n".join(
        [
            oracle.say("$BUILDYARD_JOB begins $BUILDYARD_ATTEMPT"),
            oracle.beat("$BUILDYARD_JOB beats $BUILDYARD_ATTEMPT"),
            "echo attempt $BUILDYARD_ATTEMPT",
            oracle.gate(gate),
            oracle.say("$BUILDYARD_JOB ends $BUILDYARD_ATTEMPT"),
        ]
    )


def after_first(heard: list[str], words: str) -> list[str]:
    """What was heard after the first of these words."""
    return heard[heard.index(words) + 1 :]


@pytest.mark.covers("engine.recovery.worker", "engine.recovery.once", "engine.lease.new_attempt", "executors.tree")
@pytest.mark.parametrize("with_server", [False, True], ids=["worker", "worker and server"])
async def test_a_killed_worker_costs_one_new_attempt_which_begins_after_the_old_processes_died(
    executor: str, with_server: bool, oracle: Oracle, tmp_path: Path
) -> None:
    async with served(tmp_path / "data", **settings(oracle, executor)) as yard:
        client = yard.client()
        after = script("a", oracle.say("after"), needs=["held", "other"])
        build = await submit(
            client, held=script("h", haunted(oracle, "held")), other=script("o", haunted(oracle, "other")), after=after
        )
        for name in ("held", "other"):
            await oracle.hears(f"{name} beats 1", 3)
            await has_logged(client, build, name, b"attempt 1\n")
        if with_server:
            await yard.server.kill()
        old = await yard.kill_worker()
        if with_server:
            await yard.start()
        await oracle.hears("held beats 2", 3)
        await oracle.hears("other beats 2", 3)
        new = await yard.worker_pid()
        oracle.open_gate("held")
        oracle.open_gate("other")
        tree = await finished(client, build)

        assert (tree.build.result, old == new) == ("success", False)
        for name in ("held", "other"):
            first, second = job_of(tree, name).attempts
            assert (first.number, first.lost, first.result, first.phase) == (1, True, None, "finished")
            assert "restarted" in first.detail
            assert (second.number, second.lost, second.result) == (2, False, "success")
            assert oracle.heard.count(f"{name} begins 1") == oracle.heard.count(f"{name} begins 2") == 1
            assert f"{name} beats 1" not in after_first(oracle.heard, f"{name} begins 2")
            assert f"{name} ends 1" not in oracle.heard
            assert await step_log(client, tree, name, attempt=1) == b"attempt 1\n"
            assert await step_log(client, tree, name, attempt=2) == b"attempt 2\n"
        assert oracle.heard.count("after") == 1
        await nothing_left(yard.data / "worker")
