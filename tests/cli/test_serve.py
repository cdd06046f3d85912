"""`buildyard serve`: its start, its worker's life, and its end."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from installation import Installation, kill_and_wait, wait_for_end

Write = Callable[[str, str], Path]

TICKS = """
jobs:
  ticks:
    run: |
      echo begun
      while [ ! -e {stop} ]; do sleep 0.05; done
      echo "attempt $BUILDYARD_ATTEMPT" >> {oracle}
"""


def begin_ticks(buildyard: Installation, write: Write, tmp_path: Path) -> str:
    """Start a build that ends when the file `stop` appears; wait until it runs; its id."""
    path = write("ticks.yml", TICKS.format(stop=tmp_path / "stop", oracle=tmp_path / "oracle"))
    build = str(buildyard("run", "-d", str(path), "--json").json["id"])
    following = buildyard.background("logs", "-f", build)
    assert following.stdout is not None
    assert any("begun" in line for line in following.stdout)
    following.kill()
    following.communicate()
    return build


@pytest.mark.covers("settings.admin_password", "repo.run.announces")
def test_the_start_tells_executor_password_and_address_and_keeps_its_data_to_itself(installation: Installation) -> None:
    installation.start()
    said = "\n".join(installation.said)

    assert "executor: process, " in said
    assert "administrator: user admin, password " in said
    assert installation.said[-1] == f"listening on {installation.url}"
    assert stat.S_IMODE((installation.data / "operator.token").stat().st_mode) == 0o600
    assert installation("builds").code == 0


def test_the_data_folder_is_not_for_others(installation: Installation) -> None:
    installation.variables["BUILDYARD_WORKER_SEPARATE_USER"] = "0"
    installation.start()

    assert stat.S_IMODE(installation.data.stat().st_mode) == 0o700


def test_a_second_start_finds_everything_again_and_makes_no_new_password(
    installation: Installation, write: Write
) -> None:
    installation.start()
    build = installation("run", "--json", "-d", str(write("w.yml", "jobs: {a: {run: 'true'}}"))).json["id"]
    assert installation("logs", "-f", str(build)).code == 0
    assert installation.stop() == 0

    installation.start()

    assert installation("show", str(build)).code == 0
    assert not any("password" in line for line in installation.said)


def test_an_idle_server_stops_with_its_worker_and_ends_with_0(installation: Installation, write: Write) -> None:
    installation.start()
    assert installation("run", str(write("w.yml", "jobs: {a: {run: 'true'}}"))).code == 0
    worker = os.pidfd_open(installation.worker_pid())

    assert installation.stop(signal.SIGINT) == 0

    wait_for_end(worker)
    os.close(worker)


def test_a_stop_gives_jobs_some_time_and_then_cancels_them(
    installation: Installation, write: Write, tmp_path: Path
) -> None:
    installation.variables["BUILDYARD_DRAIN_SECONDS"] = "0.5"
    installation.start()
    build = begin_ticks(installation, write, tmp_path)

    assert installation.stop() == 0

    assert not (tmp_path / "oracle").exists()
    installation.variables["BUILDYARD_WORKERS"] = "0"
    installation.start()
    [attempt] = installation("show", build, "--json").json["jobs"][0]["attempts"]
    assert attempt["phase"] == "finished"


def test_a_job_that_ends_in_time_is_not_cancelled_by_a_stop(
    installation: Installation, write: Write, tmp_path: Path
) -> None:
    installation.variables["BUILDYARD_DRAIN_SECONDS"] = "60"
    installation.start()
    build = begin_ticks(installation, write, tmp_path)
    installation.signal(signal.SIGTERM)

    (tmp_path / "stop").touch()

    assert installation.wait() == 0
    installation.start()
    assert installation("show", build, "--json").json["build"]["result"] == "success"


def test_a_second_signal_stops_without_waiting(installation: Installation, write: Write, tmp_path: Path) -> None:
    installation.variables["BUILDYARD_DRAIN_SECONDS"] = "1000"
    installation.start()
    begin_ticks(installation, write, tmp_path)
    assert installation.process is not None
    assert installation.process.stdout is not None
    installation.process.send_signal(signal.SIGTERM)
    assert any("stopping" in line for line in installation.process.stdout)

    assert installation.stop() == 0


@pytest.mark.covers("worker.embedded")
def test_the_worker_and_its_job_outlive_the_server_and_are_found_again(
    installation: Installation, write: Write, tmp_path: Path
) -> None:
    installation.start()
    build = begin_ticks(installation, write, tmp_path)
    worker = installation.worker_pid()
    installation.stop(signal.SIGKILL)

    installation.start()
    (tmp_path / "stop").touch()

    assert installation("logs", "-f", build).code == 0
    assert installation.worker_pid() == worker
    assert (tmp_path / "oracle").read_text() == "attempt 1\n"
    assert installation.stop() == 0


def test_a_worker_that_dies_is_started_again_and_its_job_is_tried_once_more(
    installation: Installation, write: Write, tmp_path: Path
) -> None:
    installation.start()
    build = begin_ticks(installation, write, tmp_path)

    kill_and_wait(installation.worker_pid())
    (tmp_path / "stop").touch()

    assert installation("logs", "-f", build).code == 0
    attempts = installation("show", build, "--json").json["jobs"][0]["attempts"]
    assert [(attempt["lost"], attempt["result"]) for attempt in attempts] == [(True, None), (False, "success")]
    assert (tmp_path / "oracle").read_text() == "attempt 2\n"


def test_two_servers_do_not_share_a_data_folder(installation: Installation) -> None:
    installation.start()

    outcome = installation("serve")

    assert outcome.code == 2
    assert "is in use by another server, process" in outcome.err


def test_a_port_that_is_taken_is_named(installation: Installation, tmp_path: Path) -> None:
    installation.start()

    outcome = installation(
        "serve", BUILDYARD_DATA=str(tmp_path / "other"), BUILDYARD_PORT=installation.url.rpartition(":")[2]
    )

    assert outcome.code == 2
    assert "cannot listen on 127.0.0.1:" in outcome.err


def test_without_slots_no_worker_is_started(installation: Installation) -> None:
    installation.variables["BUILDYARD_WORKERS"] = "0"
    installation.start()

    assert any("executor: none here" in line for line in installation.said)
    assert not (installation.data / "worker" / "worker.lock").exists()


def test_a_variable_that_names_no_setting_is_told(installation: Installation) -> None:
    installation.variables["BUILDYARD_PROT"] = "1"
    installation.start()

    assert "warning: the variable BUILDYARD_PROT names no setting" in installation.said


@pytest.mark.covers("cli.worker", "worker.remote")
def test_a_worker_can_be_started_by_hand_with_a_token(installation: Installation, write: Write) -> None:
    installation.variables["BUILDYARD_WORKERS"] = "0"
    installation.start()
    token = installation("token", "create", "--scope", "runner", "--json").json["token"]
    secret = write("token", token)
    worker = installation.background(
        "worker", "--server", installation.url, "--token-file", str(secret), "--slots", "1", "--name", "mine"
    )
    try:
        assert installation("run", str(write("w.yml", "jobs: {a: {run: 'true'}}"))).code == 0
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_a_folder_can_be_built_right_after_the_start(installation: Installation, write: Write, tmp_path: Path) -> None:
    write("project/buildyard.yml", "jobs: {t: {matrix: {v: [x]}, run: 'echo value $v'}}")
    installation.start("--run", str(tmp_path / "project"), "--matrix", "v=1")
    assert installation.process is not None
    assert installation.process.stdout is not None

    told = []
    for line in installation.process.stdout:
        told.append(line)
        if "still serving" in line:
            break

    assert "t (1) | value 1\n" in told
    assert "the build succeeded\n" in told
    assert installation.stop() == 0
