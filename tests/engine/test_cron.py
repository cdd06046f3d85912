"""When cron lines are due: time zones, clocks that change, moments missed."""

from datetime import UTC, datetime
from itertools import islice

import pytest

from buildyard.domain.ids import SECOND, Moment, iso
from buildyard.domain.triggers import Cron, Missed
from buildyard.engine.cron import due_after, passed_moments

pytestmark = pytest.mark.covers("triggers.cron.times")


def at(text: str) -> Moment:
    return Moment(int(datetime.fromisoformat(f"{text}+00:00").astimezone(UTC).timestamp()) * SECOND)


def times(line: str, zone: str, after: str, count: int) -> list[str]:
    return [iso(moment)[:16] for moment in islice(due_after(line, zone, at(after)), count)]


def test_lines_are_due_in_their_time_zone() -> None:
    assert times("0 3 * * *", "UTC", "2026-01-10T03:00", 2) == ["2026-01-11T03:00", "2026-01-12T03:00"]
    assert times("0 3 * * *", "Asia/Kolkata", "2026-01-10T00:00", 1) == ["2026-01-10T21:30"]
    assert times("0 3 * * *", "Europe/Berlin", "2026-07-10T00:00", 1) == ["2026-07-10T01:00"]


def test_a_time_that_clocks_skip_is_due_right_after_the_gap() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["2026-03-29T01:00", "2026-03-30T00:30"]


def test_a_time_that_clocks_repeat_is_due_once() -> None:
    expected = ["2026-10-25T00:30", "2026-10-26T01:30"]
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == expected
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", 1) == expected[1:]
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:05", 1) == expected[1:]


def test_lines_for_every_hour_go_by_real_time_when_clocks_change() -> None:
    assert times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", 4) == [
        "2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T03:00",
    ]  # fmt: skip


def passed(line: str, missed: Missed, due: str, now: str) -> list[str]:
    return [iso(moment)[:16] for moment in passed_moments(Cron(line=line, missed=missed), at(due), at(now))]


def test_what_was_missed_is_left_out_made_up_for_once_or_for_each_moment() -> None:
    due, now = "2026-01-10T03:00", "2026-01-13T04:00"
    assert passed("0 3 * * *", Missed.SKIP, due, now) == []
    assert passed("0 3 * * *", Missed.ONCE, due, now) == ["2026-01-13T03:00"]
    assert passed("0 3 * * *", Missed.ALL, due, now) == [f"2026-01-{day}T03:00" for day in (10, 11, 12, 13)]
    assert passed("0 3 * * *", Missed.SKIP, due, "2026-01-13T03:00") == ["2026-01-13T03:00"]


def test_a_long_pause_of_a_dense_line_is_made_up_for_in_a_moment_and_within_a_limit() -> None:
    minutes = passed("* * * * *", Missed.ALL, "2016-01-10T03:00", "2026-01-13T04:00")
    assert (len(minutes), minutes[0], minutes[-1]) == (10, "2026-01-13T03:51", "2026-01-13T04:00")
    assert passed("0 0 29 2 *", Missed.ONCE, "2024-02-29T00:00", "2026-01-13T04:00") == ["2024-02-29T00:00"]
