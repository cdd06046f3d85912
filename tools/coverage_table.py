"""Which tests show which requirement and which operation, from the `covers` markers in the tests' source.

`docs/requirements.tsv` (id, section, requirement) and `docs/apis/*.operations.tsv` (operation, state,
note) list what there is to show. A test names an id (`engine.dag.cycles`) or an operation with its API
(`build-server: POST /api/projects`) in `@pytest.mark.covers(…)`; nothing is imported to read them.
"""

import ast
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STATES = ("done", "partial", "missing")


@dataclass(frozen=True, slots=True)
class Shown:
    """A test, or a whole file of tests (`name` is empty), that shows an item."""

    item: str
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an API and how far it is built."""

    api: str
    operation: str
    state: str
    note: str

    @property
    def item(self) -> str:
        """What a test writes to say that it shows this operation."""
        return f"{self.api}: {self.operation}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that Buildyard must do."""

    id: str
    section: str
    text: str


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file with a heading; a row of another width is an error."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise SystemExit(f"{path}:{number}: wrong number of columns")
    return rows


def requirements(root: Path) -> list[Requirement]:
    """All requirements, in the order of the file."""
    rows = rows_of(root / "docs/requirements.tsv")
    return [Requirement(row["id"], row["section"], row["requirement"]) for row in rows]


def operations(root: Path, api: str) -> list[Operation]:
    """All operations of an API, in the order of its file."""
    rows = rows_of(root / f"docs/apis/{api}.operations.tsv")
    return [Operation(api, row["operation"], row["state"], row["note"]) for row in rows]


def apis(root: Path) -> list[str]:
    """The APIs that have a list of operations."""
    return sorted(path.name.removesuffix(".operations.tsv") for path in (root / "docs/apis").glob("*.operations.tsv"))


def _marked(node: ast.expr) -> Iterator[str]:
    """The items of `pytest.mark.covers("a", "b")`, also inside a list of marks."""
    match node:
        case ast.Call(func=ast.Attribute(attr="covers", value=ast.Attribute(attr="mark")), args=args):
            for arg in args:
                if not (isinstance(arg, ast.Constant) and isinstance(arg.value, str)):
                    raise SystemExit(f"line {arg.lineno}: covers() takes literal strings only")
                yield arg.value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            for element in elements:
                yield from _marked(element)
        case _:
            return


def _in_body(body: list[ast.stmt], prefix: str, path: str) -> Iterator[Shown]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                here = f"{prefix}{name}"
                for decorator in node.decorator_list:
                    yield from (Shown(item, path, here) for item in _marked(decorator))
                if isinstance(node, ast.ClassDef):
                    yield from _in_body(node.body, f"{here}.", path)
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=value):
                yield from (Shown(item, path, prefix.rstrip(".")) for item in _marked(value))
            case _:
                continue


def shown_by_tests(root: Path) -> list[Shown]:
    """Every item that a test says it shows, in the order of files and lines."""
    found: list[Shown] = []
    for file in sorted((root / "tests").rglob("test_*.py")):
        path = file.relative_to(root).as_posix()
        found.extend(_in_body(ast.parse(file.read_text(encoding="utf-8")).body, "", path))
    return found


def faults(root: Path, *, strict: bool) -> list[str]:
    """What is wrong: unknown items, unknown states, operations called done without a test.

    `strict` also asks for a test of every requirement.
    """
    shown = shown_by_tests(root)
    listed = [operation for api in apis(root) for operation in operations(root, api)]
    required = [requirement.id for requirement in requirements(root)]
    known = {operation.item for operation in listed} | set(required)
    items = {one.item for one in shown}
    wrong = [
        f"{one.path}: {one.name or 'pytestmark'} covers unknown {one.item!r}" for one in shown if one.item not in known
    ]
    names = [operation.item for operation in listed] + required
    wrong += [f"listed twice: {name!r}" for name in sorted({name for name in names if names.count(name) > 1})]
    wrong += [f"{one.item!r} has unknown state {one.state!r}" for one in listed if one.state not in STATES]
    wrong += [
        f"{one.item!r} is called done but no test covers it"
        for one in listed
        if one.state == "done" and one.item not in items
    ]
    if strict:
        wrong += [f"no test covers {name!r}" for name in required if name not in items]
    return wrong


def _links(item: str, shown: list[Shown], root: Path, page: Path) -> str:
    """Links from `page` to the tests that show `item`, each once, or a dash."""
    links = []
    for one in shown:
        if one.item == item:
            label = one.name or Path(one.path).name
            link = f"[{label}]({Path(os.path.relpath(root / one.path, page.parent)).as_posix()})"
            if link not in links:
                links.append(link)
    return "<br>".join(links) or "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def operations_table(root: Path, api: str) -> str:
    """The Markdown table of an API's operations, with a line that counts them by state."""
    listed, shown = operations(root, api), shown_by_tests(root)
    page = root / f"docs/apis/{api}.md"
    counts = ", ".join(f"{sum(one.state == state for one in listed)} {state}" for state in STATES)
    lines = [f"{len(listed)} operations: {counts}.", "", "| Operation | State | Tests | Note |", "|---|---|---|---|"]
    lines += [
        f"| `{_cell(one.operation)}` | {one.state} | {_links(one.item, shown, root, page)} | {_cell(one.note)} |"
        for one in listed
    ]
    return "\n".join(lines)


def requirements_page(root: Path) -> str:
    """The page that lists every requirement with its tests."""
    shown = shown_by_tests(root)
    page = root / "docs/requirements.md"
    required = requirements(root)
    items = {one.item for one in shown}
    done = sum(one.id in items for one in required)
    lines = [
        "# Requirements and their tests",
        "",
        "Generated from `docs/requirements.tsv` and the `covers` markers in `tests/`.",
    ]
    lines.append(f"{done} of {len(required)} requirements have a test.")
    section = ""
    for one in required:
        if one.section != section:
            section = one.section
            lines += ["", f"## {section}", "", "| Id | Requirement | Tests |", "|---|---|---|"]
        lines.append(f"| {one.id} | {_cell(one.text)} | {_links(one.id, shown, root, page)} |")
    return "\n".join(lines) + "\n"
