"""Runs the rows and prints the table: `python -m bench [--quick] [--write] [ROW…]`."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.context import Context
from bench.peers import measure_buildbot
from bench.rows_builds import graph, latency, throughput
from bench.rows_claims import claims
from bench.rows_logs import follow, ingest
from bench.rows_memory import memory
from bench.rows_queue import queue
from bench.rows_reading import reading
from bench.rows_sourcehut import sourcehut
from bench.table import Figure, each, machine, markdown

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
KEPT = Path(__file__).parents[1] / ".cache" / "bench"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
ROWS: dict[str, Callable[[Context], Iterator[Figure]]] = {
    "latency": latency,
    "throughput": throughput,
    "graph": graph,
    "reading": reading,
    "ingest": ingest,
    "follow": follow,
    "claims": claims,
    "queue": queue,
    "memory": memory,
    "sourcehut": sourcehut,
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: two minutes instead of fifteen")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    begun = time.monotonic()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="buildyard-bench-") as scratch:
        sys.stdout.write(f"{machine()}\nmeasuring Buildbot …\n")
        context = Context(
            quick=options.quick,
            scratch=Path(scratch),
            kept=KEPT,
            buildbot=measure_buildbot(Path(scratch) / "buildbot", quick=options.quick),
        )
        for name in options.rows or ROWS:
            each(ROWS[name](context), figures)
    sys.stdout.write(f"{time.monotonic() - begun:.0f} s\n\n")
    table = markdown(figures, "make bench" + (" BENCH=--quick" if options.quick else ""))
    sys.stdout.write(table)
    if options.write:
        write(table)


def write(table: str) -> None:
    """Replace the figures in the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table}{END}{after}")


if __name__ == "__main__":
    main()
