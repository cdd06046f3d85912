"""Slows the guessing of passwords: whoever fails often must wait, longer each time."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from buildyard.domain.errors import LimitReached

FREE_FAILURES = 5
WINDOW_S = 60.0
LONGEST_S = 60
"""Never longer, for also the rightful user waits."""

MOST_KEYS = 10_000
"""How many users and addresses are remembered; those that failed longest ago are forgotten first."""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = -math.inf
    until: float = -math.inf


class Brake:
    """The failures of one server, by key: the name of a user, or an address. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def check(self, *keys: str) -> None:
        """Raise LimitReached if one of the keys must wait still."""
        known = [self._failures[key] for key in keys if key in self._failures]
        left = max((failures.until for failures in known), default=-math.inf) - self._clock()
        if left > 0:
            seconds = math.ceil(left)
            raise LimitReached(f"too many failed sign-ins: try again in {seconds} s", retry_after=seconds)

    def fail(self, *keys: str) -> None:
        """Note a failure. The fifth within a minute costs a wait of one second, each further one twice the last."""
        now = self._clock()
        for key in keys:
            failures = self._failures.pop(key, None) or _Failures()
            if max(failures.last, failures.until) + WINDOW_S < now:
                failures = _Failures()
            failures.count += 1
            failures.last = now
            if failures.count >= FREE_FAILURES:
                failures.until = now + min(2 ** min(failures.count - FREE_FAILURES, 10), LONGEST_S)
            self._failures[key] = failures
        while len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)

    def succeed(self, *keys: str) -> None:
        """Forget failures."""
        for key in keys:
            self._failures.pop(key, None)
