"""Reads report files that jobs leave: JUnit XML, Cobertura XML, lcov, and plain metrics.

The files are a job's own, so they are read as a stream within limits. XML may declare no entities, external ones are
never fetched, and elements nest only so deep. What is wrong with a file raises BadReport.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from buildyard.protocol import MetricValue, ReportedTest, ReportedTests

FILE_BYTES = 32 * 1024 * 1024
MOST_CASES = 5000
"""Test cases of one attempt that are kept one by one; more are only counted."""
MOST_METRICS = 1000
NAME = 500
MESSAGE = 2000
DEPTH = 64
_CHUNK = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@+-]{0,199}")


class BadReport(Exception):
    """A report that cannot be read; the message is one line for the job's log."""


@dataclass(slots=True)
class Findings:
    """What the reports of an attempt say."""

    sets: list[ReportedTests] = field(default_factory=list)
    metrics: dict[str, MetricValue] = field(default_factory=dict)

    @property
    def cases_left(self) -> int:
        """How many test cases may still be kept."""
        return MOST_CASES - sum(len(one.cases) for one in self.sets)

    def add(self, name: str, value: float, unit: str = "", *, summed: bool = False) -> None:
        """Note a metric; of two files with the same name the later one counts, or both if they are `summed`."""
        if not _NAME.fullmatch(name):
            raise BadReport(f"{name[:80]!r} is not a name for a metric")
        if not math.isfinite(value):
            raise BadReport(f"the value of {name} is not a finite number")
        if len(self.metrics) >= MOST_METRICS and name not in self.metrics:
            raise BadReport(f"there are more than {MOST_METRICS} metrics")
        before = self.metrics.get(name)
        total = value + before.value if before and summed else value
        self.metrics[name] = MetricValue(name=name, value=total, unit=clean(unit, 40))


def clean(text: str, most: int) -> str:
    """A text without what databases and terminals cannot hold, cut to `most` characters."""
    shown = "".join(c for c in text[: 2 * most] if c in "\n\t" or (c.isprintable() and not "\ud800" <= c <= "\udfff"))
    return shown[:most]


def read_junit(data: bytes, path: str, findings: Findings) -> None:
    """Test cases of a JUnit XML file, as pytest, Maven, Gradle, gtest and others write it."""
    reader = _Junit(findings.cases_left)
    _parse(data, reader.start, reader.end, reader.text)
    if not reader.seen:
        raise BadReport("is no JUnit XML: it has neither testsuite nor testsuites")
    counts = reader.counts
    findings.sets.append(
        ReportedTests(
            description=clean(path, NAME),
            passed=counts["passed"],
            failed=counts["failed"] + counts["error"],
            skipped=counts["skipped"],
            cases=reader.cases,
        )
    )


class _Junit:
    """Takes the events of a JUnit file."""

    def __init__(self, left: int) -> None:
        self.seen = False
        self.cases: list[ReportedTest] = []
        self.counts = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
        self._left = left
        self._case: dict[str, str] | None = None
        self._value = "passed"
        self._message = ""
        self._text: list[str] | None = None
        self._length = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in ("testsuite", "testsuites"):
            self.seen = True
        elif name == "testcase":
            self._case, self._value, self._message = attributes, "passed", ""
        elif self._case is not None and name in ("failure", "error", "skipped"):
            self._value = {"failure": "failed"}.get(name, name)
            self._message = attributes.get("message", "")
            self._text, self._length = [], 0

    def text(self, data: str) -> None:
        if self._text is not None and self._length < MESSAGE:
            self._text.append(data)
            self._length += len(data)

    def end(self, name: str) -> None:
        if name in ("failure", "error", "skipped") and self._text is not None:
            body = "".join(self._text).strip()
            self._message = body if body.startswith(self._message) else f"{self._message}\n{body}".strip()
            self._text = None
        elif name == "testcase" and self._case is not None:
            self.counts[self._value] += 1
            if len(self.cases) < self._left:
                self.cases.append(self._as_case(self._case))
            self._case = None

    def _as_case(self, case: dict[str, str]) -> ReportedTest:
        line = case.get("line", "")
        return ReportedTest(
            name=clean(case.get("name", "") or "?", NAME),
            suite=clean(case.get("classname", ""), NAME),
            path=clean(case.get("file", ""), NAME),
            line=int(line) if re.fullmatch(r"\d{1,9}", line) else 0,
            duration_ns=_nanoseconds(case.get("time", "")),
            value=self._value,
            message=clean(self._message, MESSAGE),
        )


def _nanoseconds(text: str) -> int:
    """Seconds as people write them (`0.5`, `1,234.5`) in nanoseconds; 0 if they cannot be read."""
    try:
        seconds = float(text.replace(",", "") or "0")
    except ValueError:
        return 0
    return int(seconds * 1e9) if 0 <= seconds < 1e8 else 0


