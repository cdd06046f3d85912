"""Every statement of the store finds its rows by an index, on both databases, whatever the number of builds."""

import importlib
import json
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Delete, Insert

import buildyard.store
from buildyard.store.statements import Statement

pytestmark = pytest.mark.covers("proof.query_plans")

SMALL = {
    "users", "accounts", "tokens", "images", "requirements", "workers", "servers", "settings", "projects", "pipelines",
    "triggers",
    "secrets",
}  # fmt: skip
"""Tables that may be read whole: people and machines make their rows, one at a time."""

WHOLE = {
    "buildyard.store.builds.PAGE_OF_ALL": "builds",
    "buildyard.store.kept.CACHE_TOTAL": "caches",
    "buildyard.store.workers.GONE": "workers",
}
"""Statements that read a table by design: its newest rows, or all of it once a minute."""


def named(value: object, name: str) -> Iterator[tuple[str, Statement]]:
    if isinstance(value, Statement):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from named(each, f"{name}[{key}]")


def statements() -> dict[str, Statement]:
    """All statements that modules of the store hold."""
    found: dict[str, Statement] = {}
    for module in pkgutil.iter_modules(buildyard.store.__path__, "buildyard.store."):
        if module.ispkg or module.name.endswith("tables"):
            continue
        for key, value in vars(importlib.import_module(module.name)).items():
            found |= dict(named(value, f"{module.name}.{key}"))
    own = {name: one for name, one in found.items() if name.startswith("buildyard.store.")}
    assert len(own) > 100
    return own


STATEMENTS = statements()
QUERIES = {name: one for name, one in STATEMENTS.items() if not isinstance(one.construct, Insert)}


def test_each_statement_is_used_by_a_function_of_its_module() -> None:
    """A statement that nothing runs is dead code that no test of a use-case would notice."""
    unused = []
    for name in STATEMENTS:
        module, _, variable = name.partition("[")[0].rpartition(".")
        text = Path(str(importlib.import_module(module).__file__)).read_text()
        folder = "".join(path.read_text() for path in Path(str(buildyard.store.__file__)).parent.glob("*.py"))
        if len(re.findall(rf"\b{variable}\b", text)) < 2 and len(re.findall(rf"\b{variable}\b", folder)) < 3:
            unused.append(name)
    assert unused == []


@pytest.mark.parametrize("name", QUERIES)
def test_sqlite_searches_an_index(name: str, sqlite_template: Path) -> None:
    text = QUERIES[name].sqlite
    raw = sqlite3.connect(sqlite_template)
    values = dict.fromkeys(re.findall(r":(\w+)", text), 1)
    plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    raw.close()
    allowed = SMALL | {WHOLE.get(name, "")}
    scanned = [re.match(r"SCAN (?!chosen)(\w+)$", line) for line in plan]
    if " LIMIT " in text and " WHERE " not in text:
        scanned = []  # the first rows in the order of the table itself
    bad = [match[1] for match in scanned if match and match[1] not in allowed and not match[1].startswith("CONSTANT")]
    assert bad == [], plan
    sorting = [line for line in plan if "TEMP B-TREE" in line and "DISTINCT" not in line]
    assert sorting == [] or name in SORTED, plan


SORTED = {
    "buildyard.store.attempts.LOGS_OF_JOB",
    "buildyard.store.jobs.LOCK_QUEUED",
    "buildyard.store.jobs.OF_BUILD",
    "buildyard.store.kept.INPUTS",
    "buildyard.store.kept.OLDEST_OF_PROJECT",
}
"""Statements whose few rows are sorted after they were found."""


def scans(node: dict[str, object]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan":
        yield str(node["Relation Name"])
    for child in node.get("Plans", []):  # type: ignore[attr-defined]  # a list of nodes
        yield from scans(child)


async def test_postgres_searches_an_index(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("SET enable_seqscan = off")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    bad: dict[str, list[str]] = {}
    for name, statement in QUERIES.items():
        text, parameters = statement.postgres
        allowed = SMALL | {WHOLE.get(name, "")}
        await connection.execute(f"PREPARE one AS {text}")
        nulls = f"({', '.join('NULL' for _ in parameters)})" if parameters else ""
        (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE one{nulls}")
        await connection.execute("DEALLOCATE one")
        if found := [table for table in scans(json.loads(row[0])[0]["Plan"]) if table not in allowed]:
            bad[name] = found
    await connection.close()
    assert bad == {}


async def test_both_databases_understand_every_statement(postgres_url: str, sqlite_template: Path) -> None:
    raw = sqlite3.connect(sqlite_template)
    connection = await asyncpg.connect(postgres_url)
    for statement in STATEMENTS.values():
        text, parameters = statement.postgres
        prepared = await connection.prepare(text)
        assert len(prepared.get_parameters()) == len(parameters)
        values = dict.fromkeys(re.findall(r":(\w+)", statement.sqlite), 1)
        assert set(values) == set(parameters)
        raw.execute(f"EXPLAIN {statement.sqlite}", values).fetchall()
    await connection.close()
    raw.close()


def test_deletions_name_what_they_delete() -> None:
    for name, statement in STATEMENTS.items():
        if isinstance(statement.construct, Delete):
            assert statement.construct.whereclause is not None, name
