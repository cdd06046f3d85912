"""The server's clock, as well as a worker can know it, so that the times in logs fit those of the server."""

import time

from buildyard.domain.ids import SECOND, Moment


def ticks() -> float:
    """Seconds that pass evenly, also while the machine sleeps, whatever is done to its clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The server's time as last learnt, moved on by this machine's even seconds.

    This machine's own clock counts only until the server has told its time: it may be wrong, and it may be set.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() // 1000 - int(ticks() * SECOND)
        self._way_s = float("inf")

    def now(self) -> Moment:
        """The time in microseconds, by the server's clock."""
        return Moment(int(ticks() * SECOND) + self._offset)

    def learn(self, server: int, sent_at: float, received_at: float) -> None:
        """Take in the server's time from an answer between two `ticks`; half the way is assumed.

        That can be wrong by half the way at most, so a longer way than before counts only if it proves the old wrong.
        """
        way_s = received_at - sent_at
        offset = server - int((sent_at + received_at) / 2 * SECOND)
        if way_s <= self._way_s or abs(offset - self._offset) > way_s / 2 * SECOND:
            self._offset, self._way_s = offset, way_s
