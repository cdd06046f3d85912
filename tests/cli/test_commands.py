"""The command line against a running server: every command, its JSON, and its exit code."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from installation import Installation

Write = Callable[[str, str], Path]

HELLO = """
name: hello
jobs:
  make:
    steps:
      - {name: say, run: "printf 'one\\\\ntwo'"}
      - {name: keep, run: "mkdir out; echo kept > out/file.txt; chmod 750 out/file.txt"}
    outputs: [out/]
  check: {needs: [make], run: "cat out/file.txt"}
"""
FAILING = """
jobs:
  bad: {run: "echo the reason; exit 3"}
  after: {needs: [bad], run: "true"}
  other: {run: "echo nobody asks"}
"""
ENDLESS = "jobs: {slow: {run: 'echo begun; sleep 1000'}}"


@pytest.fixture(scope="module")
def hello(buildyard: Installation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a build that succeeded."""
    path = tmp_path_factory.mktemp("hello") / "hello.yml"
    path.write_text(HELLO)
    outcome = buildyard("run", str(path), "--json")
    assert outcome.code == 0, outcome
    return str(json.loads(outcome.out.splitlines()[0])["build"]["id"])


@pytest.mark.covers("cli.run.file", "cli.run.tree")
def test_a_workflow_is_built_and_its_jobs_are_told(buildyard: Installation, write: Write) -> None:
    outcome = buildyard("run", str(write("w.yml", HELLO)))

    assert outcome.code == 0
    assert re.search(r"✓ make: success in .* s\n", outcome.out)
    assert re.search(r"✓ build \d+ hello/hello #\d+  success  2/2 jobs", outcome.out)


@pytest.mark.covers("cli.run.file", "cli.run.tree", "cli.exit_codes")
def test_a_failed_build_ends_with_1_and_shows_the_log_of_what_failed(buildyard: Installation, write: Write) -> None:
    outcome = buildyard("run", str(write("w.yml", FAILING)))

    assert outcome.code == 1
    assert "bad | the reason" in outcome.out
    assert "nobody asks" not in outcome.out
    assert "after: dependency_failed" in outcome.out


@pytest.mark.parametrize(("logs", "seen"), [("all", {"the reason", "nobody asks"}), ("none", set())])
def test_the_logs_to_show_can_be_chosen(buildyard: Installation, write: Write, logs: str, seen: set[str]) -> None:
    outcome = buildyard("run", str(write("w.yml", FAILING)), "--logs", logs)

    assert {text for text in ("the reason", "nobody asks") if text in outcome.out} == seen


def test_run_tells_json_lines_with_the_state_of_the_build_and_the_logs(buildyard: Installation, write: Write) -> None:
    outcome = buildyard("run", str(write("w.yml", FAILING)), "--json")
    lines = [json.loads(line) for line in outcome.out.splitlines()]

    assert {line["event"] for line in lines} <= {"build", "log", "note"}
    assert [line for line in lines if line["event"] == "build"][-1]["build"]["result"] == "failure"
    assert {"event": "log", "job": "bad", "line": "the reason"} in lines


def test_every_fault_of_a_workflow_is_told_with_its_place(buildyard: Installation, write: Write) -> None:
    outcome = buildyard("run", str(write("w.yml", "jobs:\n  a: {run: x, needs: [b]}\n  c: {rnu: x}\n")))

    assert outcome.code == 5
    assert "jobs.a.needs[0]: there is no 'b' here (line 2, column 23)" in outcome.err
    assert "jobs.c.rnu: unknown key; did you mean 'run'? (line 3, column 7)" in outcome.err


def test_faults_are_told_as_json_too(buildyard: Installation, write: Write) -> None:
    outcome = buildyard("run", str(write("w.yml", "jobs: {}")), "--json")

    assert outcome.code == 5
    assert json.loads(outcome.err)["faults"][0]["path"] == "jobs"


@pytest.mark.covers("cli.run.folder")
def test_a_folder_goes_along_with_its_uncommitted_changes_but_without_ignored_files(
    buildyard: Installation, write: Write, tmp_path: Path
) -> None:
    write("project/buildyard.yml", "jobs: {list: {run: 'ls; cat committed.txt'}}")
    write("project/.gitignore", "ignored.txt\n")
    committed = write("project/committed.txt", "old\n")
    folder = tmp_path / "project"
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x"], cwd=folder, check=True
    )
    committed.write_text("changed\n")
    write("project/new.txt", "")
    write("project/ignored.txt", "")

    outcome = buildyard("run", ".", "--logs", "all", cwd=folder)

    assert outcome.code == 0, outcome
    assert "list | changed" in outcome.out
    assert "list | new.txt" in outcome.out
    assert "list | ignored.txt" not in outcome.out
    assert "project/main" in outcome.out


