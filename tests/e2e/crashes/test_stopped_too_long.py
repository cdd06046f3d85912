"""A worker that is unheard of for longer than the lease loses its work to another, and learns so when it returns."""

import os
import signal
from pathlib import Path

import pytest

from e2e.running import (
    Oracle,
    finished,
    has_logged,
    job_of,
    nothing_left,
    script,
    served,
    step_log,
    submit,
    tree_when,
    working,
)

LEASE = {"BUILDYARD_EXECUTOR": "process", "BUILDYARD_WORKERS": "0", "BUILDYARD_LEASE_SECONDS": "2"}


def waiting(oracle: Oracle) -> str:
    """A command that waits at the gate of its job and attempt, while its grandchild makes itself heard."""
    for job in ("short", "endless"):
        for attempt in (1, 2):
            oracle.gate(f"{job}-{attempt}")
    return "\n".join(
        [
            oracle.say("$BUILDYARD_JOB begins $BUILDYARD_ATTEMPT on $BUILDYARD_WORKER"),
            oracle.beat("$BUILDYARD_JOB beats $BUILDYARD_ATTEMPT"),
            "echo attempt $BUILDYARD_ATTEMPT",
            f"read -r _ < {oracle.folder}/gate-$BUILDYARD_JOB-$BUILDYARD_ATTEMPT",
            oracle.say("$BUILDYARD_JOB ends $BUILDYARD_ATTEMPT"),
            "echo more of $BUILDYARD_ATTEMPT",
        ]
    )


@pytest.mark.covers("engine.lease.heartbeat", "engine.lease.fencing", "worker.late", "worker.remote", "cli.worker")
async def test_what_a_stalled_worker_held_runs_elsewhere_and_its_late_report_changes_nothing(
    oracle: Oracle, tmp_path: Path
) -> None:
    async with served(tmp_path / "data", **LEASE) as yard:
        client = yard.client()
        token = await yard.token("runner")
        words = waiting(oracle)
        async with working(yard.url, token, tmp_path / "slow", "slow") as slow:
            build = await submit(client, short=script("s", words), endless=script("e", words))
            await has_logged(client, build, "short", b"attempt 1\n")
            await has_logged(client, build, "endless", b"attempt 1\n")
            os.kill(slow.process.pid, signal.SIGSTOP)
            oracle.open_gate("short-1")
            await oracle.hears("short ends 1")
            await tree_when(client, build, lambda tree: all(job.attempts[0].lost for job in tree.jobs))
            async with working(yard.url, token, tmp_path / "quick", "quick"):
                await oracle.hears("short begins 2 on quick")
                await oracle.hears("endless begins 2 on quick")
                os.kill(slow.process.pid, signal.SIGCONT)
                await nothing_left(tmp_path / "slow")
                oracle.heard.clear()
                await oracle.hears("endless beats 2", 5)
                assert not any(words.endswith(" beats 1") for words in oracle.heard)
                oracle.open_gate("short-2")
                oracle.open_gate("endless-2")
                tree = await finished(client, build)

        assert tree.build.result == "success"
        for name in ("short", "endless"):
            first, second = job_of(tree, name).attempts
            assert (first.lost, first.result, first.worker) == (True, None, "slow")
            assert (second.lost, second.result, second.worker) == (False, "success", "quick")
            assert await step_log(client, tree, name, attempt=1) == b"attempt 1\n"
            assert await step_log(client, tree, name, attempt=2) == b"attempt 2\nmore of 2\n"
        assert (tmp_path / "slow.log").read_text().count("attempt_dropped") == 2
