"""Waiting between tries: longer each time up to a bound, and never all at the same moment."""

import asyncio
import random


class Backoff:
    """Waits that double from `first` to `most` seconds, each shortened by chance to no less than half."""

    def __init__(self, first: float = 0.1, most: float = 2.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next = self._first

    async def wait(self) -> None:
        """Sleep for the next span."""
        span = self._next
        self._next = min(2 * span, self._most)
        await asyncio.sleep(span * random.uniform(0.5, 1))  # noqa: S311 - spreads load only
