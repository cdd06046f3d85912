"""When cron lines are due: five fields in a time zone, as Debian's cron counts them where clocks change.

A time that clocks skip fires right after the gap, a time that they repeat fires once; lines whose minute or
hour is a star go by real time.
"""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile

from cronsim import CronSim, CronSimError

from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.triggers import MOST_MISSED, Cron, Missed, Poll, Spec

LATE_S = 60
"""A moment that is older was missed: no server ran then."""


def cron_fault(line: str, timezone: str) -> tuple[str, str]:
    """What is wrong with a line and with a time zone, or nothing."""
    zone = "" if _is_zone(timezone) else f"there is no time zone {timezone!r}"
    fields = line.split()
    if len(fields) != 5:
        return f"must have five fields (minute, hour, day, month, weekday), not {len(fields)}", zone
    try:
        next(CronSim(line, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as exc:
        return f"is not a cron line: {str(exc).lower()}", zone
    except StopIteration:
        return "is never due", zone
    return "", zone


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def due_after(line: str, timezone: str, after: Moment) -> Iterator[Moment]:
    """The moments of a faultless line after a moment, in order."""
    start = datetime.fromtimestamp(after // SECOND, zoneinfo.ZoneInfo(timezone))
    last = after
    for found in CronSim(line, start):
        moment = Moment(int(found.timestamp()) * SECOND)
        if moment > last:  # a time of a repeated hour may be that of its first pass
            last = moment
            yield moment


def passed_moments(spec: Cron, due: Moment, now: Moment) -> list[Moment]:
    """Which moments from `due` to now are to be fired for, in order, as the trigger's rule for missed ones says."""
    most = {Missed.SKIP: 1, Missed.ONCE: 1, Missed.ALL: MOST_MISSED}[spec.missed]
    newest = _newest(spec, due, now, most)
    if spec.missed is Missed.SKIP:
        return [moment for moment in newest if now - moment <= LATE_S * SECOND]
    return newest


def _newest(spec: Cron, due: Moment, now: Moment, most: int) -> list[Moment]:
    """The last moments up to now, none before `due`; looked for in longer and longer spans, as lines can be dense."""
    for hours in (1, 24, 24 * 7, 24 * 31, 24 * 366, 24 * 366 * 100):
        start = max(due - 1, now - hours * 3600 * SECOND)
        found = list(takewhile(lambda moment: moment <= now, due_after(spec.line, spec.timezone, Moment(start))))
        if len(found) >= most or start < due:
            break
    return found[-most:]


def first_due(spec: Spec, now: Moment) -> Moment | None:
    """When a trigger that counts from now on has something to do by the clock, if ever."""
    if isinstance(spec, Cron):
        return next(due_after(spec.line, spec.timezone, now), None)
    return now if isinstance(spec, Poll) else None
