"""Figures, the facts of the machine they were measured on, and the table of both."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value. `bar` is what it should reach; `met` is None where there is nothing to reach.

    `ratio` says how the value stands to the peer's, in words; `load` is the machine's load average when it was taken.
    """

    row: str
    what: str
    value: str
    bar: str = ""
    peer: str = ""
    ratio: str = ""
    met: bool | None = None
    load: float = field(default_factory=lambda: os.getloadavg()[0])


@dataclass(frozen=True, slots=True)
class Spread:
    """Times in seconds, in order."""

    ordered: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread":
        """The spread of any times."""
        return cls(tuple(sorted(seconds)))

    def at(self, share: float) -> float:
        """The time that `share` of all do not exceed."""
        return self.ordered[min(len(self.ordered) - 1, int(len(self.ordered) * share))]

    @property
    def p50(self) -> float:
        """The median."""
        return self.at(0.5)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return self.at(0.99)

    def __str__(self) -> str:
        return f"p50 {ms(self.p50)}, p99 {ms(self.p99)}"


def ms(seconds: float) -> str:
    """Milliseconds with as many digits as mean something."""
    return f"{seconds * 1e3:.{0 if seconds >= 0.1 else 1 if seconds >= 0.001 else 2}f} ms"


def rate(per_second: float) -> str:
    """So many a second."""
    return f"{per_second:,.0f}/s".replace(",", " ") if per_second >= 20 else f"{per_second:.1f}/s"


def times(ratio: float) -> str:
    """A ratio in words."""
    return f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×" if ratio >= 0.95 else f"{ratio:.2f}×"


def say(figure: Figure) -> None:
    """One line for whoever watches."""
    met = {True: "met", False: "NOT MET", None: ""}[figure.met]
    beside = f" | {figure.peer} | {figure.ratio}" if figure.peer else ""
    bar = f" | bar {figure.bar}" if figure.bar else ""
    sys.stdout.write(f"{figure.what}: {figure.value}{bar}{beside} {met} (load {figure.load:.1f})\n")
    sys.stdout.flush()


def machine() -> str:
    """What was measured on."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ": unknown").split(":")[1]
    memory = int(next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    return (
        f"{os.cpu_count()} cores ({model.strip()}), {memory / 2**20:.0f} GiB, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}"
    )


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()


def markdown(figures: Sequence[Figure], command: str) -> str:
    """The tables of a page: one row a figure, by the rows of the design."""
    head = "| | value | bar | beside | ratio | met | load |\n|---|---|---|---|---|---|---|"
    lines = [f"Made by `{command}` on {machine()}.", "", head]
    row = ""
    for figure in figures:
        if figure.row != row:
            row = figure.row
            lines.append(f"| **{row}** | | | | | | |")
        met = {True: "yes", False: "**no**", None: ""}[figure.met]
        cells = (figure.what, figure.value, figure.bar, figure.peer, figure.ratio, met, f"{figure.load:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def each(figures: Iterable[Figure], into: list[Figure], say_it: Callable[[Figure], None] = say) -> None:
    """Take figures as they come, and tell of each."""
    for figure in figures:
        say_it(figure)
        into.append(figure)
