"""Fifty rounds of kill -9, at moments that chance chooses, against one growing history."""

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.engine.engine import fresh_uid, system_clock
from buildyard.store.sqlite import SqliteDatabase
from e2e.running import PROGRAM, Oracle, Program, Yard, nothing_left, served
from e2e.story import Book
from invariants import check_invariants

ROUNDS = 25
"""For each of the two executors."""


@dataclass
class Story:
    """A yard, what it is asked to do, and who was killed meanwhile."""

    yard: Yard
    book: Book
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    async def submit(self) -> None:
        """Submit something, after a while."""
        await asyncio.sleep(self.chance.uniform(0, 0.8))
        await self.book.submit()

    async def round(self) -> None:
        """Work for the yard, and a death at some moment of it."""
        submissions = [asyncio.create_task(self.submit()) for _ in range(3)]
        await asyncio.sleep(self.chance.uniform(0, 1.2))
        victim = self.chance.choice(["server", "worker", "both", "starting server"])
        self.killed[victim] += 1
        if victim in ("worker", "both"):
            await self._kill_worker()
        if victim != "worker":
            await self.yard.server.kill()
        await asyncio.gather(*submissions)
        if victim == "starting server":
            await self._kill_while_starting()
        if victim != "worker":
            await self.yard.start()

    async def _kill_worker(self) -> None:
        """The worker, or nobody if there is none at this moment."""
        try:
            async with asyncio.timeout(0.5):
                await self.yard.kill_worker()
        except TimeoutError:
            self.killed["nobody"] += 1

    async def _kill_while_starting(self) -> None:
        variables = {**self.yard.variables, "BUILDYARD_DATA": str(self.yard.data), "BUILDYARD_PORT": "0"}
        starting = await Program.start([*PROGRAM, "serve"], variables, self.yard.log)
        await asyncio.sleep(self.chance.uniform(0, 2))
        await starting.kill()


@pytest.mark.covers(
    "proof.crashes", "engine.recovery.server", "engine.recovery.worker", "engine.recovery.once", "logs.durable"
)
async def test_whatever_dies_whenever_each_job_ends_once_with_the_right_result(
    executor: str, oracle: Oracle, tmp_path: Path
) -> None:
    seed = int(os.environ.get("BUILDYARD_SEED") or random.randrange(2**32))
    print(f"BUILDYARD_SEED={seed}")
    settings = {
        "BUILDYARD_EXECUTOR": executor,
        "BUILDYARD_WORKERS": "4",
        "BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(oracle.folder),
    }
    async with served(tmp_path / "data", **settings) as yard:
        chance = random.Random(seed)
        story = Story(yard, Book(yard.client(), oracle, chance), chance)
        for _ in range(ROUNDS):
            await story.round()
        ends = await story.book.check()
        print(dict(story.killed), len(story.book.tried), "tried,", story.book.unanswered, "unanswered;", dict(ends))
        await nothing_left(yard.data / "worker")
        assert await yard.stop() == 0
        await nothing_left(yard.data / "worker")
        await _check_database(yard.data / "buildyard.sqlite")


async def _check_database(path: Path) -> None:
    database = SqliteDatabase(path, clock=system_clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await database.open()
    try:
        await database.read(lambda tx: check_invariants(tx, SYSTEM))
    finally:
        await database.close()
