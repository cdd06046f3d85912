"""The live screen, and who did what."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from cli.terminal import Terminal
from installation import Installation, end

Write = Callable[[str, str], Path]
GATED = """
name: gated
jobs:
  a: {{run: 'echo begun; until [ -e {gate} ]; do sleep 0.05; done'}}
  b: {{run: 'true', labels: [gpu]}}
"""


@pytest.fixture(scope="module")
def buildyard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running server with one worker."""
    made = Installation(
        tmp_path_factory.mktemp("shared") / "data",
        {"BUILDYARD_WORKER_NAME": "w1", "BUILDYARD_WORKERS": "2", "BUILDYARD_WORKER_SEPARATE_USER": "0"},
    )
    made.start()
    yield made
    end(made)


@pytest.fixture
def running(buildyard: Installation, write: Write, tmp_path: Path) -> Iterator[str]:
    """A build of which one job runs and one waits for ever."""
    gate = tmp_path / "gate"
    made = str(buildyard("run", "-d", str(write("w.yml", GATED.format(gate=gate))), "--json").json["id"])
    give_up = time.monotonic() + 60
    while not buildyard("top", "--json").json["running"]:
        assert time.monotonic() < give_up
    yield made
    gate.touch()
    buildyard("cancel", made)


@pytest.mark.covers("cli.top")
def test_without_a_terminal_it_is_told_once(buildyard: Installation, running: str) -> None:
    outcome = buildyard("top")

    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    assert re.search(r"1 running +1 queued +1 of 1 workers, 1 of 2 slots taken", outcome.out)
    assert re.search(rf"{running} +gated/\S+ #\d+ +a +run +w1 +[\d.]+ s +0/2", outcome.out)
    assert re.search(r"1 +gated/\S+ +a worker with label gpu: none that is known has all of it", outcome.out)
    assert re.search(r"w1 +busy +1/2 +process", outcome.out)


@pytest.mark.covers("cli.top")
def test_programs_are_told_it_as_json(buildyard: Installation, running: str) -> None:
    told = buildyard("top", "--json").json

    assert (told["running_total"], told["queued_total"]) == (1, 1)
    assert told["running"][0]["build"] == int(running)
    assert told["queued"][0]["labels"] == ["gpu"]
    assert [worker["name"] for worker in told["workers"]] == ["w1"]


@pytest.mark.covers("cli.top")
@pytest.mark.parametrize("leave", ["q", "ctrl-c"])
def test_on_a_terminal_it_is_drawn_again_until_q_or_ctrl_c(buildyard: Installation, running: str, leave: str) -> None:
    with Terminal(buildyard, "top", "--interval", "0.5") as screen:
        screen.shows("gated/")
        screen.shows("1 running")
        buildyard("cancel", running)
        screen.shows("0 running")
        screen.send(b"q" if leave == "q" else b"\x03")
        code = screen.ended()

    assert code == (0 if leave == "q" else 130)
    assert "\x1b[?1049l" in screen.written, "the terminal is as it was"


@pytest.mark.covers("cli.top")
def test_the_screen_survives_a_server_that_is_away(tmp_path: Path) -> None:
    made = Installation(tmp_path / "data", {"BUILDYARD_WORKERS": "0"})
    made.start()
    try:
        with Terminal(made, "top", "--interval", "0.5") as screen:
            screen.shows("0 running")
            port = made.url.rpartition(":")[2]
            made.stop()
            screen.shows("trying again")
            made.variables["BUILDYARD_PORT"] = port
            made.start()
            screen.forget()
            screen.shows("0 running")
            screen.send(b"q")
            assert screen.ended() == 0
    finally:
        end(made)


@pytest.mark.covers("cli.audit")
def test_acts_are_shown_newest_first_by_filters_and_in_pages(buildyard: Installation) -> None:
    for name in ("ann", "ben", "cat"):
        buildyard("user", "create", name, "--password-stdin", stdin="correct horse")

    made = buildyard("audit", "--action", "user.create", "--json").json
    assert [act["resource"] for act in made][:3] == ["cat", "ben", "ann"]
    first = buildyard("audit", "--limit", "2", "--action", "user.create")
    assert re.search(r"user\.create +cat", first.out)
    match = re.search(r"--before (\d+)", first.err)
    assert match is not None
    second = buildyard("audit", "--limit", "1", "--action", "user.create", "--before", match[1], "--json").json
    assert [act["resource"] for act in second] == ["ann"]
    assert buildyard("audit", "--project", "nonesuch").code == 5
    assert buildyard("audit", "--action", "user.undo").code == 5
    assert {act["actor"] for act in buildyard("audit", "--user", "admin", "--json").json} <= {"admin"}


def line_with(words: str, lines: IO[str]) -> str:
    """The next line with these words."""
    return next(line for line in lines if words in line)


@pytest.mark.covers("cli.audit")
def test_following_tells_acts_as_they_are_done_once_each(buildyard: Installation) -> None:
    following = buildyard.background("audit", "-f", "--limit", "1", "--json")
    assert following.stdout is not None
    line_with("{", following.stdout)

    for name in ("dan", "eva"):
        buildyard("user", "create", name, "--password-stdin", stdin="correct horse")
    told = [json.loads(line_with("user.create", following.stdout))["resource"] for _ in range(2)]
    buildyard("worker", "pause", "w1", "--reason", "why not")
    last = json.loads(line_with("worker.", following.stdout))
    buildyard("worker", "resume", "w1")
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=60)

    assert told == ["dan", "eva"]
    assert (last["action"], last["resource"], last["reason"]) == ("worker.pause", "w1", "why not")
    assert following.returncode == 130
