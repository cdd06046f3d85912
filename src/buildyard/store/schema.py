"""Makes the database's tables, or brings those of an earlier version up to date.

`python -m buildyard.store.schema` does so for the database whose address comes on standard input: a server has it
done by such a process, so that it need not hold Alembic in memory for ever.
"""

import asyncio
import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from buildyard.domain.errors import Unavailable
from buildyard.store.postgres import LOST

MIGRATIONS = Path(__file__).with_name("migrations")
ADVISORY_LOCK = 0x6275696C
"""Held in PostgreSQL while the schema changes, so that of several servers that start at once one does it."""


async def upgrade(database_url: str) -> None:
    """Bring the database at `sqlite:///PATH` or `postgresql://…` to this version's schema; safe to call at every start.

    Raises Unavailable if the database cannot be reached, is used by another server (SQLite), or is
    of a newer version than this program.
    """
    if database_url.startswith("sqlite:///"):
        await asyncio.to_thread(upgrade_sqlite, Path(database_url.removeprefix("sqlite:///")))
    else:
        await upgrade_postgres(database_url)


def upgrade_sqlite(path: Path) -> None:
    """See `upgrade`; all steps happen in one transaction."""
    with owned(path):
        engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=NullPool)

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        try:
            with engine.begin() as connection:
                migrate(connection)
        except (sqlite3.Error, CommandError) as exc:
            raise Unavailable(f"the database {path} cannot be brought up to date: {exc}") from exc
        finally:
            engine.dispose()


def _connect(path: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None, timeout=10)
    raw.execute("PRAGMA journal_mode = WAL")
    return raw


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Keep other servers away from a SQLite database; Unavailable if one has it."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise Unavailable(f"another server uses the database {path}") from exc
    finally:
        os.close(handle)


async def upgrade_postgres(dsn: str) -> None:
    """See `upgrade`; one transaction, under an advisory lock."""
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            await connection.run_sync(migrate)
    except (*LOST, asyncpg.PostgresError, CommandError) as exc:
        raise Unavailable(f"the database cannot be brought up to date: {exc}") from exc
    finally:
        await engine.dispose()


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run what is missing up to `revision`, inside the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def main() -> int:
    """The process's exit status; what went wrong goes to standard error."""
    try:
        asyncio.run(upgrade(sys.stdin.read().strip()))
    except Unavailable as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
