"""A server's database with any number of finished builds: a few real ones, copied within SQLite."""

import asyncio
import contextlib
import hashlib
import shutil
import sqlite3
import time
from pathlib import Path

from bench.builds import many, one_step
from bench.server import serving
from buildyard.store import migrations

REAL = 20
"""Builds that are really run; all others are copies of them."""

SHIFTED = {
    "evaluations": {"id": 1},
    "evaluation_builds": {"evaluation": 1, "build": 1},
    "builds": {"id": 1, "evaluation": 1, "first_job": 1, "number": 1},
    "jobs": {"id": 1, "build": 1},
    "build_jobs": {"build": 1, "job": 1},
    "attempts": {"id": 1, "job": 1, "build": 1, "pipeline_number": 1},
    "steps": {"id": 2, "attempt": 1},
    "logs": {"id": 2, "attempt": 1, "step": 2},
}
"""By table, the columns that differ between copies of a one-step build, and by how many a build they move on."""

OWNED = (
    "UPDATE builds SET submitter = (SELECT id FROM users WHERE username = 'admin')",
    "INSERT INTO counters (kind, owner, name, value) SELECT 'user', submitter, 'builds', count(*) FROM builds "
    "GROUP BY submitter",
)
"""Makes the builds those of a user, whose lists are measured, too."""

DONE = "complete"


def stored(folder: Path, count: int) -> Path:
    """A data folder with `count` finished builds of the operator, made if there is none below `folder` yet."""
    data = folder / f"stored-{count}-{_schema()}"
    if (data / DONE).exists():
        return data
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    with serving("process", 2, data=data) as server:
        asyncio.run(many(server, one_step("true"), REAL, 1))
    with contextlib.closing(sqlite3.connect(data / "buildyard.sqlite", isolation_level=None)) as raw:
        _copy(raw, count // REAL - 1)
    (data / DONE).write_text(f"{time.time():.0f}\n")
    return data


def _schema() -> str:
    """Names the tables as they are now."""
    files = sorted((Path(migrations.__file__).parent / "versions").glob("r*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _copy(raw: sqlite3.Connection, times: int) -> None:
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA cache_size = -400000")
    raw.execute("BEGIN")
    for statement in OWNED:
        raw.execute(statement)
    for table, shifted in SHIFTED.items():
        columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
        values = [_value(column, shifted.get(column, 0)) for column in columns]
        raw.execute(
            "WITH RECURSIVE copies (copy) AS (SELECT 1 UNION ALL SELECT copy + 1 FROM copies WHERE copy < :times) "
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "
            f"FROM copies CROSS JOIN (SELECT * FROM {table} ORDER BY 1) ORDER BY copy",
            {"times": times},
        )
    raw.execute(
        "UPDATE counters SET value = value * (:times + 1) "
        "WHERE kind IN ('pipeline', 'project', 'server', 'user') AND name IN ('builds', 'finished', 'success')",
        {"times": times},
    )
    raw.execute(
        "UPDATE pipelines SET next_number = :next, next_attempt_number = :next", {"next": REAL * (times + 1) + 1}
    )
    raw.execute("COMMIT")
    raw.execute("ANALYZE")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _value(column: str, by: int) -> str:
    """A copy's value of a column, in SQL; a uid gets the number of the copy for its first digits."""
    if column == "uid":
        return "printf('%08x', copy) || substr(uid, 9)"
    return f"{column} + copy * {by * REAL}" if by else column
