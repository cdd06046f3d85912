"""`buildyard sourcehut submit`, against a server with a worker."""

from collections.abc import Callable
from pathlib import Path

import pytest

from installation import Installation

Write = Callable[[str, str], Path]

GOOD = """
image: debian
tasks:
  - first: echo from the first
  - second: echo from the second
"""
BAD = """
image: debian
tasks:
  - first: echo before; exit 3
  - never: echo not reached
"""
FAULTY = "image: debian\ntasks:\n  - Not Right: x\n"


@pytest.mark.covers("sourcehut.cli")
def test_logs_are_followed_to_the_end_of_the_job(buildyard: Installation, write: Write) -> None:
    path = str(write("good.yml", GOOD))

    outcome = buildyard("sourcehut", "submit", path, "--follow", "--note", "a note", "--tag", "site/main")

    assert outcome.code == 0, outcome
    first, second = outcome.out.index("from the first"), outcome.out.index("from the second")
    assert first < second
    assert "--- setup" in outcome.err
    assert outcome.err.splitlines()[-1].endswith(": success")


@pytest.mark.covers("sourcehut.cli")
def test_several_manifests_are_jobs_of_their_own_and_one_failure_fails(buildyard: Installation, write: Write) -> None:
    good, bad = str(write("good.yml", GOOD)), str(write("bad.yml", BAD))

    outcome = buildyard("sourcehut", "submit", good, bad, "-f", "--json", "-t", "several", "--visibility", "private")

    assert outcome.code == 1, outcome
    assert [job["status"] for job in outcome.json] == ["success", "failed"]
    assert [[task["status"] for task in job["tasks"]] for job in outcome.json][1] == ["failed", "pending"]
    assert {job["tags"] for job in outcome.json} == {"several"}


@pytest.mark.covers("sourcehut.cli")
def test_a_job_may_wait_for_its_start_and_come_from_standard_input(buildyard: Installation) -> None:
    outcome = buildyard("sourcehut", "submit", "-", "--no-execute", "--json", stdin=GOOD)

    (job,) = outcome.json
    assert (outcome.code, job["status"]) == (0, "pending")


@pytest.mark.covers("sourcehut.cli")
def test_what_is_refused_says_which_file_and_why(buildyard: Installation, write: Write) -> None:
    faulty = str(write("faulty.yml", FAULTY))

    refused = buildyard("sourcehut", "submit", faulty)
    tagged = buildyard("sourcehut", "submit", str(write("good.yml", GOOD)), "--tag", "Not Right")
    absent = buildyard("sourcehut", "submit", "no-such-file.yml")
    unknown = buildyard("sourcehut", "submit", faulty, BUILDYARD_TOKEN="nonsense")
    away = buildyard("sourcehut", "submit", faulty, "--server", "http://127.0.0.1:9")

    assert refused.code == 5
    assert "faulty.yml" in refused.err
    assert "Task name 'Not Right' is invalid" in refused.err
    assert (tagged.code, absent.code, unknown.code, away.code) == (5, 5, 4, 3)
    assert "Invalid tag name" in tagged.err
    assert "jobs:write" in unknown.err


@pytest.mark.covers("sourcehut.cli")
def test_a_token_may_be_in_a_file(buildyard: Installation, write: Write) -> None:
    token = buildyard("token", "create", "--scope", "jobs:read", "--scope", "jobs:write", "--json").json["token"]
    file = write("token", f"{token}\n")

    outcome = buildyard(
        "sourcehut", "submit", str(write("good.yml", GOOD)), "--server", buildyard.url, "--token-file", str(file), "-f"
    )

    assert outcome.code == 0, outcome
