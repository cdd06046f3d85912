"""Workers from the command line: shown, paused, resumed, drained and removed."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from installation import Installation, end

Write = Callable[[str, str], Path]

SHORT = "jobs: {a: {run: 'true'}}"
GATED = "jobs: {{a: {{run: 'echo begun; until [ -e {gate} ]; do sleep 0.05; done'}}}}"


@pytest.fixture(scope="module")
def buildyard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running server whose worker has a name of its own."""
    made = Installation(
        tmp_path_factory.mktemp("shared") / "data",
        {"BUILDYARD_WORKER_NAME": "w1", "BUILDYARD_WORKER_SEPARATE_USER": "0"},
    )
    made.start()
    yield made
    end(made)


def listed(buildyard: Installation) -> dict[str, Any]:
    """The worker as it is shown."""
    (found,) = buildyard("worker", "list", "--json").json
    return dict(found)


def until(true: Callable[[], bool]) -> None:
    """Look again until it is so."""
    give_up = time.monotonic() + 60
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def detail(buildyard: Installation, build: str) -> str:
    """What the only job of a build waits for."""
    (job,) = buildyard("show", build, "--json").json["jobs"]
    return str(job["detail"])


@pytest.mark.covers("cli.workers", "worker.pause")
def test_a_paused_worker_is_shown_with_the_reason_and_runs_nothing_until_it_is_resumed(
    buildyard: Installation, write: Write
) -> None:
    until(lambda: bool(buildyard("worker", "list", "--json").json))
    assert buildyard("worker", "pause", "w1", "--reason", "new disk").out.startswith("worker w1: paused")

    queued = str(buildyard("run", "-d", str(write("w.yml", SHORT)), "--json").json["id"])

    assert detail(buildyard, queued) == "waits for worker w1 (paused)"
    shown = buildyard("worker", "list").out.splitlines()[-1].split()
    assert shown[:2] == ["w1", "paused"]
    assert shown[-2:] == ["new", "disk"]
    assert buildyard("worker", "resume", "w1").code == 0
    assert buildyard("logs", "-f", queued).code == 0


@pytest.mark.covers("cli.workers", "worker.drained")
def test_a_drained_worker_ends_its_job_leaves_and_waits_for_its_resumption_after_the_restart(
    buildyard: Installation, write: Write, tmp_path: Path
) -> None:
    until(lambda: bool(listed(buildyard)["connected"]))
    pid = buildyard.worker_pid()
    gate = tmp_path / "gate"
    running = str(buildyard("run", "-d", str(write("w.yml", GATED.format(gate=gate))), "--json").json["id"])
    until(lambda: listed(buildyard)["busy"] == 1)

    draining = buildyard.background("worker", "drain", "w1", "--wait", "--reason", "kernel")
    until(lambda: bool(listed(buildyard)["draining"]))
    next_one = str(buildyard("run", "-d", str(write("w.yml", SHORT)), "--json").json["id"])
    assert draining.poll() is None
    gate.touch()
    said, _ = draining.communicate(timeout=60)

    assert draining.returncode == 0, said
    assert "w1 still runs 1 jobs" in said
    assert buildyard("show", running, "--json").json["build"]["result"] == "success"
    until(lambda: buildyard.worker_pid() != pid and bool(listed(buildyard)["connected"]))
    shown = listed(buildyard)
    assert (shown["paused"], shown["draining"], shown["reason"]) == (True, False, "kernel")
    assert buildyard("show", next_one, "--json").json["build"]["phase"] == "queued"
    buildyard("worker", "resume", "w1")
    assert buildyard("logs", "-f", next_one).code == 0


@pytest.mark.covers("cli.workers", "worker.removed")
def test_a_worker_that_is_there_is_removed_by_force_only(buildyard: Installation) -> None:
    until(lambda: bool(buildyard("worker", "list", "--json").json))
    refused = buildyard("worker", "remove", "w1")
    assert (refused.code, "by force" in refused.err) == (5, True)
    assert buildyard("worker", "remove", "nobody").code == 5

    removed = buildyard("worker", "remove", "w1", "--force", "--json")

    assert removed.json == {"name": "w1", "lost": 0}
    until(lambda: bool(buildyard("worker", "list", "--json").json))


@pytest.mark.covers("cli.workers")
def test_who_may_not_manage_the_server_directs_no_worker_and_is_not_told_where_it_is(buildyard: Installation) -> None:
    buildyard("user", "create", "bob", "--password-stdin", stdin="correct horse")
    token = buildyard("token", "create", "--user", "bob", "--scope", "*", "--json").json["token"]

    assert buildyard("worker", "pause", "w1", BUILDYARD_TOKEN=token).code == 4
    (shown,) = buildyard("worker", "list", "--json", BUILDYARD_TOKEN=token).json
    assert (shown["name"], shown["host"], shown["address"]) == ("w1", "", "")


def test_a_worker_without_a_server_is_a_wrong_use(buildyard: Installation) -> None:
    outcome = buildyard("worker")

    assert outcome.code == 2
    assert "--server URL" in outcome.err
