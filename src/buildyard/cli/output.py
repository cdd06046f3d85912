"""What commands print: tables and lines for people, JSON for programs, colours on a terminal only."""

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

STYLE = {
    "waiting": "dim",
    "queued": "cyan",
    "leased": "cyan",
    "running": "bold cyan",
    "success": "green",
    "warnings": "yellow",
    "skipped": "dim",
    "cancelled": "yellow",
    "dependency_failed": "dim red",
    "lost": "yellow",
    "idle": "green",
    "busy": "bold cyan",
    "paused": "yellow",
    "draining": "yellow",
}
"""Colours of phases, results and workers; what is not here went wrong."""

SYMBOL = {
    "waiting": "·",
    "queued": "○",
    "leased": "◔",
    "running": "●",
    "success": "✓",
    "warnings": "!",
    "skipped": "-",
    "cancelled": "■",
    "dependency_failed": "↯",
    "lost": "?",
}
PASSED = frozenset({"success", "warnings"})

_COLOUR = r"\x1b\[[0-9;]{0,20}m"
_CONTROL = re.compile(
    rf"(?P<colour>{_COLOUR})|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b.?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def console(*, error: bool = False) -> "Console":
    """Rich's console for standard output (or error); it leaves colours out where nobody looks."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_line_json(value: object) -> None:
    """One line of JSON, for streams of news."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, styled: int | None = None) -> None:
    """Rows under headings; the column `styled` holds states and is coloured by them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, style_of(cell) if i == styled else "") for i, cell in enumerate(row)))
    console().print(table)


def word_of(phase: str, result: str | None, *, lost: bool = False) -> str:
    """The one word for a state."""
    return "lost" if lost else result or phase


def style_of(word: str) -> str:
    """The colour of a state's word."""
    return STYLE.get(word, "bold red")


def symbol_of(word: str) -> str:
    """A sign for a state's word."""
    return SYMBOL.get(word, "✗")


def seconds_between(start: str | None, end: str | None) -> float | None:
    """From one RFC 3339 text to another, or to now; None if it has not begun."""
    if start is None:
        return None
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return max(0.0, (until - datetime.fromisoformat(start)).total_seconds())


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3:05`, `1:02:03`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def file_size(size: int) -> str:
    """`812 B`, `3.4 MiB`."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def harmless(line: bytes) -> str:
    """A line of a log for a terminal: colours stay, every other control sequence goes; of `a\\rb` only `b` is left."""
    text = line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
    return _CONTROL.sub(lambda match: match["colour"] or "", text)
