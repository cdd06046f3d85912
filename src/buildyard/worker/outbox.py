"""Sends what attempts have to tell: one call at a time, with items of all attempts, until the server has taken them.

An attempt's end leaves at once when nothing was sent lately, other news a moment later; while a call is under way, what
comes in gathers for the next. So an idle worker tells within a round trip, and a busy one needs few calls.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from buildyard.client.worker import WorkerClient
from buildyard.domain.errors import Conflict, Incompatible, Invalid, LimitReached, NotFound, TooLarge, Unavailable
from buildyard.protocol import Ack, Answer, Item, Report
from buildyard.worker.backoff import Backoff
from buildyard.worker.reel import Reel, output_size

log = structlog.get_logger()

ITEMS = 256
BYTES = 1024 * 1024
GAP_S = 0.004
"""The least time between the starts of two calls."""

OUTPUT_GAP_S = 0.05
"""The same if there is nothing but more output to tell."""

GATHER_S = 0.008
"""News that is not urgent waits so long for more, so that a short attempt is told of in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who hears what became of items: taken, refused (and why), or of an attempt that is not this worker's any more."""

    taken: Callable[[int, Item], None]
    refused: Callable[[int, Item, str], None]
    stale: Callable[[int], None]
    unknown: Callable[[], None]
    """The server does not know the session."""


class Outbox:
    """The reels of all held attempts and the loop that empties them, in order per attempt, fairly among them."""

    def __init__(self, client: WorkerClient, session: str, listener: Listener) -> None:
        self._client = client
        self._session = session
        self._listener = listener
        self._reels: dict[int, Reel] = {}
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._emptied = asyncio.Event()
        self._sent_at = 0.0
        self._items = ITEMS

    def add(self, reel: Reel) -> None:
        """Send what this reel has to tell, from now on."""
        self._reels[reel.attempt] = reel

    def remove(self, attempt: int) -> None:
        """Forget an attempt and what it had to tell."""
        if reel := self._reels.pop(attempt, None):
            reel.close()
        if self.is_empty:
            self._emptied.set()

    def wake(self, urgent: bool) -> None:
        """There is something to tell; `urgent` if it should not wait for more."""
        self._emptied.clear()
        self._news.set()
        if urgent:
            self._urgent.set()

    @property
    def is_empty(self) -> bool:
        """Whether all has been told and taken."""
        return all(reel.is_empty for reel in self._reels.values())

    async def flushed(self) -> None:
        """Wait until all has been told and taken."""
        while not self.is_empty:
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> None:
        """Send for ever. Raises Unauthenticated and Forbidden; everything else is tried again."""
        backoff = Backoff()
        while True:
            await self._pace()
            if not (batch := self._batch()):
                self._emptied.set()
                continue
            if await self._send(batch):
                backoff.reset()
            else:
                await backoff.wait()

    async def _pace(self) -> None:
        """Wait for something to tell, and for the next call's turn."""
        await self._news.wait()
        if not self._urgent.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(max(GATHER_S, self._sent_at + self._gap_s() - time.monotonic())):
                    await self._urgent.wait()
        await asyncio.sleep(max(0.0, self._sent_at + GAP_S - time.monotonic()))
        self._sent_at = time.monotonic()
        self._news.clear()
        self._urgent.clear()

    def _batch(self) -> list[tuple[Reel, Item]]:
        """What to send now. Each attempt gets its share of the bytes; who was served goes to the end of the line."""
        batch: list[tuple[Reel, Item]] = []
        telling = [reel for reel in self._reels.values() if not reel.is_empty]
        left = BYTES
        for position, reel in enumerate(telling):
            items = reel.head(self._items - len(batch), left // (len(telling) - position))
            left -= sum(output_size(item) for item in items)
            batch += [(reel, item) for item in items]
            self._reels[reel.attempt] = self._reels.pop(reel.attempt)
        return batch

    async def _send(self, batch: list[tuple[Reel, Item]]) -> bool:
        """One call; whether the server took all of it, for good or ill."""
        try:
            reported = await self._client.report(Report(session=self._session, items=[item for _, item in batch]))
        except (Unavailable, LimitReached) as exc:
            log.warning("report_failed", error=str(exc))
            self.wake(True)
            return False
        except (NotFound, Conflict, Incompatible) as exc:
            log.warning("session_unknown", error=str(exc))
            self._listener.unknown()
            self.wake(True)
            return False
        except (Invalid, TooLarge) as exc:
            return self._narrow(batch, str(exc))
        self._items = ITEMS
        complete = self._settle(batch, reported.acks)
        if not self.is_empty:
            self.wake(not complete or any(reel.has_end for reel in self._reels.values()))
        else:
            self._emptied.set()
        return complete

    def _narrow(self, batch: list[tuple[Reel, Item]], detail: str) -> bool:
        """A whole call was refused: send items one by one, to find the one at fault."""
        self.wake(True)
        if len(batch) > 1:
            self._items = 1
        else:
            self._items = ITEMS
            self._settle(batch, [Ack(answer=Answer.REFUSED, detail=detail)])
        return True

    def _settle(self, batch: list[tuple[Reel, Item]], acks: list[Ack]) -> bool:
        """Take the server's answers to heart; whether none asks to try again."""
        held_up: set[int] = set()
        for (reel, item), ack in zip(batch, acks, strict=False):
            if reel.attempt not in held_up and self._reels.get(reel.attempt) is reel:
                self._take(reel, item, ack, held_up)
        return not held_up and len(acks) >= len(batch)

    def _take(self, reel: Reel, item: Item, ack: Ack, held_up: set[int]) -> None:
        match ack.answer:
            case Answer.DONE:
                reel.told()
                self._listener.taken(reel.attempt, item)
            case Answer.RETRY:
                held_up.add(reel.attempt)
            case Answer.STALE:
                self._listener.stale(reel.attempt)
            case Answer.REFUSED:
                log.error("report_refused", attempt=reel.attempt, kind=type(item).__name__, detail=ack.detail)
                reel.told()
                self._listener.refused(reel.attempt, item, ack.detail)

    def _gap_s(self) -> float:
        return GAP_S if self._has_more_than_output() else OUTPUT_GAP_S

    def _has_more_than_output(self) -> bool:
        return any(reel.has_items for reel in self._reels.values())
