"""`buildyard queue` and `buildyard approve`, against a server with a worker."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from installation import Installation

Write = Callable[[str, str], Path]

WORKFLOW = """
jobs:
  deploy: {run: "true", approval: {users: [admin], expires: 24h, message: "Ready?"}}
  after: {run: "true", needs: [deploy]}
"""


@pytest.mark.covers("blockers.queue", "blockers.approve")
def test_what_waits_is_shown_and_runs_once_it_is_approved(buildyard: Installation, write: Write) -> None:
    path = str(write("w.yml", WORKFLOW))
    build = str(buildyard("run", path, "--project", "ok", "--detach", "--json").json["id"])

    queue = buildyard("queue", "--project", "ok")
    shown = buildyard("show", build)
    given = buildyard("approve", build, "deploy", "--reason", "looks good")
    followed = buildyard("logs", build, "--follow")

    assert "waits for an approval by admin until" in queue.out
    assert "Ready?" in shown.out
    assert given.out == f"approved job deploy of build {build}\n"
    assert followed.code == 0, followed
    assert buildyard("queue", "--project", "ok").out == "nothing runs or waits\n"
    assert buildyard("approve", build).code == 5


@pytest.mark.covers("blockers.approve")
def test_a_rejection_says_who_and_why(buildyard: Installation, write: Write) -> None:
    path = str(write("w.yml", WORKFLOW))
    build = str(buildyard("run", path, "--project", "no", "--detach", "--json").json["id"])

    answered = buildyard("approve", build, "--reject", "--reason", "not today", "--json")
    shown = buildyard("show", build)

    assert json.loads(answered.out)["jobs"] == ["deploy"]
    assert shown.code == 1
    assert "rejected by admin: not today" in shown.out


@pytest.mark.covers("blockers.schedule")
def test_a_delayed_build_begins_by_itself(buildyard: Installation, write: Write) -> None:
    path = str(write("w.yml", "jobs: {a: {run: 'true'}}"))

    outcome = buildyard("run", path, "--project", "later", "--delay", "1s")
    both = buildyard("run", path, "--at", "2100-01-01", "--delay", "1s")
    wrong = buildyard("run", path, "--at", "soon")

    assert outcome.code == 0, outcome
    assert (both.code, wrong.code) == (5, 5)
    assert "--at takes a time like" in wrong.err
