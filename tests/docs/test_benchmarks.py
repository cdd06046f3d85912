"""The page of benchmarks has every row of the design, each beside its bar, and says what keeps a row from it."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/benchmarks.md"
FIGURES = re.compile(r"<!-- figures -->\n(.*)<!-- end of figures -->\n(.*)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A line of the table."""

    row: str
    what: str
    value: str
    bar: str
    peer: str
    met: str


def figures() -> list[Figure]:
    """The lines of the table that hold values, each with the row that it belongs to."""
    found = FIGURES.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    row, made = "", []
    for line in found[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        if line.startswith("| **") and not any(cells[1:]):
            row = cells[0].strip("* ")
        elif line.startswith("| ") and row:
            what, value, bar, peer, _, met, _ = cells
            made.append(Figure(row, what, value, bar, peer, met.strip("*")))
    return made


def explanations() -> str:
    """What the page says of rows that miss their bar."""
    found = FIGURES.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert "## What stands in the way" in found[2]
    return found[2]


PEERS = {
    "submit → first step": "Buildbot",
    "one-step builds": "Buildbot",
    "DAG of": "ninja",
    "one build; list of 50": "Buildbot",
    "log ingest": "cat",
    "log follow": "",
    "claim + finish": "UPDATE",
    "idle memory": "Buildbot",
}
"""The rows of the design, and beside what they are measured."""


@pytest.mark.covers("speed.table")
@pytest.mark.parametrize("row", PEERS)
def test_every_row_has_a_figure_beside_its_bar_and_its_peer(row: str) -> None:
    found = [figure for figure in figures() if figure.row.startswith(row)]

    assert any(figure.bar for figure in found)
    assert all(figure.value and figure.met in ("yes", "no") for figure in found if figure.bar)
    assert any(PEERS[row] in figure.peer for figure in found)


@pytest.mark.covers("speed.table")
def test_the_page_says_how_the_table_is_made_anew() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert "Made by `make bench" in text
    assert "make bench BENCH=" in text


@pytest.mark.covers(
    "speed.latency",
    "speed.throughput",
    "speed.graph",
    "speed.reads",
    "speed.logs.ingest",
    "speed.logs.follow",
    "speed.claims",
    "speed.idle",
)
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("submit →", "**One build end to end**"),
        ("one-step builds", ""),
        ("DAG of", "**Big graphs**"),
        ("one build; list", "**One build over HTTP**"),
        ("log ingest", "**Log ingest**"),
        ("log follow", "**Viewers**"),
        ("claim + finish", "**Claims on"),
        ("idle", ""),
    ],
)
def test_a_row_keeps_its_bars_or_the_page_says_with_figures_what_stands_in_the_way(row: str, words: str) -> None:
    missed = [figure.what for figure in figures() if figure.row.startswith(row) and figure.met == "no"]

    assert not missed or (words and words in explanations()), missed
