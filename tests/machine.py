"""What state machines stand on: a world of their own a run, on both databases, which shows at the end what is stuck."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from buildyard.adapters.blobs.local import LocalBlobStore
from buildyard.adapters.bus.memory import MemoryBus
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.domain.access import SYSTEM
from buildyard.engine.engine import Database, Engine, Policy, fresh_uid
from buildyard.engine.usage import UsageBook
from buildyard.store.builds import BuildView
from buildyard.store.postgres import PostgresDatabase
from buildyard.store.sqlite import SqliteDatabase
from invariants import check_invariants
from world import Clock, Wakes, World, settle_in

T = TypeVar("T")
Opener = Callable[[Clock, Wakes, Path], Coroutine[Any, Any, Database]]


class Machine(RuleBasedStateMachine):
    """A world under what a subclass lets happen to it; `drain` lets everything in it end."""

    def __init__(self, open_database: Opener) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="buildyard-machine-"))
        self.clock = Clock()
        self.views: list[BuildView] = []
        self.world = self.do(self._open(open_database))

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for it."""
        return self.runner.run(coroutine)

    async def _open(self, open_database: Opener) -> World:
        bus = MemoryBus()
        self.database = await open_database(self.clock, Wakes(bus), self.folder)
        self.logs, blobs = LocalLogStore(self.folder / "logs"), LocalBlobStore(self.folder / "blobs")
        engine = Engine(
            database=self.database,
            logs=self.logs,
            blobs=blobs,
            bus=bus,
            policy=Policy(public_url=""),
            usage=UsageBook(),
        )
        return await settle_in(engine, self.clock)

    def drain(self) -> None:
        """Let everything end."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Let everything end: then no build is stuck, and the books agree."""
        try:
            self.drain()
            for view in self.views:
                assert self.do(self.world.result(view)) is not None, "a build is stuck"
            self.do(self.world.engine.read(check_invariants, SYSTEM))
        finally:
            self.do(self.database.close())
            self.do(self.logs.close())
            self.runner.close()
            shutil.rmtree(self.folder)


def run_on_sqlite(machine: Callable[[Opener], Machine], template: Path) -> None:
    """Many runs, each on a fresh copy of a file with the current schema."""

    async def open_database(clock: Clock, wakes: Wakes, folder: Path) -> Database:
        path = Path(shutil.copy(template, folder / "buildyard.sqlite"))
        database = SqliteDatabase(path, clock=clock, fresh_uid=fresh_uid, wake=wakes)
        await database.open()
        return database

    _run(machine, open_database, examples=40, steps=30)


def run_on_postgres(machine: Callable[[Opener], Machine], url: str, empty: str) -> None:
    """Some runs, each on the same database after the statements of `empty`."""

    async def open_database(clock: Clock, wakes: Wakes, _folder: Path) -> Database:
        connection = await asyncpg.connect(url)
        await connection.execute(empty)
        await connection.close()
        database = PostgresDatabase(url, clock=clock, fresh_uid=fresh_uid, wake=wakes)
        await database.open()
        return database

    _run(machine, open_database, examples=8, steps=20)


def _run(machine: Callable[[Opener], Machine], open_database: Opener, *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: machine(open_database),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
