"""What is for eyes and what is for programs: a live tree and colours on a terminal, plain text and JSON elsewhere."""

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from buildyard.cli.app import app
from installation import Installation

Write = Callable[[str, str], Path]

WORKFLOW = """
jobs:
  first: {run: "sleep 1; mkdir out; echo kept > out/file.txt", outputs: [out/]}
  bad: {needs: [first], run: "echo the reason; exit 3"}
  after: {needs: [bad], run: "true"}
"""
PROCESSES = {"serve", "worker"}
"""Commands that last; what they tell as JSON is their log (`server.log_format`)."""


@pytest.fixture(scope="module")
def build(buildyard: Installation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a finished build."""
    path = tmp_path_factory.mktemp("workflow") / "w.yml"
    path.write_text(WORKFLOW)
    return str(json.loads(buildyard("run", str(path), "--json").out.splitlines()[0])["build"]["id"])


def on_a_terminal(buildyard: Installation, *arguments: str) -> tuple[int, str]:
    """Run the command line on a terminal of 24 lines of 100 characters; its exit code and all that was written."""
    argv, environment, _ = buildyard.command(*arguments)
    unset = ("NO_COLOR", "COLUMNS", "LINES", "CI")
    environment = {name: value for name, value in environment.items() if name not in unset}
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        argv, env={**environment, "TERM": "xterm-256color"}, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    written = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    return process.wait(60), written.decode()


def _read(master: int) -> bytes:
    """What comes next; nothing once nobody writes any more, which is an error on Linux."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


@pytest.mark.covers("cli.run.tree", "cli.json")
def test_on_a_terminal_a_tree_of_jobs_with_times_is_drawn_again_and_again(
    buildyard: Installation, write: Write
) -> None:
    code, written = on_a_terminal(buildyard, "run", str(write("w.yml", WORKFLOW)))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)

    assert code == 1
    assert "\x1b[1A" in written, "what was drawn is drawn over"
    assert re.search(r"\x1b\[[0-9;]*m", written), "in colours"
    assert re.search(r"✓ +first +success +\d+\.\d s", plain)
    assert re.search(r"✗ +bad +failure +\d+\.\d s", plain)
    assert re.search(r"· +bad +waiting +after first", plain)
    assert "bad │ the reason" in plain
    assert re.search(r"↯ +after +dependency_failed", plain)
    assert re.search(r"✗ build \d+ run/main #\d+  failure  3/3 jobs", plain)


@pytest.mark.covers("cli.json")
@pytest.mark.parametrize("arguments", [["builds"], ["show", "BUILD"], ["doctor"]], ids=lambda words: words[0])
def test_colours_appear_on_a_terminal_only(buildyard: Installation, build: str, arguments: list[str]) -> None:
    words = [word.replace("BUILD", build) for word in arguments]
    argv, environment, _ = buildyard.command(*words)
    del environment["NO_COLOR"]

    elsewhere = subprocess.run(argv, env=environment, capture_output=True, check=False).stdout

    assert b"\x1b" not in elsewhere
    assert "\x1b[" in on_a_terminal(buildyard, *words)[1]


REFUSED = {"attach", "deliveries show", "trigger", "yard diff", "yard reload", "image load"}
"""Commands whose answer here is an error: there is no build to enter, delivery, trigger, yard file or image."""


def commands(group: typer.Typer, before: str = "") -> set[str]:
    """The names of all commands."""
    own = {
        before + (one.name or one.callback.__name__.removesuffix("_command"))
        for one in group.registered_commands
        if one.callback is not None
    }
    return own.union(
        *(commands(one.typer_instance, f"{one.name} ") for one in group.registered_groups if one.typer_instance)
    )