def read_cobertura(data: bytes, _path: str, findings: Findings) -> None:
    """Coverage of lines and branches, as the root says, or else as counted from the lines."""
    reader = _Cobertura()
    _parse(data, reader.start, reader.end, lambda _text: None)
    if reader.root is None:
        raise BadReport("is no Cobertura XML: its root is not coverage")
    stated = [_count(reader.root.get(name, "")) for name in ("lines-covered", "lines-valid")]
    covered, total = (stated[0], stated[1]) if None not in stated else (reader.covered, reader.total)
    _add_lines(findings, covered or 0, total or 0)
    branches = [_count(reader.root.get(name, "")) for name in ("branches-covered", "branches-valid")]
    if branches[0] is not None and branches[1]:
        findings.add("coverage.branches", branches[0], "branches", summed=True)
        findings.add("coverage.branches_total", branches[1], "branches", summed=True)


class _Cobertura:
    """Takes the events of a Cobertura file. Lines stand in classes, and again in their methods, which do not count."""

    def __init__(self) -> None:
        self.root: dict[str, str] | None = None
        self.total = 0
        self.covered = 0
        self._first = True
        self._in_method = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._first:
            self._first = False
            self.root = attributes if name == "coverage" else None
        if name == "method":
            self._in_method = True
        elif name == "line" and not self._in_method:
            self.total += 1
            self.covered += (_count(attributes.get("hits", "")) or 0) > 0

    def end(self, name: str) -> None:
        if name == "method":
            self._in_method = False


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,12}", text) else None


def _add_lines(findings: Findings, covered: int, total: int) -> None:
    if covered > total:
        raise BadReport(f"says that {covered} of {total} lines are covered")
    findings.add("coverage.lines", covered, "lines", summed=True)
    findings.add("coverage.lines_total", total, "lines", summed=True)


def read_lcov(data: bytes, _path: str, findings: Findings) -> None:
    """Coverage of lines and branches: the sums of the records' totals, or else what their lines come to."""
    sums = dict.fromkeys(("LF", "LH", "BRF", "BRH", "DA", "DA_HIT"), 0)
    records = 0
    for line in _lines(data):
        key, _, rest = line.partition(":")
        if key == "SF":
            records += 1
        elif key in ("LF", "LH", "BRF", "BRH"):
            count = _count(rest.strip())
            if count is None:
                raise BadReport(f"has a line that is not understood: {line[:80]!r}")
            sums[key] += count
        elif key == "DA":
            hits = rest.split(",")[1:2]
            sums["DA"] += 1
            sums["DA_HIT"] += bool(hits) and hits[0].strip() not in ("0", "")
    if not records:
        raise BadReport("is no lcov file: it has no record (SF:)")
    totals = ("LH", "LF") if sums["LF"] else ("DA_HIT", "DA")
    _add_lines(findings, sums[totals[0]], sums[totals[1]])
    if sums["BRF"]:
        findings.add("coverage.branches", sums["BRH"], "branches", summed=True)
        findings.add("coverage.branches_total", sums["BRF"], "branches", summed=True)


def read_metrics(data: bytes, _path: str, findings: Findings) -> None:
    """Lines of `name value [unit]`, or a JSON object of numbers or `{"value": …, "unit": …}`."""
    text = _text(data)
    pairs = _json_pairs(text) if text.lstrip().startswith("{") else _line_pairs(text)
    for name, value, unit in pairs:
        findings.add(name, value, unit)


def _line_pairs(text: str) -> Iterator[tuple[str, float, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3):
            raise BadReport(f"line {number} is not `name value [unit]`")
        yield words[0], _number(words[1], f"line {number}"), words[2] if len(words) == 3 else ""


def _json_pairs(text: str) -> Iterator[tuple[str, float, str]]:
    try:
        whole: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadReport(f"is not JSON: {exc}") from exc
    for name, given in whole.items():
        value, unit = (given.get("value"), str(given.get("unit", ""))) if isinstance(given, dict) else (given, "")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadReport(f"{name[:80]!r} has no number")
        try:
            yield name, float(value), unit
        except OverflowError as exc:
            raise BadReport(f"the value of {name[:80]!r} is too large") from exc


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except (ValueError, OverflowError) as exc:
        raise BadReport(f"{where} has no number: {text[:40]!r}") from exc


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise BadReport(f"is not UTF-8 text (byte {exc.start})") from exc


def _lines(data: bytes) -> Iterable[str]:
    return (line.decode("utf-8", "replace").strip() for line in data.splitlines())


def _parse(
    data: bytes, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None], text: Callable[[str], None]
) -> None:
    """Feed a file to expat piece by piece; local names of namespaces are passed on."""
    parser = expat.ParserCreate(namespace_separator="\n")
    depth = 0

    def on_start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH:
            raise BadReport(f"nests elements deeper than {DEPTH}")
        start(name.rpartition("\n")[2], attributes)

    def on_end(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name.rpartition("\n")[2])

    def refuse(*_declaration: object) -> None:
        raise BadReport("declares entities, which are not allowed")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = refuse
    try:
        for begin in range(0, len(data), _CHUNK):
            parser.Parse(data[begin : begin + _CHUNK], False)
        parser.Parse(b"", True)
    except expat.ExpatError as exc:
        raise BadReport(f"is not XML: {exc}") from exc


READERS: dict[str, Callable[[bytes, str, Findings], None]] = {
    "junit": read_junit,
    "cobertura": read_cobertura,
    "lcov": read_lcov,
    "metrics": read_metrics,
}
"""By the word that a job's `reports` have as their type."""