def test_a_folder_without_a_workflow_says_what_to_write(buildyard: Installation, tmp_path: Path) -> None:
    outcome = buildyard("run", str(tmp_path))

    assert outcome.code == 5
    assert "write buildyard.yml" in outcome.err


def test_the_axes_of_a_matrix_can_be_given(buildyard: Installation, write: Write) -> None:
    path = write("w.yml", "jobs: {t: {matrix: {v: [x]}, run: 'echo v=$v'}}")

    outcome = buildyard("run", str(path), "--matrix", "v=1,2", "--logs", "all")

    assert "t (1) | v=1" in outcome.out
    assert "t (2) | v=2" in outcome.out


@pytest.mark.covers("cli.builds")
def test_builds_lists_the_newest_first(buildyard: Installation, hello: str) -> None:
    found = buildyard("builds", "--json").json

    assert [build["id"] for build in found] == sorted((build["id"] for build in found), reverse=True)
    assert hello in [str(build["id"]) for build in found]
    assert "hello/hello" in buildyard("builds", "--project", "hello").out


@pytest.mark.covers("cli.builds")
def test_show_gives_the_build_with_all_below_it(buildyard: Installation, hello: str) -> None:
    tree = buildyard("show", hello, "--json").json

    assert [job["name"] for job in tree["jobs"]] == ["make", "check"]
    assert [step["name"] for step in tree["jobs"][0]["attempts"][0]["steps"]] == ["setup", "say", "keep"]
    assert buildyard("show", tree["build"]["uid"]).code == 0


@pytest.mark.covers("cli.logs")
def test_the_log_of_a_step_is_printed_byte_for_byte(buildyard: Installation, hello: str) -> None:
    assert buildyard("logs", hello, "make", "--step", "say").out == "one\ntwo"


def test_the_logs_of_a_build_come_under_headings(buildyard: Installation, hello: str) -> None:
    text = buildyard("logs", hello).out

    assert "── make / say" in text
    assert text.index("make / say") < text.index("check / run") < text.index("kept")


def test_an_unknown_job_or_step_is_named(buildyard: Installation, hello: str) -> None:
    assert "it has make, check" in buildyard("logs", hello, "nope").err
    assert "no step 'nope'" in buildyard("logs", hello, "make", "--step", "nope").err


@pytest.mark.covers("cli.logs", "cli.exit_codes")
def test_following_logs_ends_with_the_build_and_its_result(buildyard: Installation, write: Write) -> None:
    queued = buildyard("run", "-d", str(write("w.yml", FAILING)), "--json").json

    outcome = buildyard("logs", "-f", str(queued["id"]))

    assert outcome.code == 1
    assert "bad | the reason" in outcome.out
    assert "other | nobody asks" in outcome.out


@pytest.mark.covers("cli.artifacts")
def test_artifacts_are_listed_and_fetched(buildyard: Installation, hello: str, tmp_path: Path) -> None:
    found = buildyard("artifacts", hello, "--json").json
    fetched = buildyard("artifacts", hello, "out/file.txt", "-o", str(tmp_path))

    assert [(artifact["job"], artifact["path"], artifact["size"]) for artifact in found] == [
        ("make", "out/file.txt", 5)
    ]
    assert fetched.code == 0
    assert (tmp_path / "file.txt").read_text() == "kept\n"
    assert (tmp_path / "file.txt").stat().st_mode & 0o700 == 0o700
    assert buildyard("artifacts", hello, "out/file.txt", "-o", "-").out == "kept\n"
    assert buildyard("artifacts", hello, "nope", "-o", "-").code == 5


@pytest.mark.covers("cli.cancel")
def test_a_running_build_is_cancelled(buildyard: Installation, write: Write) -> None:
    queued = buildyard("run", "-d", str(write("w.yml", ENDLESS)), "--json").json
    following = buildyard.background("logs", "-f", str(queued["id"]))
    assert following.stdout is not None
    assert any("begun" in line for line in following.stdout)

    cancelled = buildyard("cancel", str(queued["id"]), "--reason", "enough")
    rest, _ = following.communicate(timeout=60)

    assert cancelled.code == 0
    assert following.returncode == 1, rest
    assert buildyard("show", str(queued["id"]), "--json").json["build"]["result"] == "cancelled"


@pytest.mark.covers("cli.retry")
def test_retry_builds_the_same_again_as_a_new_build(buildyard: Installation, hello: str) -> None:
    outcome = buildyard("retry", hello, "--follow")

    assert outcome.code == 0
    assert f"build {hello} " not in outcome.out
    assert "✓ check: success" in outcome.out


def test_ctrl_c_cancels_the_build_and_waits_for_that(buildyard: Installation, write: Write) -> None:
    running = buildyard.background("run", str(write("w.yml", ENDLESS)), "--logs", "all")
    assert running.stdout is not None
    assert any("begun" in line for line in running.stdout)

    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=60)

    assert running.returncode == 1
    assert "cancelling build" in rest
    assert "cancelled" in rest.splitlines()[-1]


