"""Writes the generated documents, or with `--check` says which of them are not current and fails.

    python tools/generate_docs.py [--check] [--strict]

`--strict` (with `--check`) also asks for a test of every requirement.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import command_reference
import coverage_table
import data_model_tables
import state_machine

from buildyard.settings.reference import settings_reference

ROOT = Path(__file__).resolve().parent.parent

Generate = Callable[[str], str]
"""From the present text of a document to what it should be."""


def whole(page: Callable[[Path], str], _present: str) -> str:
    """A document that is generated from its first line to its last."""
    return page(ROOT)


def section(name: str, body: Callable[[], str], present: str) -> str:
    """A document of which only what lies between two comments is generated."""
    begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = present.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the document lacks the comments {begin!r} and {end!r}")
    return f"{before}{begin}\n{body()}\n{end}{after}"


def settings_page(_root: Path) -> str:
    """The reference of settings."""
    return settings_reference()


def generators() -> list[tuple[str, Generate]]:
    """Every generated document and what makes it; one document may be listed with several sections."""
    return [
        ("docs/state-machine.md", partial(whole, state_machine.page)),
        ("docs/requirements.md", partial(whole, coverage_table.requirements_page)),
        ("docs/settings.md", partial(whole, settings_page)),
        ("docs/cli.md", partial(whole, command_reference.page)),
        *(
            (f"docs/data-model/{api}.md", partial(whole, partial(data_model_tables.page, api=api)))
            for api in data_model_tables.APIS
        ),
        *(
            ("docs/data-model.md", partial(section, name, partial(make, ROOT)))
            for name, make in (
                ("drawing", data_model_tables.drawing),
                ("tables", data_model_tables.tables),
                ("queries", data_model_tables.queries),
                ("planned", data_model_tables.planned),
            )
        ),
        *(
            (f"docs/apis/{api}.md", partial(section, "operations", partial(coverage_table.operations_table, ROOT, api)))
            for api in coverage_table.apis(ROOT)
        ),
    ]


def main() -> int:
    """Generate or check; the exit status is 1 when something is stale or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is not current")
    parser.add_argument("--strict", action="store_true", help="with --check: every requirement needs a test")
    options = parser.parse_args()
    wrong = [*coverage_table.faults(ROOT, strict=options.strict), *data_model_tables.faults(ROOT)]
    for name, generate in generators():
        path = ROOT / name
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        wanted = generate(present)
        if wanted == present:
            continue
        if options.check:
            wrong.append(f"{name} is not current: run python tools/generate_docs.py")
        else:
            path.write_text(wanted, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    for fault in dict.fromkeys(wrong):
        sys.stderr.write(fault + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
