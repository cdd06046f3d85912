"""A worker whose way to the server is bad in every way that TCP allows."""

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest

from e2e.bad_network.proxy import bad_proxy
from e2e.running import Oracle, finished, job_of, nothing_left, script, served, step_log, submit, working

BUILDS = 50
LINES = 400
TROUBLES = {
    "lose request": 0.06,
    "cut request": 0.06,
    "lose answer": 0.08,
    "cut answer": 0.06,
    "repeat": 0.12,
    "delay": 0.1,
}


@pytest.mark.covers("proof.bad_network", "worker.reconnect", "worker.protocol", "engine.lease.fencing", "logs.append")
async def test_a_hundred_jobs_end_once_with_exact_logs_over_a_bad_network(oracle: Oracle, tmp_path: Path) -> None:
    seed = int(os.environ.get("BUILDYARD_SEED") or random.randrange(2**32))
    print(f"BUILDYARD_SEED={seed}")
    numbers = "".join(f"line {number}\n" for number in range(1, LINES + 1))
    made = "".join(f"{number}\n" for number in range(1, 20001))
    first = "\n".join(
        [
            oracle.say("$BUILDYARD_BUILD_NUMBER $BUILDYARD_JOB $BUILDYARD_ATTEMPT"),
            f"for i in $(seq 1 {LINES}); do echo line $i; ((i % 100)) || sleep 0.01; done",
            'seq 1 20000 > made; echo "$BUILDYARD_BUILD_NUMBER" > own',
        ]
    )
    second = "\n".join(
        [oracle.say("$BUILDYARD_BUILD_NUMBER $BUILDYARD_JOB $BUILDYARD_ATTEMPT"), "sha256sum < made; cat own"]
    )
    jobs = {
        "first": script("f", first, "true", outputs=["made", "own"]),
        "second": script("s", second, needs=["first"]),
    }
    async with served(tmp_path / "data", BUILDYARD_WORKERS="0", BUILDYARD_EXECUTOR="process") as yard:
        client = yard.client()
        token = await yard.token("runner")
        port = int(yard.url.rpartition(":")[2])
        async with (
            bad_proxy(port, seed, TROUBLES) as proxy,
            working(proxy.url, token, tmp_path / "worker", "far", slots=4) as worker,
        ):
            builds = await asyncio.gather(*(submit(client, **jobs) for _ in range(BUILDS)))
            trees = await asyncio.gather(*(finished(client, build, timeout=60) for build in builds))
            print(dict(proxy.met))

            assert all(proxy.met[trouble] for trouble in TROUBLES)
            assert {tree.build.result for tree in trees} == {"success"}
            assert {len(job.attempts) for tree in trees for job in tree.jobs} == {1}
            assert sorted(oracle.heard) == sorted(
                f"{number} {name} 1" for number in range(1, BUILDS + 1) for name in jobs
            )
            digest = hashlib.sha256(made.encode()).hexdigest()
            for tree in trees:
                assert await step_log(client, tree, "first") == numbers.encode()
                assert await step_log(client, tree, "second") == f"{digest}  -\n{tree.build.number}\n".encode()
                assert job_of(tree, "second").attempts[0].worker == "far"
            await nothing_left(tmp_path / "worker")
            assert worker.process.returncode is None