@pytest.mark.covers("cli.exit_codes")
def test_ctrl_c_while_only_following_leaves_the_build_alone(buildyard: Installation, write: Write) -> None:
    queued = buildyard("run", "-d", str(write("w.yml", ENDLESS)), "--json").json
    following = buildyard.background("logs", "-f", str(queued["id"]), "slow")
    assert following.stdout is not None
    assert any("begun" in line for line in following.stdout)

    following.send_signal(signal.SIGINT)
    following.communicate(timeout=60)

    assert following.returncode == 130
    assert buildyard("show", str(queued["id"]), "--json").json["build"]["phase"] == "running"
    buildyard("cancel", str(queued["id"]))


@pytest.mark.covers("cli.token", "engine.tokens", "cli.exit_codes")
def test_a_token_is_shown_once_and_works_until_it_is_revoked(buildyard: Installation, hello: str) -> None:
    made = buildyard("token", "create", "--user", "admin", "--scope", "jobs:write", "--name", "ci", "--json").json
    assert {"id", "token", "scopes"} <= made.keys()
    assert made["scopes"] == ["jobs:write"]

    assert buildyard("show", hello, BUILDYARD_TOKEN=made["token"]).code == 0
    assert (
        buildyard("user", "create", "eve", "--password-stdin", stdin="long enough", BUILDYARD_TOKEN=made["token"]).code
        == 4
    )
    assert made["token"] not in buildyard("token", "list", "--json").out
    assert buildyard("token", "revoke", str(made["id"])).code == 0
    assert buildyard("show", hello, BUILDYARD_TOKEN=made["token"]).code == 4


def test_a_token_with_unknown_scopes_is_refused(buildyard: Installation) -> None:
    outcome = buildyard("token", "create", "--scope", "everything")

    assert outcome.code == 5
    assert "unknown scope 'everything'" in outcome.err


@pytest.mark.covers("cli.user")
def test_a_stranger_does_not_see_private_builds(buildyard: Installation, hello: str) -> None:
    assert (
        buildyard("user", "create", "bob", "--password-stdin", "--json", stdin="correct horse").json["username"]
        == "bob"
    )
    token = buildyard("token", "create", "--user", "bob", "--scope", "*", "--json").json["token"]

    assert buildyard("show", hello, BUILDYARD_TOKEN=token).code == 5
    assert buildyard("builds", "--json", BUILDYARD_TOKEN=token).json == []
    assert "bob" in [user["username"] for user in buildyard("user", "list", "--json").json]


@pytest.mark.covers("cli.user")
def test_a_password_can_be_changed_but_must_be_long_enough(buildyard: Installation) -> None:
    buildyard("user", "create", "carol", "--password-stdin", stdin="correct horse")

    assert buildyard("user", "password", "carol", "--password-stdin", stdin="battery staple").code == 0
    assert "at least 8 characters" in buildyard("user", "password", "carol", "--password-stdin", stdin="short").err


def test_without_a_terminal_a_password_is_not_asked_for(buildyard: Installation) -> None:
    assert "--password-stdin" in buildyard("user", "create", "dave").err


def test_without_credentials_one_is_told_how_to_get_some(buildyard: Installation, tmp_path: Path) -> None:
    outcome = buildyard("token", "list", BUILDYARD_DATA=str(tmp_path / "elsewhere"))

    assert outcome.code == 4
    assert "BUILDYARD_TOKEN" in outcome.err


@pytest.mark.covers("settings.admin_password")
def test_the_administrators_password_opens_the_door_too(buildyard: Installation, tmp_path: Path) -> None:
    password = (
        next(line for line in buildyard.said if line.startswith("administrator:")).split("password ")[1].split()[0]
    )
    elsewhere = str(tmp_path / "elsewhere")

    assert buildyard("user", "list", BUILDYARD_DATA=elsewhere, BUILDYARD_ADMIN_PASSWORD=password).code == 0
    assert buildyard("user", "list", BUILDYARD_DATA=elsewhere, BUILDYARD_ADMIN_PASSWORD="wrong password").code == 4


@pytest.mark.covers("cli.exit_codes")
def test_an_unknown_build_ends_with_5(buildyard: Installation) -> None:
    assert buildyard("show", "999999").code == 5
    assert buildyard("show", "nonsense").code == 5


@pytest.mark.covers("cli.doctor")
def test_the_doctor_finds_the_server_and_the_executors(buildyard: Installation) -> None:
    outcome = buildyard("doctor", "--json")
    found = {finding["what"]: finding for finding in outcome.json["findings"]}

    assert outcome.code == 0
    assert found["server"]["state"] == "ok"
    assert found["executor process"]["state"] == "ok"
    assert all(finding["remedy"] for finding in found.values() if finding["state"] != "ok")
