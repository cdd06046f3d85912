"""The server's clock, as well as a worker can know it, so that the times in logs fit those of the server."""

import time

from buildyard.domain.ids import Moment


class Clock:
    """This machine's clock, moved by the offset last learnt from the server."""

    def __init__(self) -> None:
        self._offset = 0

    def now(self) -> Moment:
        """The time in microseconds, by the server's clock."""
        return Moment(time.time_ns() // 1000 + self._offset)

    def learn(self, server: int, sent_at: float, received_at: float) -> None:
        """Take in the server's time from an answer between two readings of `time.time()`; half the way is assumed."""
        self._offset = server - int((sent_at + received_at) / 2 * 1_000_000)
