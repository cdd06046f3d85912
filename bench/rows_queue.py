"""The row about the length of the queue: how long one claim takes with few jobs queued and with many, as a ratio."""

import asyncio
import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.context import Context
from bench.engine import WORKER, ends, opened, prepare, submit_some
from bench.rows_claims import postgres
from bench.table import Figure, Spread, times
from buildyard.engine import claiming, progress
from buildyard.protocol import VERSION, Claim, Hello, Report

ROW = "claim in a long queue"
JOBS = 100
"""Of one build; the short queue has one such build at any time."""


def queue(context: Context) -> Iterator[Figure]:
    """One claim after the other, of one job each, by the engine alone, on both databases."""
    many, claims = (10_000, 100) if context.quick else (100_000, 400)
    for name in ("SQLite", "PostgreSQL"):
        with postgres() if name == "PostgreSQL" else contextlib.nullcontext("") as address:
            spreads: list[Spread] = []
            for queued in (JOBS, many):
                now = os.getloadavg()[0]
                spreads.append(asyncio.run(_claims(address, queued, claims)))
                yield Figure(row=ROW, what=f"{name}, {queued} jobs queued", value=str(spreads[-1]), load=now)
        slower = spreads[1].p50 / spreads[0].p50
        yield Figure(
            row=ROW,
            what=f"{name}: a claim with {many} queued beside one with {JOBS}, at p50",
            value=times(slower),
            bar="same: ≤ 1.25×",
            met=slower <= 1.25,
        )


async def _claims(address: str, queued: int, count: int) -> Spread:
    """How long claims take while so many jobs are queued: each job is finished, outside the time, and replaced."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        async with opened(address or f"sqlite:///{scratch}/bench.sqlite", Path(scratch)) as engine:
            actor, project, pipeline = await prepare(engine, jobs=JOBS)
            await submit_some(engine, actor, project, pipeline, queued // JOBS, 4)
            session = secrets.token_hex(16)
            hello = Hello(
                protocol=VERSION,
                name=session,
                session=session,
                state_id=session,
                version="",
                labels=[],
                executors=["process"],
                system="",
                slots=1,
            )
            await claiming.hello(engine, WORKER, hello, address="", now=0)
            for turn in range(1, count + 1):
                begun = time.perf_counter()
                claimed = await claiming.claim(engine, WORKER, Claim(session=session, free=1, have=[], wait_s=0))
                taken.append(time.perf_counter() - begun)
                items = [item for grant in claimed.jobs for item in ends(grant, whole=False)]
                await progress.report(engine, WORKER, Report(session=session, items=items))
                if turn % JOBS == 0:
                    await submit_some(engine, actor, project, pipeline, 1, 1)
    return Spread.of(taken)
