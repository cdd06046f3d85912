"""Conflicts and lost connections on PostgreSQL."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import select, update

from buildyard.domain.errors import Conflict, Unavailable
from buildyard.engine.engine import fresh_uid
from buildyard.store.postgres import PostgresDatabase
from buildyard.store.statements import Statement, given, insertion
from buildyard.store.tables import settings
from buildyard.store.transactions import Transaction
from world import Clock, Wakes

ADD = insertion(settings)
ALL = Statement(select(settings.c.name).order_by(settings.c.name))
SET = Statement(update(settings).where(settings.c.name == given("called")).values(value=given("to")))


def adding(name: str):  # type: ignore[no-untyped-def]  # a body
    async def add(tx: Transaction) -> None:
        await tx.execute(ADD, name=name, value="")

    return add


async def names(tx: Transaction) -> list[str]:
    return [row[0] for row in await tx.fetch(ALL)]


@pytest.mark.covers("engine.transactions.retry")
async def test_of_two_bodies_that_lock_crosswise_one_is_run_again(
    postgres_database: PostgresDatabase, wakes: Wakes
) -> None:
    await postgres_database.run(adding("a"))
    await postgres_database.run(adding("b"))
    meet = asyncio.Barrier(2)
    runs = 0

    def locking(first: str, second: str):  # type: ignore[no-untyped-def]  # a body
        met = False

        async def lock(tx: Transaction) -> None:
            nonlocal runs, met
            runs += 1
            tx.wake(first)
            await tx.execute(SET, called=first, to=second)
            if not met:
                met = True
                await meet.wait()
            await tx.execute(SET, called=second, to=first)

        return lock

    await asyncio.gather(postgres_database.run(locking("a", "b")), postgres_database.run(locking("b", "a")))
    assert runs in (3, 4)  # on a slow machine both may be chosen to give way
    assert sorted(wakes.topics) == ["a", "b"]


@pytest.mark.covers("engine.transactions.retry")
async def test_a_body_that_clashes_with_another_sees_it_when_it_is_run_again(
    postgres_database: PostgresDatabase,
) -> None:
    meet = asyncio.Barrier(2)

    def find_or_add():  # type: ignore[no-untyped-def]  # a body
        met = False

        async def body(tx: Transaction) -> bool:
            nonlocal met
            found = bool(await tx.fetch(ALL))
            if not met:
                met = True
                await meet.wait()
            if not found:
                await tx.execute(ADD, name="a", value="")
            return found

        return body

    results = await asyncio.gather(postgres_database.run(find_or_add()), postgres_database.run(find_or_add()))
    assert sorted(results) == [False, True]


async def test_a_clash_that_stays_is_a_conflict(postgres_database: PostgresDatabase) -> None:
    await postgres_database.run(adding("a"))
    with pytest.raises(Conflict):
        await postgres_database.run(adding("a"))


async def test_a_body_that_raises_is_undone(postgres_database: PostgresDatabase) -> None:
    async def fail(tx: Transaction) -> None:
        await tx.execute(ADD, name="a", value="")
        raise LookupError

    with pytest.raises(LookupError):
        await postgres_database.run(fail)
    assert await postgres_database.read(names) == []


async def test_a_lost_connection_is_unavailable_and_the_next_body_gets_a_new_one(
    postgres_database: PostgresDatabase, postgres_server: str
) -> None:
    async def cut(tx: Transaction) -> None:
        await tx.execute(ADD, name="lost", value="")
        administrator = await asyncpg.connect(postgres_server)
        await administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'buildyard' AND state = 'idle in transaction'"
        )
        await administrator.close()
        await tx.execute(ADD, name="more", value="")

    with pytest.raises(Unavailable):
        await postgres_database.run(cut)
    await postgres_database.run(adding("after"))
    assert await postgres_database.read(names) == ["after"]


async def test_after_all_connections_were_cut_the_server_goes_on(
    postgres_database: PostgresDatabase, postgres_server: str
) -> None:
    await asyncio.gather(*(postgres_database.run(adding(f"{n}")) for n in range(8)))
    administrator = await asyncpg.connect(postgres_server)
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'buildyard'"
    )
    await administrator.close()
    for n in range(8, 40):
        try:
            await postgres_database.run(adding(f"{n}"))
        except Unavailable:
            continue
        break
    assert len(await postgres_database.read(names)) == 9


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = PostgresDatabase(
        "postgresql://nobody@127.0.0.1:1/none", clock=Clock(), fresh_uid=fresh_uid, wake=lambda _topics: None
    )
    with pytest.raises(Unavailable, match="cannot be reached"):
        await database.open()
    await database.close()
