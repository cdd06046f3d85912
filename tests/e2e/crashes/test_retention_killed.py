"""The server is killed again and again while it removes builds; what is left agrees in the end."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from buildyard.client.messages import Bounds, NewRule
from buildyard.client.native import NativeClient
from buildyard.domain.errors import EngineError
from e2e.running import finished, script, served, submit

BUILDS = 12
VARIABLES = {
    "BUILDYARD_WORKERS": "2",
    "BUILDYARD_EXECUTOR": "process",
    "BUILDYARD_KEEP_GRACE_MINUTES": "0",
}


async def collect(client: NativeClient) -> None:
    """`buildyard gc` to its end."""
    cursor = (await client.collect("", dry_run=False)).cursor
    while cursor:
        cursor = (await client.collect(cursor, dry_run=False)).cursor


def rows(data: Path, query: str) -> list[tuple[str, ...]]:
    """What the database says."""
    with closing(sqlite3.connect(data / "buildyard.sqlite")) as raw:
        return raw.execute(query).fetchall()


@pytest.mark.covers("engine.retention.crash")
async def test_however_often_it_is_killed_nothing_kept_is_missing_and_nothing_removed_stays(tmp_path: Path) -> None:
    async with served(tmp_path / "data", **VARIABLES) as yard:
        client = yard.client()
        made = []
        for number in range(BUILDS):
            words = [f"echo {number} > own", "echo same > shared", "echo said"]
            jobs = {f"j{n}": script(f"j{n}", *words, outputs=["own", "shared"]) for n in range(3)}
            made.append(await submit(client, **jobs))
        for build in made:
            await finished(client, build)
        rules = [("builds", 2), ("logs", 1), ("artifacts", 1)]
        for what, count in rules:
            await client.set_rule("e2e", NewRule(what=what, bounds=Bounds(count=count)))

        for delay in (0.0, 0.005, 0.01, 0.02, 0.03):
            collecting = asyncio.create_task(collect(yard.client()))
            await asyncio.sleep(delay)
            await yard.server.kill()
            with suppress(EngineError):
                await collecting
            await yard.restart()
        await collect(client)

        left = await client.builds()
        newest = (await client.artifacts(str(left[0].id))).artifacts
        assert len(newest) == 6
        for artifact in newest:
            assert [piece async for piece in client.artifact(artifact.uid)]
        await yard.stop()

    data = yard.data
    assert len(left) == 2
    for table in ("builds", "evaluations", "revisions"):
        assert rows(data, f"SELECT count(*) FROM {table}") in ([(2,)], [(0,)])
    assert rows(data, "SELECT * FROM builds WHERE removed_at IS NOT NULL") == []
    assert rows(data, "SELECT * FROM log_removals") == []
    stored = {path.parent.name + path.name for path in (data / "blobs").glob("??/*")}
    assert {row[0] for row in rows(data, "SELECT sha256 FROM blobs WHERE doomed = 0")} <= stored
    assert stored <= {row[0] for row in rows(data, "SELECT sha256 FROM blobs")}
    counted = rows(data, "SELECT value FROM counters WHERE kind = 'server' AND name = 'builds'")
    assert counted == [(2,)]
    references = (
        'SELECT "references" - (SELECT count(*) FROM artifacts WHERE artifacts.sha256 = blobs.sha256) FROM blobs'
    )
    assert {row[0] for row in rows(data, references)} <= {0}
