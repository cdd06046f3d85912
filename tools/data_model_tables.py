"""The tables of `docs/data-model.md` and its pages of fields, from the code and from `docs/data-model/*.tsv`.

`tables.tsv` explains the tables that exist, `planned.tsv` names columns that later work adds, one file
per API says where each field of its document comes from, `queries.tsv` which index serves which query.
A field's source is one of:

    builds.created_at               the column
    derived: from `builds.phase`    a rule over columns
    planned: services.name — why    a column of planned.tsv
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from coverage_table import rows_of
from sqlalchemy import Table, UniqueConstraint

from buildyard.store.tables import metadata

APIS = ("build-server", "sourcehut", "buildbot", "hydra", "containr")
TITLES = {
    "build-server": "Build Server",
    "sourcehut": "builds.sr.ht",
    "buildbot": "Buildbot",
    "hydra": "Hydra",
    "containr": "Containr",
}
COLUMN = re.compile(r"^[a-z_]+\.[a-z0-9_]+$")
QUOTED = re.compile(r"`([a-z_]+\.[a-z0-9_]+)`")
FOLDER = "docs/data-model"
DRAWN = (
    *("accounts", "projects", "pipelines", "pipeline_versions", "job_specs", "lanes"),
    *("revisions", "evaluations", "evaluation_revisions", "evaluation_builds", "groups", "group_builds"),
    *("builds", "build_jobs", "jobs", "job_needs", "attempts", "workers", "steps", "logs", "artifacts", "blobs"),
)
"""The tables of the drawing: what a build touches."""


def built_columns() -> set[str]:
    """Every column that exists, as `table.column`."""
    return {f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns}


def planned_columns(root: Path) -> set[str]:
    """Every column that is planned, as `table.column`."""
    return {f"{row['table']}.{row['column']}" for row in rows_of(root / FOLDER / "planned.tsv")}


def _source_faults(source: str, built: set[str], planned: set[str]) -> Iterator[str]:
    """What is wrong with one source: a column named that neither exists nor is planned."""
    if source.startswith("planned: "):
        column = source.removeprefix("planned: ").partition(" — ")[0]
        if column not in planned:
            yield f"{column!r} is not in planned.tsv"
    elif not source.startswith("derived: ") and source not in built:
        yield f"no column {source!r}"
    yield from (f"no column {name!r}" for name in QUOTED.findall(source) if name not in built | planned)


def faults(root: Path) -> list[str]:
    """What is wrong: sources that name nothing, planned columns that exist, tables without explanation."""
    built, planned = built_columns(), planned_columns(root)
    wrong = [f"planned.tsv: {column!r} is built" for column in sorted(built & planned)]
    for api in APIS:
        for row in rows_of(root / FOLDER / f"{api}.tsv"):
            found = _source_faults(row["source"], built, planned)
            wrong += [f"{api}.tsv: {row['entity']}.{row['field']}: {fault}" for fault in found]
    explained = [row["table"] for row in rows_of(root / FOLDER / "tables.tsv")]
    wrong += [f"tables.tsv: no table {name!r}" for name in explained if name not in metadata.tables]
    wrong += [f"tables.tsv lacks {name!r}" for name in metadata.tables if name not in explained]
    return wrong


def _type(column_type: str) -> str:
    return {"INTEGER": "int", "BIGINT": "big", "TEXT": "text", "BLOB": "bytes"}.get(column_type, column_type.lower())


def _columns(table: Table) -> str:
    """The columns with their types; `?` may be null, an arrow names the table that an id points to."""
    parts = []
    for column in table.columns:
        target = "".join(f" → {key.column.table.name}" for key in column.foreign_keys)
        parts.append(f"`{column.name}` {_type(str(column.type))}{'?' if column.nullable else ''}{target}")
    return ", ".join(parts)


def _order(column: object) -> str:
    return str(getattr(column, "name", column))


def _indexes(table: Table) -> str:
    """Primary key, unique keys and indexes, with the condition of partial ones."""
    keys = [f"key ({', '.join(column.name for column in table.primary_key.columns)})"]
    unique = [one for one in table.constraints if isinstance(one, UniqueConstraint)]
    keys += sorted(f"unique ({', '.join(column.name for column in one.columns)})" for one in unique)
    for index in sorted(table.indexes, key=lambda one: str(one.name)):
        where = index.dialect_options["sqlite"]["where"]
        word = "unique " if index.unique else ""
        condition = f" where {where}" if where is not None else ""
        keys.append(f"{word}({', '.join(_order(column) for column in index.expressions)}){condition}")
    return "; ".join(keys)


def tables(root: Path) -> str:
    """Every table that exists: what for, columns, keys, growth, who writes it, what removes it."""
    lines: list[str] = []
    for area, rows in groupby(rows_of(root / FOLDER / "tables.tsv"), key=lambda row: row["area"]):
        lines += ["", f"### {area}", ""] if lines else [f"### {area}", ""]
        for row in rows:
            table = metadata.tables[row["table"]]
            lines += [
                f"**`{table.name}`**: {row['purpose']}. {row['columns']}.",
                "",
                f"- Columns: {_columns(table)}",
                f"- Keys: {_indexes(table)}",
                f"- Grows: {row['growth']}. Written by: {row['written_by']}. Removed: {row['removed']}.",
                "",
            ]
        lines.pop()
    return "\n".join(lines)


def drawing(_root: Path) -> str:
    """The relations between the tables of runs and work, as a Mermaid diagram."""
    lines = ["```mermaid", "erDiagram"]
    for name in DRAWN:
        for column in metadata.tables[name].columns:
            for key in column.foreign_keys:
                target = key.column.table.name
                if target in DRAWN and (name, column.name) != ("pipelines", "latest_version"):
                    lines.append(f"    {target} {'|o' if column.nullable else '||'}--o{{ {name} : {column.name}")
    return "\n".join([*lines, "```"])


def planned(root: Path) -> str:
    """Every table and column that later work adds."""
    lines: list[str] = []
    for part, rows in groupby(rows_of(root / FOLDER / "planned.tsv"), key=lambda row: row["section"]):
        lines += ["", f"### {part}", ""] if lines else [f"### {part}", ""]
        for name, columns in groupby(rows, key=lambda row: row["table"]):
            listed = "; ".join(f"`{row['column']}` {row['meaning']}" for row in columns)
            lines.append(f"- **`{name}`**{' (new columns)' if name in metadata.tables else ''}: {listed}")
    return "\n".join(lines)


def queries(root: Path) -> str:
    """Which index serves which query."""
    lines = ["| Query | Index |", "|---|---|"]
    lines += [f"| {row['query']} | `{row['index']}` |" for row in rows_of(root / FOLDER / "queries.tsv")]
    return "\n".join(lines)


def _source(source: str) -> str:
    if COLUMN.match(source):
        return f"`{source}`"
    if source.startswith("planned: "):
        column, dash, why = source.removeprefix("planned: ").partition(" — ")
        return f"*planned* `{column}`{'; ' if dash else ''}{why}"
    return source.removeprefix("derived: ")


def page(root: Path, api: str) -> str:
    """The page that says where each field of one API's document comes from."""
    rows = rows_of(root / FOLDER / f"{api}.tsv")
    later = sum(row["source"].startswith("planned: ") for row in rows)
    lines = [
        f"# Fields of the {TITLES[api]} API",
        "",
        f"Generated from `{FOLDER}/{api}.tsv`; see [the data model](../data-model.md).",
    ]
    lines += [f"{len(rows)} fields, {later} of them in columns that later work adds (*planned*)."]
    lines += ["A column alone is that column, in the API's own format of times and identifiers."]
    for entity, fields in groupby(rows, key=lambda row: row["entity"]):
        lines += ["", f"## {entity}", "", "| Field | Source |", "|---|---|"]
        lines += [f"| {row['field']} | {_source(row['source'])} |".replace("||", "| |") for row in fields]
    return "\n".join(lines) + "\n"
