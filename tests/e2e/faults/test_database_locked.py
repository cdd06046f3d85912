"""Another process holds the database's write lock for a while."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from buildyard.domain.errors import Unavailable
from e2e.running import Oracle, finished, has_logged, http_get, job_of, script, served, step_log, submit


@pytest.mark.covers("engine.faults.database_locked")
async def test_while_the_database_is_locked_requests_fail_clearly_and_nothing_acknowledged_is_lost(
    oracle: Oracle, tmp_path: Path
) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="1") as yard:
        client = yard.client()
        words = [oracle.say("runs $BUILDYARD_ATTEMPT"), "echo before", oracle.gate("go"), "seq 1 2000"]
        build = await submit(client, one=script("o", "\n".join(words), "echo second step"))
        await has_logged(client, build, "one", b"before\n")
        waiting = await submit(client, two=script("t", "echo two"))

        locker = sqlite3.connect(yard.data / "buildyard.sqlite", isolation_level=None)
        try:
            locker.execute("BEGIN IMMEDIATE")
            oracle.open_gate("go")
            answers = await asyncio.gather(
                *(submit(client, refused=script("r", "true")) for _ in range(3)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [Unavailable] * 3
            assert "database" in str(answers[0])
            head, _ = await http_get(f"{yard.url}/live")
            assert head.startswith("HTTP/1.1 200")
            assert (await client.tree(build.uid)).build.phase == "running"
            locker.execute("ROLLBACK")
        finally:
            locker.close()

        for each in (build, waiting):
            assert (await finished(client, each)).build.result == "success"
        tree = await finished(client, build)
        assert oracle.heard == ["runs 1"]
        assert len(job_of(tree, "one").attempts) == 1
        numbers = "".join(f"{number}\n" for number in range(1, 2001))
        assert await step_log(client, tree, "one") == f"before\n{numbers}".encode()
        again = await submit(client, again=script("a", "true"))
        assert (await finished(client, again)).build.result == "success"
        assert {each.uid for each in await client.builds()} == {build.uid, waiting.uid, again.uid}