@pytest.mark.covers("cli.json")
def test_every_command_speaks_json(buildyard: Installation, build: str, write: Write) -> None:
    user = ["--password-stdin"]
    token = buildyard("token", "create", "--scope", "jobs:read", "--json").json["id"]
    queued = str(buildyard("run", "-d", str(write("w.yml", "jobs: {a: {run: 'true'}}")), "--json").json["id"])
    asked = "jobs: {a: {run: 'true', approval: {users: [admin]}}}"
    asking = str(buildyard("run", "-d", str(write("a.yml", asked)), "--json").json["id"])
    yard = str(write("yard.yml", "projects: {yard: {pipelines: {main: {jobs: {a: {run: 'true'}}}}}}"))
    calls: dict[str, list[str]] = {
        "run": ["run", str(write("v.yml", "jobs: {a: {run: 'true'}}")), "--project", "calm", "--pipeline", "main"],
        "builds": ["builds"],
        "show": ["show", build],
        "logs": ["logs", build, "bad", "--step", "run"],
        "artifacts": ["artifacts", build],
        "cancel": ["cancel", queued],
        "retry": ["retry", build],
        "doctor": ["doctor"],
        "token create": ["token", "create", "--scope", "jobs:read"],
        "token list": ["token", "list"],
        "token revoke": ["token", "revoke", str(token)],
        "user create": ["user", "create", "jane", *user],
        "user list": ["user", "list"],
        "user password": ["user", "password", "jane", *user],
        "top": ["top"],
        "audit": ["audit", "--limit", "3"],
        "worker list": ["worker", "list"],
        "worker pause": ["worker", "pause", socket.gethostname()],
        "worker drain": ["worker", "drain", socket.gethostname()],
        "worker resume": ["worker", "resume", socket.gethostname()],
        "worker remove": ["worker", "remove", socket.gethostname(), "--force"],
        "approve": ["approve", asking],
        "queue": ["queue"],
        "keep": ["keep", build],
        "gc": ["gc", "--dry-run"],
        "metrics": ["metrics", "seconds", "--project", "calm", "--pipeline", "main"],
        "retention set": ["retention", "set", "logs", "--project", "calm", "--days", "30"],
        "retention show": ["retention", "show", "--project", "calm"],
        "secret set": ["secret", "set", "PHRASE", "--project", "calm"],
        "secret list": ["secret", "list", "--project", "calm"],
        "secret delete": ["secret", "delete", "PHRASE", "--project", "calm"],
        "secret rotate-key": ["secret", "rotate-key"],
        "notify add": ["notify", "add", "calm", "--webhook", "https://hooks.example.org/"],
        "notify list": ["notify", "list", "calm"],
        "notify remove": ["notify", "remove", "1"],
        "attach": ["attach", "999999"],
        "sourcehut submit": ["sourcehut", "submit", str(write("m.yml", "{image: x, tasks: [{a: 'true'}]}"))],
        "deliveries key": ["deliveries", "key"],
        "deliveries list": ["deliveries", "list"],
        "deliveries resend": ["deliveries", "resend", "--dead"],
        "deliveries show": ["deliveries", "show", "1"],
        "triggers": ["triggers"],
        "trigger": ["trigger", "none"],
        "yard check": ["yard", "check", yard],
        "yard diff": ["yard", "diff"],
        "yard reload": ["yard", "reload"],
        "image load": ["image", "load", str(write("none.tar", ""))],
    }
    assert set(calls) == commands(app) - PROCESSES

    for name, arguments in calls.items():
        outcome = buildyard(*arguments, "--json", stdin="correct horse")
        if name in REFUSED:
            assert set(json.loads(outcome.err)) == {"error", "faults"}, (name, outcome)
            continue
        assert outcome.code in (0, 1), (name, outcome)
        documents = outcome.out.splitlines() if name == "run" else [outcome.out]
        assert all(isinstance(json.loads(document), dict | list) for document in documents if document), name
        assert outcome.out or name in ("token revoke", "user password"), name


@pytest.mark.covers("cli.json", "cli.exit_codes")
def test_errors_are_json_too(buildyard: Installation) -> None:
    outcome = buildyard("show", "999999", "--json")

    assert (outcome.code, outcome.out) == (5, "")
    assert json.loads(outcome.err) == {"error": "build not found", "faults": []}


@pytest.mark.covers("cli.exit_codes")
def test_the_page_of_the_command_line_tells_every_exit_code() -> None:
    from buildyard.cli.exits import MEANING, ExitCode

    page = (Path(__file__).resolve().parents[2] / "docs/cli.md").read_text()

    assert set(MEANING) == set(ExitCode)
    assert all(f"| {code.value} | {MEANING[code]} |" in page for code in ExitCode)
