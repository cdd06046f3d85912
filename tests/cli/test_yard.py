"""The yard file of a real server: read at its start and on SIGHUP, looked at, and its triggers fired by hand."""

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from installation import PATIENCE_S, Installation

YARD = """\
projects:
  site:
    pipelines:
      build:
        jobs: {make: {run: 'echo "[$WHY]"'}}
        triggers:
          - manual: {name: force, parameters: {WHY: {required: true}, TIMES: {type: int, max: 9}}}
      docs: {jobs: {docs: {run: 'true'}}, triggers: [upstream: {pipeline: build, name: after}]}
workers: {w1: {password_file: w1.secret, labels: [linux]}}
"""


@pytest.fixture
def yard(installation: Installation, tmp_path: Path) -> Path:
    """A yard file that the installation's server shall read."""
    (tmp_path / "w1.secret").write_text("a-secret-of-24-characters\n")
    path = tmp_path / "yard.yml"
    path.write_text(YARD)
    installation.variables["BUILDYARD_YARD"] = str(path)
    return path


def until_diff(installation: Installation, wanted: int) -> Any:
    """Ask for the difference until it ends so; what it said then."""
    late = monotonic() + PATIENCE_S
    while (found := installation("yard", "diff", "--json")).code != wanted:
        assert monotonic() < late, found
        sleep(0.1)
    return found.json


def yard_word(installation: Installation) -> Any:
    """What the server's health says of its yard file."""
    with urllib.request.urlopen(f"{installation.url}/health") as answer:
        return json.load(answer)["yard_file"]


@pytest.mark.covers("yard.command", "yard.faults")
def test_a_file_is_checked_without_a_server(installation: Installation, yard: Path) -> None:
    good = installation("yard", "check", str(yard))
    yard.write_text(YARD.replace("run: 'true'", "runs: 'true'"))
    bad = installation("yard", "check", str(yard))
    told = json.loads(installation("yard", "check", str(yard), "--json").err)

    assert (good.code, good.out) == (0, f"{yard}: 1 projects, 2 pipelines, 2 triggers, 1 workers; no faults\n")
    assert (bad.code, bad.err.splitlines()[0]) == (5, "buildyard: yard.yml has faults")
    at = "projects.site.pipelines.build"
    assert [fault["path"] for fault in told["faults"]] == [f"{at.replace('build', 'docs')}.jobs.docs.runs"]
    assert "unknown key; did you mean 'run'? (line 8, column 28)" in bad.err


@pytest.mark.covers("yard.reload", "yard.command")
def test_a_file_is_read_at_the_start_and_on_a_hangup_and_a_bad_one_changes_nothing(
    installation: Installation, yard: Path
) -> None:
    installation.start()
    assert installation("yard", "diff").out == f"{yard}: nothing to change\n"

    yard.write_text(YARD.replace("name: after", "name: following"))
    changes = installation("yard", "diff", "--json")
    assert (changes.code, [(one["act"], one["name"]) for one in changes.json["changes"]]) == (
        1,
        [("add", "following"), ("disable", "after")],
    )
    installation.signal(signal.SIGHUP)
    assert until_diff(installation, 0)["changes"] == []

    yard.write_text(YARD.replace("jobs: {docs", "job: {docs"))
    installation.signal(signal.SIGHUP)
    refused = installation("yard", "diff")
    assert (refused.code, refused.err.splitlines()[0]) == (5, "buildyard: yard.yml has faults")
    assert installation("yard", "reload").code == 5
    assert yard_word(installation) == "refused"
    listed = installation("triggers", "--project", "site", "--json").json
    assert {one["name"]: one["enabled"] for one in listed} == {"force": True, "after": False, "following": True}
    yard.write_text(YARD)
    assert installation("yard", "reload").code == 0
    assert yard_word(installation) == "in force"
    assert "after" in installation("triggers").out


@pytest.mark.covers("yard.reload", "yard.faults")
def test_a_server_does_not_start_with_a_bad_file_and_says_what_is_wrong(installation: Installation, yard: Path) -> None:
    yard.write_text(YARD.replace("required: true", "required: maybe"))

    with pytest.raises(AssertionError, match=r"(?s)yard\.yml has faults.*WHY\.required: must be true or false.*line 7"):
        installation.start()
    assert installation.wait() == 5


@pytest.mark.covers("triggers.manual", "triggers.upstream")
def test_a_trigger_is_fired_with_parameters_and_what_follows_runs(installation: Installation, yard: Path) -> None:
    installation.start()
    fired = installation("trigger", "force", "-p", 'WHY=it\'s $HOME; "x"', "-p", "TIMES=3", "--json")
    assert fired.code == 0, fired.err
    build = next(one for one in installation("builds", "--json").json if one["pipeline"] == "build")
    assert '[it\'s $HOME; "x"]' in installation("logs", str(build["id"])).out

    late = monotonic() + PATIENCE_S
    while not [one for one in installation("builds", "--json").json if one["pipeline"] == "docs"]:
        assert monotonic() < late
    refused = installation("trigger", "force", "-p", "TIMES=10", "-p", "X=1")
    assert refused.code == 5
    assert "parameters.WHY: is required" in refused.err
    assert "parameters.TIMES: must be at most 9" in refused.err
    assert "parameters.X: there is no parameter 'X'" in refused.err
    assert installation("trigger", "after").err == "buildyard: a trigger of kind upstream fires by itself\n"
    assert installation("trigger", "nothing").err == "buildyard: trigger nothing not found\n"
    assert installation("trigger", "force", "-p", "WHY").code == 5


@pytest.mark.covers("triggers.manual", "triggers.access", "yard.schema")
def test_strangers_see_the_triggers_of_public_projects_and_fire_none(installation: Installation, yard: Path) -> None:
    assert yard.is_file()
    installation.start()

    def ask(path: str, body: bytes | None = None) -> tuple[int, Any]:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{installation.url}/-/api/v1{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as exc:
            return exc.code, json.load(exc)

    status, seen = ask("/triggers")
    assert (status, [one["name"] for one in seen["triggers"]]) == (200, ["force", "after"])
    assert ask("/triggers/force")[1]["spec"]["parameters"][0]["name"] == "WHY"
    assert ask("/triggers/force/fire", b'{"parameters": {"WHY": "x"}}')[0] == 401
    assert ask("/triggers/force/fire", b"[]")[0] in (400, 401)
    assert ask("/triggers/none")[0] == 404
    assert ask("/yard")[0] == 401
    assert ask("/yard/reload", b"{}")[0] == 401
