"""The server is killed again and again while triggers fire: each moment and each end counts once."""

import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep, time

import pytest

from installation import PATIENCE_S, Installation, end

YARD = """\
projects:
  p:
    pipelines:
      first: {jobs: {a: {run: 'true'}}, triggers: [manual: {name: go}]}
      second: {jobs: {b: {run: 'true'}}, triggers: [upstream: {pipeline: first}]}
      minutes: {jobs: {c: {run: 'true'}}, triggers: [cron: {line: '* * * * *', missed: all, name: clock}]}
"""
MINUTE = 60_000_000
FIRED = """
    SELECT e.due_at, count(b.id) FROM evaluations e JOIN builds b ON b.evaluation = e.id
    JOIN triggers t ON t.id = e.trigger WHERE t.name = 'clock' GROUP BY e.id ORDER BY e.due_at
"""
FOLLOWED = """
    SELECT e.parent_build FROM evaluations e JOIN builds b ON b.evaluation = e.id
    JOIN pipelines p ON p.id = b.pipeline WHERE p.slug = 'second' ORDER BY e.parent_build
"""
FIRSTS = """
    SELECT b.id FROM builds b JOIN pipelines p ON p.id = b.pipeline WHERE p.slug = 'first' ORDER BY b.id
"""
LEFT = "SELECT count(*) FROM builds WHERE phase < 4 UNION ALL SELECT count(*) FROM ended_upstreams"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    (tmp_path / "yard.yml").write_text(YARD)
    made = Installation(tmp_path / "data", {"BUILDYARD_YARD": str(tmp_path / "yard.yml")})
    yield made
    end(made)


def ask(installation: Installation, question: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(installation.data / "buildyard.sqlite")) as database:
        return database.execute(question).fetchall()


def make_due(installation: Installation, minutes: int) -> int:
    """Let the clock's next moment be so many minutes ago, as if no server had run since; that moment."""
    due = (int(time()) // 60 - minutes) * MINUTE
    with closing(sqlite3.connect(installation.data / "buildyard.sqlite")) as database:
        database.execute("UPDATE trigger_states SET next_at = ? WHERE kind = 'cron'", (due,))
        database.commit()
    return due


@pytest.mark.covers("triggers.cron", "triggers.upstream")
def test_nothing_is_fired_twice_or_forgotten(installation: Installation) -> None:
    chance = random.Random(3)
    installation.start()
    installation.signal(signal.SIGKILL)
    installation.wait()
    due = make_due(installation, 5)
    for _ in range(4):
        installation.start()
        for _ in range(2):
            assert installation("trigger", "go", "-d").code == 0
        sleep(chance.random() / 2)
        installation.signal(signal.SIGKILL)
        installation.wait()
    installation.start()
    late = monotonic() + PATIENCE_S
    while any(count for (count,) in ask(installation, LEFT)):
        assert monotonic() < late, ask(installation, LEFT)
        sleep(0.1)

    fired = ask(installation, FIRED)
    assert [moment for moment, _ in fired] == [due + n * MINUTE for n in range(len(fired))]
    assert len(fired) >= 6
    assert {builds for _, builds in fired} == {1}
    firsts = ask(installation, FIRSTS)
    assert len(firsts) == 8
    assert ask(installation, FOLLOWED) == firsts
