"""`buildyard retention`, `keep` and `gc` against a running server."""

import json
from pathlib import Path

import pytest

from cli.conftest import Write
from installation import Installation

WORKFLOW = """
name: {name}
jobs:
  make: {{run: "echo {name} > out; echo said", outputs: [out]}}
"""


@pytest.fixture
def impatient(installation: Installation) -> Installation:
    """A server that spares nothing for being new."""
    (installation.data).mkdir(mode=0o700, exist_ok=True)
    (installation.data / "buildyard.toml").write_text("[retention]\ngrace_minutes = 0\nblob_grace_minutes = 0\n")
    installation.start()
    return installation


def built(buildyard: Installation, path: Path) -> str:
    """The id of a build of this file."""
    outcome = buildyard("run", str(path), "--project", "hello", "--json")
    assert outcome.code == 0, outcome
    return str(json.loads(outcome.out.splitlines()[0])["build"]["id"])


@pytest.mark.covers("cli.gc", "cli.retention", "engine.retention")
def test_rules_are_said_shown_and_carried_out_and_what_went_says_so(impatient: Installation, write: Write) -> None:
    buildyard = impatient
    path = write("w.yml", WORKFLOW.format(name="w"))
    old, kept, new = (built(buildyard, path) for _ in range(3))
    rules = {one["what"]: one for one in buildyard("retention", "show", "--project", "hello", "--json").json}
    assert rules["logs"] == {"what": "logs", "holds": {"days": 0, "count": 0, "size": 0},
                             "said": {"days": None, "count": None, "size": None}}  # fmt: skip

    assert buildyard("keep", kept, "--reason", "a release").out == f"build {kept}: kept\n"
    for what in ("logs", "artifacts"):
        assert buildyard("retention", "set", what, "--project", "hello", "--count", "1", "--size", "20GiB").code == 0
    shown = buildyard("retention", "show", "--project", "hello", "--pipeline", "w").out
    assert "20.0 GiB" in shown
    dry = buildyard("gc", "--dry-run")
    assert "would remove: " in dry.out
    assert "1 artifacts" in dry.out
    assert buildyard("artifacts", old, "out", "-o", "-").out == "w\n"

    freed = buildyard("gc", "--json").json
    assert (freed["dry_run"], freed["counts"]["artifacts"]) == (False, 1)
    assert freed["counts"]["logs"] == 2, "setup and one step"
    assert freed["sizes"]["logs"] > 0

    gone = buildyard("artifacts", old, "out", "-o", "-")
    assert (gone.code, "the artifact was deleted by retention on" in gone.err) == (5, True)
    assert "deleted" in buildyard("artifacts", old).out
    log = buildyard("logs", old, "make", "--step", "1")
    assert log.out.startswith("--- the log was deleted by retention on ")
    for build in (kept, new):
        assert buildyard("artifacts", build, "out", "-o", "-").out == "w\n"
        assert "said" in buildyard("logs", build).out
    assert "stay until the mark is taken away" in buildyard("show", kept).out

    assert buildyard("keep", kept, "--undo").code == 0
    assert buildyard("retention", "set", "builds", "--project", "hello", "--count", "1").code == 0
    assert "2 builds" in buildyard("gc").out
    assert [one["id"] for one in buildyard("builds", "--json").json] == [int(new)]
    assert buildyard("show", old).code == 5


@pytest.mark.covers("cli.retention")
def test_wrong_rules_are_refused_with_the_reason(buildyard: Installation, write: Write) -> None:
    built(buildyard, write("v.yml", WORKFLOW.format(name="v")))
    for arguments, reason in (
        (("logs", "--project", "hello", "--days", "soon"), "--days must be a whole number"),
        (("logs", "--project", "hello", "--size", "1 week"), "--size must be a whole number or a size"),
        (("logs", "--project", "hello", "--days", "99999999"), "bounds.days must lie between 0 and"),
        (("logs", "--project", "nope", "--days", "1"), "project nope not found"),
        (("logs", "--project", "hello", "--pipeline", "nope", "--days", "1"), "has no pipeline nope"),
        (("caches", "--project", "hello", "--pipeline", "v", "--days", "1"), "caches belong to a project"),
    ):
        outcome = buildyard("retention", "set", *arguments)
        assert (outcome.code, reason in outcome.err) == (5, True), outcome
    assert buildyard("keep", "999").code == 5
