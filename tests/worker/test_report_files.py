"""Report files as real tools write them, and as nobody should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from buildyard.worker.report_files import (
    DEPTH,
    MESSAGE,
    MOST_CASES,
    READERS,
    BadReport,
    Findings,
    clean,
)
from needs import need

TESTED = """
def double(x):
    if x > 100:
        return 0
    return 2 * x
"""
TESTS = """
import pytest
from tested import double

def test_passes(): assert double(2) == 4
def test_fails(): assert double(2) == 5, "not five"
def test_errors(missing_fixture): pass
@pytest.mark.skip(reason="another day")
def test_skipped(): pass
class TestMore:
    @pytest.mark.parametrize("x", ["<&>", "ü\\x1b[31m"])
    def test_odd(self, x): pass
"""


def read(kind: str, data: bytes | str, findings: Findings | None = None) -> Findings:
    found = findings or Findings()
    READERS[kind](data if isinstance(data, bytes) else data.encode(), f"{kind}.file", found)
    return found


def values(found: Findings) -> dict[str, float]:
    return {name: metric.value for name, metric in found.metrics.items()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which real pytest and coverage.py have run, with their reports."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tested.py").write_text(TESTED)
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    python = [sys.executable, "-m"]
    coverage = [*python, "coverage"]
    is_there = subprocess.run([*coverage, "--version"], capture_output=True, check=False).returncode == 0
    need(is_there, "coverage.py (PyPI: coverage)")
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=junit.xml", "test_it.py"]
    subprocess.run([*coverage, "run", "--branch", "--include=tested.py", *tests], cwd=folder, check=False)
    subprocess.run([*coverage, "xml", "-q", "-o", "coverage.xml"], cwd=folder, check=True)
    subprocess.run([*coverage, "lcov", "-q", "-o", "coverage.lcov"], cwd=folder, check=True)
    return folder


@pytest.mark.covers("engine.reports")
def test_what_pytest_writes_is_read(ran: Path) -> None:
    (found,) = read("junit", (ran / "junit.xml").read_bytes()).sets
    assert (found.passed, found.failed, found.skipped) == (3, 2, 1)
    by_name = {case.name: case for case in found.cases}
    assert {name: case.value for name, case in by_name.items()} | {} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_errors": "error",
        "test_skipped": "skipped",
        **{name: "passed" for name in by_name if name.startswith("test_odd")},
    }
    assert "not five" in by_name["test_fails"].message
    assert "another day" in by_name["test_skipped"].message
    assert by_name["test_passes"].suite == "test_it"
    assert by_name["test_fails"].duration_ns >= 0


@pytest.mark.covers("engine.reports")
@pytest.mark.parametrize(("kind", "name"), [("cobertura", "coverage.xml"), ("lcov", "coverage.lcov")])
def test_what_coverage_writes_is_read_and_both_formats_agree(ran: Path, kind: str, name: str) -> None:
    assert values(read(kind, (ran / name).read_bytes())) == {
        "coverage.lines": 3,
        "coverage.lines_total": 4,
        "coverage.branches": 1,
        "coverage.branches_total": 2,
    }


@pytest.mark.covers("engine.reports")
def test_coverage_without_totals_is_counted_from_its_lines() -> None:
    doctype = '<?xml version="1.0"?><!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">'
    lines = '<lines><line number="1" hits="3"/><line number="2" hits="0"/></lines>'
    inner = f"<methods><method>{lines}</method></methods>{lines}"
    cobertura = f'{doctype}<coverage line-rate="0.5"><packages><package><classes><class>{inner}</class>'
    found = read("cobertura", cobertura + "</classes></package></packages></coverage>")
    assert values(found) == {"coverage.lines": 1, "coverage.lines_total": 2}
    read("lcov", "TN:\nSF:a.c\nDA:1,3\nDA:2,0\nDA:3,1\nend_of_record\n", found)
    assert values(found) == {"coverage.lines": 3, "coverage.lines_total": 5}


@pytest.mark.covers("engine.reports")
def test_metrics_are_lines_or_json() -> None:
    found = read("metrics", "# sizes\nsize.binary 1024 bytes\n\ntime 0.25 s\nscore -3e2\n")
    assert [(one.name, one.value, one.unit) for one in found.metrics.values()] == [
        ("size.binary", 1024.0, "bytes"),
        ("time", 0.25, "s"),
        ("score", -300.0, ""),
    ]
    read("metrics", json.dumps({"time": {"value": 0.5, "unit": "ms"}, "more": 7}), found)
    assert values(found) == {"size.binary": 1024, "time": 0.5, "score": -300, "more": 7}


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><testsuite name="&b;"/>'
FILE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&f;"/></testsuite>'
PARAMETER = '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x"> %p;]><testsuite/>'


@pytest.mark.covers("engine.reports.safe")
@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("junit", BOMB, "declares entities"),
        ("junit", FILE, "declares entities"),
        ("cobertura", PARAMETER, "declares entities"),
        ("junit", "<a>" * (DEPTH + 1), "deeper than"),
        ("junit", "<testsuite><testcase", "is not XML"),
        ("junit", "", "is not XML"),
        ("junit", "<html/>", "is no JUnit XML"),
        ("junit", b"\xff\xfe\x00", "is not XML"),
        ("cobertura", "<testsuite/>", "its root is not coverage"),
        ("cobertura", '<coverage lines-valid="1" lines-covered="9"/>', "9 of 1 lines"),
        ("lcov", "hello\n", "no record"),
        ("lcov", "SF:a\nLF:many\n", "not understood"),
        ("metrics", "one\n", "line 1 is not"),
        ("metrics", "a b\n", "has no number"),
        ("metrics", "a nan\n", "not a finite number"),
        ("metrics", "a 1e999\n", "not a finite number"),
        ("metrics", "a;b 1\n", "is not a name"),
        ("metrics", '{"a": true}', "has no number"),
        ("metrics", '{"a": NaN}', "not a finite number"),
        ("metrics", '{"a": ' + "9" * 400 + "}", "too large"),
        ("metrics", '{"a": ' + "[" * 100_000, "is not JSON"),
        ("metrics", b"\xff 1", "not UTF-8"),
        ("metrics", "".join(f"m{n} 1\n" for n in range(1001)), "more than 1000 metrics"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(kind: str, data: bytes | str, reason: str) -> None:
    with pytest.raises(BadReport, match=reason) as caught:
        read(kind, data)
    assert "\n" not in str(caught.value)


@pytest.mark.covers("engine.reports.safe")
def test_very_many_tests_are_counted_but_only_the_first_are_kept_and_long_texts_are_cut() -> None:
    case = f'<testcase name="{"n" * 5000}"><failure message="m">{"x" * 50_000}</failure></testcase>'
    found = read("junit", f"<testsuites><testsuite>{case * 10}</testsuite></testsuites>")
    assert (len(found.sets[0].cases[0].name), len(found.sets[0].cases[0].message)) == (500, MESSAGE)
    read("junit", "<testsuite>" + "<testcase name='t'/>" * (MOST_CASES + 7) + "</testsuite>", found)
    assert (found.sets[1].passed, sum(len(one.cases) for one in found.sets)) == (MOST_CASES + 7, MOST_CASES)
    assert clean("a\x00b\x1b[31mc\ud800\n", 10) == "ab[31mc\n"


@pytest.mark.covers("engine.reports.safe")
def test_odd_attributes_of_tests_do_no_harm() -> None:
    odd = '<testsuite xmlns="urn:x"><testcase time="1,234.5" line="-3"/><testcase name="b" time="soon"/></testsuite>'
    first, second = read("junit", odd).sets[0].cases
    assert (first.name, first.duration_ns, first.line) == ("?", 1_234_500_000_000, 0)
    assert second.duration_ns == 0
