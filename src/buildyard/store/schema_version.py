"""Whether a database has this version's schema, found out without Alembic."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

SQLITE = "sqlite:///"
APPLIED = "SELECT version_num FROM alembic_version"


def newest() -> str:
    """The revision that the newest migration makes."""
    files = (Path(__file__).with_name("migrations") / "versions").glob("r*.py")
    return max(file.name[1:].partition("_")[0] for file in files)


async def is_current(database_url: str) -> bool:
    """False also for a database that is not there or cannot be asked: then the upgrade says what is wrong."""
    if database_url.startswith(SQLITE):
        found = await asyncio.to_thread(_sqlite_revision, Path(database_url.removeprefix(SQLITE)))
    else:
        found = await _postgres_revision(database_url)
    return found == newest()


def _sqlite_revision(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as raw:
            row = raw.execute(APPLIED).fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


async def _postgres_revision(dsn: str) -> str | None:
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn)
        try:
            found = await connection.fetchval(APPLIED)
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    return None if found is None else str(found)
