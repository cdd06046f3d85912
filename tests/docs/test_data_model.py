"""The data model covers every field of the five documents, names only what exists, and is current."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import api_documents
import coverage_table
import data_model_tables
import pytest
from sqlalchemy import Connection, create_engine

from buildyard.store.tables import metadata

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/data-model"


@pytest.fixture(scope="module")
def shared() -> Path:
    folder = api_documents.find(ROOT)
    if folder is None:
        pytest.skip(f"the five documents are not there: no folder {ROOT.parent / 'shared/specs'}")
    return folder


@pytest.fixture(scope="module")
def database() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.covers("repo.docs.data_model")
@pytest.mark.parametrize("api", data_model_tables.APIS)
def test_every_field_of_the_documents_is_mapped_exactly_once(api: str, shared: Path) -> None:
    rows = coverage_table.rows_of(FOLDER / f"{api}.tsv")
    mapped = Counter((row["entity"], row["field"]) for row in rows)
    wanted = api_documents.fields(shared)[api]

    assert len(wanted) > 50
    assert [field for field in wanted if mapped[field] != 1] == []
    assert [field for field, times in mapped.items() if times > 1] == []
    assert [field for field in mapped if field not in wanted and not field[0].endswith(" (observed)")] == []


@pytest.mark.covers("repo.docs.api_pages")
@pytest.mark.parametrize("api", data_model_tables.APIS)
def test_every_operation_of_the_documents_is_listed(api: str, shared: Path) -> None:
    listed = {one.operation for one in coverage_table.operations(ROOT, api)}

    assert [name for name in api_documents.operations(shared)[api] if name not in listed] == []


@pytest.mark.covers("repo.docs.data_model")
def test_every_column_that_is_named_exists_or_is_planned() -> None:
    assert data_model_tables.faults(ROOT) == []


@pytest.mark.covers("repo.docs.data_model")
def test_the_text_names_only_tables_and_columns_that_exist_or_are_planned() -> None:
    known = data_model_tables.built_columns() | data_model_tables.planned_columns(ROOT)
    text = (ROOT / "docs/data-model.md").read_text(encoding="utf-8")
    tables = {name.partition(".")[0] for name in known}
    named = {name for name in data_model_tables.QUOTED.findall(text) if name.partition(".")[0] in tables}

    assert len(named) > 30
    assert sorted(named - known) == []


@pytest.mark.covers("repo.docs.generated", "settings.reference")
def test_generated_documents_are_current() -> None:
    command = [sys.executable, "tools/generate_docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.covers("proof.query_plans")
@pytest.mark.parametrize("row", coverage_table.rows_of(FOLDER / "queries.tsv"), ids=lambda row: row["query"])
def test_each_query_uses_the_index_that_is_named_for_it(row: dict[str, str], database: Connection) -> None:
    plan = [str(line[3]) for line in database.exec_driver_sql(f"EXPLAIN QUERY PLAN {row['sql']}")]

    used = []
    for line in plan:
        found = re.search(r"(?:SEARCH|SCAN) (\w+) USING (?:COVERING )?INDEX (\w+)", line)
        assert found, f"neither sorting nor walking the table: {plan}"
        columns = [str(info[2]) for info in database.exec_driver_sql(f"PRAGMA index_info('{found[2]}')")]
        used.append(f"{found[1]} ({', '.join(columns)})")
    assert used == [row["index"]]
