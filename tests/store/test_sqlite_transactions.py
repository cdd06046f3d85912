"""How bodies share commits on SQLite, and what happens when the file or a body fails."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from buildyard.domain.errors import Conflict, Unavailable
from buildyard.engine.engine import fresh_uid
from buildyard.store.sqlite import SqliteDatabase
from buildyard.store.statements import Statement, given, insertion
from buildyard.store.tables import settings
from buildyard.store.transactions import Transaction
from needs import need
from world import Clock, Wakes

ADD = insertion(settings)
ALL = Statement(select(settings.c.name).order_by(settings.c.name))
ONE = Statement(select(settings.c.value).where(settings.c.name == given("called")))
ENDLESS = Statement(
    select(settings.c.name)
    .select_from(settings.alias("a"), settings.alias("b"), settings.alias("c"), settings)
    .order_by(settings.c.value)
)


def adding(name: str, value: str = ""):  # type: ignore[no-untyped-def]  # a body
    async def add(tx: Transaction) -> str:
        await tx.execute(ADD, name=name, value=value)
        tx.wake(f"added {name}")
        return name

    return add


def failing(name: str):  # type: ignore[no-untyped-def]  # a body
    async def fail(tx: Transaction) -> None:
        await tx.execute(ADD, name=name, value="")
        raise LookupError(name)

    return fail


async def names(tx: Transaction) -> list[str]:
    return [row[0] for row in await tx.fetch(ALL)]


@pytest.mark.covers("engine.transactions.batch")
async def test_bodies_at_once_share_a_commit_and_one_that_fails_takes_none_with_it(
    sqlite_database: SqliteDatabase, sqlite_path: Path
) -> None:
    bodies = [failing(f"{n:02}") if n % 3 == 0 else adding(f"{n:02}") for n in range(30)]
    before = wal_commits(sqlite_path)
    results = await asyncio.gather(*(sqlite_database.run(body) for body in bodies), return_exceptions=True)
    assert wal_commits(sqlite_path) - before < 15
    assert [isinstance(result, LookupError) for result in results] == [n % 3 == 0 for n in range(30)]
    assert await sqlite_database.read(names) == [f"{n:02}" for n in range(30) if n % 3]


def wal_commits(path: Path) -> int:
    """The number of frames in the write-ahead log that end a transaction (their database size is not 0)."""
    wal = path.with_name(path.name + "-wal")
    data = wal.read_bytes() if wal.exists() else b""
    size = int.from_bytes(data[8:12]) + 24 if data else 1
    return sum(1 for at in range(32, len(data), size) if int.from_bytes(data[at + 4 : at + 8]))


async def test_wakes_and_callbacks_come_after_the_commit_of_what_succeeded_only(
    sqlite_database: SqliteDatabase, wakes: Wakes
) -> None:
    called: list[str] = []

    async def body(tx: Transaction) -> None:
        tx.after_commit(lambda: called.append("after"))
        assert called == []

    await asyncio.gather(
        sqlite_database.run(body),
        sqlite_database.run(adding("a")),
        sqlite_database.run(failing("b")),
        return_exceptions=True,
    )
    assert called == ["after"]
    assert wakes.topics == ["added a"]


async def test_a_body_that_awaits_anything_else_is_an_error_and_undone(sqlite_database: SqliteDatabase) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute(ADD, name="a", value="")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="awaited something other"):
        await sqlite_database.run(body)
    assert await sqlite_database.read(names) == []


async def test_readers_see_committed_data_only(sqlite_database: SqliteDatabase) -> None:
    writing = asyncio.create_task(sqlite_database.run(adding("a")))
    await asyncio.sleep(0)  # the body has run, its commit has not
    assert await sqlite_database.read(names) == []
    await writing
    assert await sqlite_database.read(names) == ["a"]


async def test_a_reader_cannot_write(sqlite_database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await sqlite_database.read(adding("a"))


async def test_a_caller_that_goes_away_in_mid_commit_undoes_nothing(sqlite_database: SqliteDatabase) -> None:
    writing = asyncio.create_task(sqlite_database.run(adding("a")))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await sqlite_database.run(adding("b"))
    assert await sqlite_database.read(names) == ["a", "b"]


async def test_a_caller_that_goes_away_while_it_queues_leaves_no_batch_open(sqlite_database: SqliteDatabase) -> None:
    for round_ in range(20):
        tasks = [asyncio.create_task(sqlite_database.run(adding(f"{round_}-{n}"))) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[2].cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert f"{round_}-0" in await sqlite_database.read(names)


async def test_the_same_name_twice_is_a_conflict(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.run(adding("a"))
    with pytest.raises(Conflict):
        await sqlite_database.run(adding("a"))


async def test_a_slow_read_moves_to_a_thread_and_the_loop_goes_on(sqlite_database: SqliteDatabase) -> None:
    async def fill(tx: Transaction) -> None:
        await tx.execute_many(ADD, [{"name": f"{n:03}", "value": str(n % 7)} for n in range(40)])

    async def slowly(tx: Transaction) -> int:
        return len(await tx.fetch(ENDLESS))

    await sqlite_database.run(fill)
    slow = asyncio.create_task(sqlite_database.read(slowly))
    quick = 0
    while not slow.done():
        assert len(await sqlite_database.read(names)) == 40
        await asyncio.sleep(0)
        quick += 1
    assert await slow == 40**4
    assert quick > 3


async def test_closing_while_busy_finishes_what_was_begun_and_refuses_the_rest(sqlite_path: Path, clock: Clock) -> None:
    database = SqliteDatabase(sqlite_path, clock=clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await database.open()
    running = [asyncio.create_task(database.run(adding(f"{n:02}"))) for n in range(10)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    late = asyncio.create_task(database.run(adding("late")))
    await closing
    results = await asyncio.gather(*running, late, return_exceptions=True)
    assert results[:10] == [f"{n:02}" for n in range(10)]
    assert isinstance(results[10], Unavailable)
    with pytest.raises(Unavailable, match="closed"):
        await database.read(names)
    again = SqliteDatabase(sqlite_path, clock=clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await again.open()
    assert len(await again.read(names)) == 10
    await again.close()


async def test_a_second_server_on_the_same_file_is_refused(sqlite_database: SqliteDatabase, sqlite_path: Path) -> None:
    second = SqliteDatabase(sqlite_path, clock=Clock(), fresh_uid=fresh_uid, wake=lambda _topics: None)
    with pytest.raises(Unavailable, match="another server uses the database"):
        await second.open()


@pytest.mark.covers("engine.faults.database_locked")
async def test_while_another_process_locks_the_file_writes_fail_clearly_and_reads_go_on(
    sqlite_path: Path, clock: Clock
) -> None:
    database = SqliteDatabase(
        sqlite_path, clock=clock, fresh_uid=fresh_uid, wake=lambda _topics: None, busy_seconds=0.2
    )
    await database.open()
    await database.run(adding("before"))
    other = sqlite3.connect(sqlite_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = [asyncio.create_task(database.run(adding(f"during {n}"))) for n in range(3)]
    assert await database.read(names) == ["before"]
    results = await asyncio.gather(*writing, return_exceptions=True)
    assert all(isinstance(result, Unavailable) and "locked" in str(result) for result in results)
    other.execute("ROLLBACK")
    other.close()
    await database.run(adding("after"))
    assert await database.read(names) == ["after", "before"]
    await database.close()


async def test_a_write_waits_for_a_lock_that_is_held_briefly(
    sqlite_database: SqliteDatabase, sqlite_path: Path
) -> None:
    other = sqlite3.connect(sqlite_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(sqlite_database.run(adding("a")))
    await asyncio.sleep(0)
    other.execute("ROLLBACK")
    other.close()
    assert await writing == "a"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    need(os.geteuid() == 0, "root, to mount a tiny file system")
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False)
    need(mounted.returncode == 0, "the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.covers("engine.faults.disk_full", "engine.transactions.batch")
async def test_a_full_disk_fails_the_whole_batch_and_the_server_goes_on_once_there_is_space(
    tiny_disk: Path, sqlite_template: Path, clock: Clock
) -> None:
    path = tiny_disk / "buildyard.sqlite"
    shutil.copy(sqlite_template, path)
    database = SqliteDatabase(path, clock=clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await database.open()
    await database.run(adding("acknowledged"))
    ballast = tiny_disk / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
        file.write(b"\0" * max(0, free - 16384))
    results = await asyncio.gather(
        *(database.run(adding(f"{n}", "x" * 40_000)) for n in range(8)), return_exceptions=True
    )
    assert all(isinstance(result, Unavailable) for result in results), results
    assert await database.read(names) == ["acknowledged"]
    ballast.unlink()
    await database.run(adding("after"))
    assert await database.read(names) == ["acknowledged", "after"]
    await database.close()
