"""Reports of real jobs, from the workspace to `buildyard show --tests`."""

import json

import pytest

from cli.conftest import Write
from installation import Installation

WORKFLOW = """
name: reported
jobs:
  tests:
    run: |
      cat > junit.xml <<'EOF'
      <testsuite><testcase classname="suite" name="good" time="0.5"/>
      <testcase classname="suite" name="bad"><failure message="it broke">at line 3</failure></testcase></testsuite>
      EOF
      echo '<testsuite>' > broken.xml
      printf 'SF:a\\nLF:8\\nLH:6\\nend_of_record\\n' > cov.info
      echo "size {size} bytes" > sizes.txt
      exit {status}
    reports:
      - {{type: junit, path: "*.xml"}}
      - {{type: lcov, path: cov.info}}
      - {{type: metrics, path: "sizes.*"}}
      - {{type: cobertura, path: nothing.xml}}
"""


def built(buildyard: Installation, write: Write, text: str, code: int = 0) -> str:
    """The id of a build of this file, which ends so."""
    outcome = buildyard("run", str(write("w.yml", text)), "--project", "reports", "--json")
    assert outcome.code == code, outcome
    return str(json.loads(outcome.out.splitlines()[0])["build"]["id"])


@pytest.mark.covers("engine.reports", "engine.reports.safe")
def test_tests_coverage_and_metrics_of_failed_and_good_builds_are_kept_and_shown(
    buildyard: Installation, write: Write
) -> None:
    failed = built(buildyard, write, WORKFLOW.format(size=10, status=1), code=1)
    good = built(buildyard, write, WORKFLOW.format(size=20, status=0))

    for build in (failed, good):
        shown = buildyard("show", build, "--tests").out
        assert "✗ suite.bad (failed" in shown
        assert "it broke" in shown
        assert "coverage of tests: 75.0 % of 8 lines" in shown
        log = buildyard("logs", build).out
        assert "reports: junit: broken.xml: is not XML" in log
        assert "reports: cobertura: no file matches nothing.xml" in log
        assert "reports: 1 tests passed, 1 failed, 0 skipped; 75.0 % of 8 lines covered; 1 metrics" in log
    found = buildyard("show", good, "--tests", "--json").json
    assert [(one["name"], one["status"]) for one in found["tests"]["tests"]] == [("bad", "failed"), ("good", "passed")]
    history = buildyard("metrics", "size", "--project", "reports", "--pipeline", "reported", "--json").json
    assert [(str(one["build"]), one["value"]) for one in history] == [(good, 20.0), (failed, 10.0)]
    assert "bytes" in buildyard("metrics", "size", "--project", "reports", "--pipeline", "reported").out


@pytest.mark.covers("engine.reports.required")
def test_only_a_required_report_fails_a_job(buildyard: Installation, write: Write) -> None:
    text = "name: r\njobs: {a: {run: 'echo \"<x\" > a.xml', reports: [{type: junit, path: %s, required: %s}]}}"
    built(buildyard, write, text % ("a.xml", "false"))
    for path in ("a.xml", "missing.xml"):
        build = built(buildyard, write, text % (path, "true"), code=1)
        assert "a required report is missing or cannot be read" in buildyard("logs", build).out
    plain = "name: r\njobs: {a: {run: 'true'}}"
    assert "the build has no reports" in buildyard("show", built(buildyard, write, plain), "--tests").out


def test_wrong_reports_of_a_workflow_are_told_with_their_place(buildyard: Installation, write: Write) -> None:
    text = "jobs: {a: {run: 'true', reports: [{type: html, path: x}, {type: junit}, {type: lcov, path: ../x}]}}"
    outcome = buildyard("run", str(write("w.yml", text)))
    assert outcome.code == 5
    for words in ("must be one of junit, cobertura, lcov, metrics", "reports[1].path: is missing", "reports[2].path"):
        assert words in outcome.err
