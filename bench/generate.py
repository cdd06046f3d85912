"""Fills a database with any number of finished builds: `python -m bench.generate DATABASE_URL COUNT`.

A few builds are really run by the engine; all others are copies of their rows, made within the database, with
counters, numbers and sequences moved along. The database must be empty.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

import asyncpg

from bench.engine import opened, prepare, submit_some, work
from bench.stored import REAL, SHIFTED

COUNTED = "UPDATE counters SET value = value * {0} WHERE kind IN ('pipeline', 'project', 'server', 'user')"
NUMBERED = "UPDATE pipelines SET next_number = {0}, next_attempt_number = {0}"


async def generate(url: str, count: int) -> int:
    """Store `count` builds, rounded down to a multiple of the real ones; says how many there are then."""
    with tempfile.TemporaryDirectory() as scratch:
        async with opened(url, Path(scratch)) as engine:
            actor, project, pipeline = await prepare(engine, jobs=1)
            await submit_some(engine, actor, project, pipeline, REAL, 1)
            await work(engine, 1, REAL, whole=True)
    times = count // REAL - 1
    after = (COUNTED.format(times + 1), NUMBERED.format(REAL * (times + 1) + 1))
    if url.startswith("sqlite:///"):
        await asyncio.to_thread(_copy_sqlite, Path(url.removeprefix("sqlite:///")), times, after)
    else:
        await _copy_postgres(url, times, after)
    return REAL * (times + 1)


def _copies(table: str, columns: list[str], series: str, uid: str) -> str:
    """The statement that copies a table's rows once for each `copy` of `series`."""
    shifts = SHIFTED[table]

    def value(column: str) -> str:
        if column == "uid":
            return uid
        return f'"{column}" + copy * {shifts[column] * REAL}' if column in shifts else f'"{column}"'

    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(value(column) for column in columns)
    return f'INSERT INTO "{table}" ({names}) SELECT {values} FROM {series} CROSS JOIN "{table}" ORDER BY copy'


def _copy_sqlite(path: Path, times: int, after: tuple[str, ...]) -> None:
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA cache_size = -400000")
    raw.execute("BEGIN")
    raw.execute("CREATE TEMP TABLE copies (copy INTEGER PRIMARY KEY)")
    raw.executemany("INSERT INTO copies VALUES (?)", ((n,) for n in range(1, times + 1)))
    for table in SHIFTED:
        columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
        raw.execute(f'CREATE TEMP TABLE "source_{table}" AS SELECT * FROM "{table}"')
        text = _copies(table, columns, "copies", "printf('%08x', copy) || substr(uid, 9)")
        raw.execute(text.replace(f'CROSS JOIN "{table}"', f'CROSS JOIN "source_{table}"'))
    for statement in after:
        raw.execute(statement)
    raw.execute("COMMIT")
    raw.execute("ANALYZE")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


async def _copy_postgres(url: str, times: int, after: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    async with connection.transaction():
        for table in SHIFTED:
            rows = await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
                table,
            )
            columns = [row[0] for row in rows]
            text = _copies(
                table,
                columns,
                f"generate_series(1, {times}) AS copies (copy)",
                "lpad(to_hex(copy), 8, '0') || substr(uid, 9)",
            )
            await connection.execute(text)
            if "id" in columns:
                await connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM \"{table}\"))"
                )
        for statement in after:
            await connection.execute(statement)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def main() -> None:
    """Fill the database that was named."""
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    begun = time.perf_counter()
    made = asyncio.run(generate(options.url, options.count))
    print(f"{made} builds in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
