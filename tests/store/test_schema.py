"""Migrations make the tables that the code describes, once, however many servers start."""

import asyncio
import re
import sqlite3
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from buildyard.domain.errors import Unavailable
from buildyard.engine.engine import fresh_uid, system_clock
from buildyard.store import schema
from buildyard.store.sqlite import SqliteDatabase
from buildyard.store.tables import metadata

pytestmark = pytest.mark.covers("proof.migrations")

PARTS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name, identity_generation"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'",
)


def sqlite_schema(path: Path) -> set[str]:
    """The statements that made everything in the file, each with its parts in one order."""
    raw = sqlite3.connect(path)
    rows = raw.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'").fetchall()
    raw.close()
    return {" ".join(sorted(re.split(r",?\s*\n\s*", row[0].strip()))) for row in rows}


async def postgres_schema(url: str) -> list[set[tuple[object, ...]]]:
    """Columns, indexes and constraints as the catalogue has them."""
    connection = await asyncpg.connect(url)
    found = [{tuple(row) for row in await connection.fetch(part)} for part in PARTS]
    await connection.close()
    return [{row for row in part if "alembic" not in str(row)} for part in found]


def test_migrations_make_the_described_tables_on_sqlite(tmp_path: Path, sqlite_template: Path) -> None:
    described = tmp_path / "described.sqlite"
    engine = create_engine(f"sqlite:///{described}", poolclass=NullPool)
    metadata.create_all(engine)
    assert sqlite_schema(sqlite_template) == sqlite_schema(described)
    raw = sqlite3.connect(sqlite_template)
    assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()


async def test_migrations_make_the_described_tables_on_postgres(empty_postgres: str, postgres_tables: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_postgres), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    assert await postgres_schema(postgres_tables) == await postgres_schema(empty_postgres)


async def test_many_servers_may_upgrade_one_postgres_at_once(empty_postgres: str) -> None:
    await asyncio.gather(*(schema.upgrade(empty_postgres) for _ in range(4)))
    assert len((await postgres_schema(empty_postgres))[0]) > 100


async def test_upgrading_again_keeps_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    await schema.upgrade(f"sqlite:///{path}")
    raw = sqlite3.connect(path)
    raw.execute("INSERT INTO settings VALUES ('a', 'b')")
    raw.commit()
    raw.close()
    await schema.upgrade(f"sqlite:///{path}")
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT * FROM settings").fetchall() == [("a", "b")]
    raw.close()


async def test_a_sqlite_file_in_use_and_one_of_a_newer_version_are_refused(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path, clock=system_clock, fresh_uid=fresh_uid, wake=lambda _topics: None)
    await database.open()
    with pytest.raises(Unavailable, match="another server"):
        await schema.upgrade(f"sqlite:///{sqlite_path}")
    await database.close()
    raw = sqlite3.connect(sqlite_path)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(Unavailable, match="9999"):
        await schema.upgrade(f"sqlite:///{sqlite_path}")


def test_a_migration_that_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "half.sqlite"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None), poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    def migrate_and_fail() -> None:
        with engine.begin() as connection:
            schema.migrate(connection)
            raise LookupError

    with pytest.raises(LookupError):
        migrate_and_fail()
    assert sqlite_schema(path) == set()


async def test_a_postgres_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await schema.upgrade(f"postgresql://nobody@/none?host={tmp_path}")
