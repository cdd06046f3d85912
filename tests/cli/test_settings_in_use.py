"""The settings that outsiders rely on, each in use: what it changes can be seen from outside."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from installation import Installation, end

PASSWORD = "correct horse battery"


def repository(folder: Path) -> str:
    """The address of a local git repository with one file."""
    folder.mkdir()
    (folder / "file").write_text("from the repository\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    folder.chmod(0o755)
    return f"file://{folder}"


@pytest.mark.covers("settings.variables", "settings.admin_password")
def test_host_port_database_password_workers_and_executor_are_what_the_variables_say(tmp_path: Path) -> None:
    database = tmp_path / "elsewhere.sqlite"
    free = Installation(tmp_path / "first")
    free.start()
    port = free.url.rpartition(":")[2]
    end(free)
    made = Installation(
        tmp_path / "second",
        {
            "BUILDYARD_HOST": "127.0.0.2",
            "BUILDYARD_PORT": port,
            "BUILDYARD_DATABASE_URL": f"sqlite:///{database}",
            "BUILDYARD_ADMIN_PASSWORD": PASSWORD,
            "BUILDYARD_WORKERS": "3",
            "BUILDYARD_EXECUTOR": "dummy",
        },
    )
    try:
        made.start()

        assert made.url == f"http://127.0.0.2:{port}"
        assert not any("password" in line for line in made.said)
        assert any(line.startswith("executor: dummy, 3 at a time") for line in made.said)
        assert (made.data / "operator.token").exists()
        elsewhere = {"BUILDYARD_DATA": str(tmp_path / "third")}
        for password, code in ((PASSWORD, 0), ("wrong", 4)):
            assert made("user", "list", **{**elsewhere, "BUILDYARD_ADMIN_PASSWORD": password}).code == code
        workflow = tmp_path / "w.yml"
        workflow.write_text("jobs: {a: {run: 'print played', executor: dummy}}")
        assert "a | played" in made("run", str(workflow), "--logs", "all").out
    finally:
        end(made)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM builds").fetchone() == (1,)
    connection.close()


@pytest.mark.covers("settings.variables", "workspace.local_sources")
def test_local_sources_are_refused_by_the_name_of_the_variable_that_allows_them(
    installation: Installation, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    workflow = tmp_path / "w.yml"
    address = repository(tmp_path / "repository")
    workflow.write_text(f"source: {{git: '{address}'}}\njobs: {{a: {{run: cat file}}}}")
    installation.variables["BUILDYARD_WORKER_SEPARATE_USER"] = "0"
    installation.start()
    refused = installation("run", str(workflow))
    installation.stop()

    installation.variables["BUILDYARD_ALLOW_LOCAL_SOURCES"] = "1"
    installation.start()
    allowed = installation("run", str(workflow), "--logs", "all")

    assert refused.code == 5
    assert "BUILDYARD_ALLOW_LOCAL_SOURCES" in refused.err
    assert allowed.code == 0, allowed
    assert "a | from the repository" in allowed.out


@pytest.mark.covers("settings.variables")
def test_the_command_line_talks_to_the_server_that_the_variable_names(buildyard: Installation, tmp_path: Path) -> None:
    environment = buildyard.environment()
    argv = [sys.executable, "-m", "buildyard.cli", "builds"]

    codes = [
        subprocess.run(argv, env={**environment, "BUILDYARD_URL": url}, capture_output=True, check=False).returncode
        for url in (buildyard.url, "http://127.0.0.1:9")
    ]

    assert codes == [0, 3]


@pytest.mark.covers("executors.choice", "cli.doctor")
def test_the_strongest_executor_that_works_is_chosen_and_the_server_says_why(installation: Installation) -> None:
    findings = installation("doctor", "--json").json["findings"]
    works = [one for one in findings if one["what"].startswith("executor ") and one["state"] != "missing"]
    installation.variables["BUILDYARD_EXECUTOR"] = "auto"

    installation.start()

    strongest = works[0]["what"].removeprefix("executor ")
    (said,) = [line for line in installation.said if line.startswith("executor: ")]
    assert [one["what"] for one in findings if one["what"].startswith("executor ")] == [
        "executor sandbox",
        "executor process",
        "executor container",
    ]
    assert said.startswith(f"executor: {strongest}, ")
    assert "the strongest that works here; " in said
    assert works[0]["found"].partition("; ")[0] in said


@pytest.mark.covers("executors.choice")
def test_where_the_strongest_does_not_work_the_next_is_taken_and_what_is_missing_is_told(
    installation: Installation, tmp_path: Path
) -> None:
    """A broken bubblewrap, found before any other, is what a kernel without namespaces looks like."""
    broken = tmp_path / "bin" / "bwrap"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no namespaces here >&2\nexit 1\n")
    broken.chmod(0o755)
    installation.variables["BUILDYARD_WORKER_SEARCH_PATH"] = f"{broken.parent}:{os.environ['PATH']}"
    installation.variables["BUILDYARD_EXECUTOR"] = "sandbox"
    refused = installation("serve")

    installation.variables["BUILDYARD_EXECUTOR"] = "auto"
    installation.start()

    assert refused.code == 2
    assert "the executor sandbox (BUILDYARD_EXECUTOR) does not work here: " in refused.err
    assert any(line.startswith("executor: process, ") for line in installation.said)
    assert any(line.startswith("  would be better with: bubblewrap") for line in installation.said)
