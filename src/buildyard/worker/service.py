"""The loops of a running worker: claims, heartbeats, reports; and what each answer of the server means for attempts.

Away from the server, what runs goes on until the server says that it is no longer this worker's: fencing tokens
keep a late result from counting, and work is not thrown away for a short break. Only a grant that may be as old as
a lease is not begun.
"""

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from traceback import format_exception
from typing import Any

import structlog

from buildyard.domain.errors import Conflict, EngineError, Forbidden, Incompatible, Invalid, NotFound
from buildyard.domain.states import Cause, Result
from buildyard.protocol import (
    HEARTBEAT_SECONDS,
    LEASE_SECONDS,
    VERSION,
    Beat,
    Claim,
    Claimed,
    Finished,
    Heartbeat,
    Hello,
    Item,
    JobGrant,
    TerminalWish,
)
from buildyard.worker.attempt import run_attempt
from buildyard.worker.backoff import Backoff
from buildyard.worker.bench import Bench
from buildyard.worker.clock import Clock, ticks
from buildyard.worker.held import CANCELLED, INTERRUPTED, Ending, HeldAttempt
from buildyard.worker.outbox import Listener, Outbox
from buildyard.worker.reel import Reel
from buildyard.worker.terminals import serve_terminal

log = structlog.get_logger()

BUSY_S = 0.2
"""A worker without a free slot waits so long before it polls for wishes only: short jobs end sooner."""

BUSY_POLL_S = 10.0
PAUSE_S = 0.05
"""After an answer that came at once and brought no job, the next poll waits so long: the server may repeat wishes."""

LEAVE_S = 1.0
REMEMBERED = 10_000
"""How many attempts that are over are remembered, so that none is run again."""


class Worker:
    """One worker between its greeting and its end. Made and run in one event loop."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._clock = Clock()
        listener = Listener(
            taken=self._on_taken, refused=self._on_refused, stale=self._on_stale, unknown=self._on_unknown_session
        )
        self._outbox = Outbox(bench.client, bench.session, listener)
        self._held: dict[int, HeldAttempt] = {}
        self._over: OrderedDict[int, None] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()
        self._lease_s = float(LEASE_SECONDS)
        self._heartbeat_s = float(HEARTBEAT_SECONDS)
        self._greeted = False
        self._known = asyncio.Event()
        self._changed = asyncio.Event()
        self._draining = False
        self._sent_away = False
        self._paused = False
        self._idle = asyncio.Event()
        self._terminals: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until drained. Raises Forbidden (Unauthenticated) or Invalid if the server refuses it."""
        loops = [
            asyncio.ensure_future(loop) for loop in (self._claim_always(), self._beat_always(), self._outbox.run())
        ]
        ended = asyncio.ensure_future(self._drained())
        try:
            done, _ = await asyncio.wait({*loops, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.interrupt()
            if self._running:
                await asyncio.wait(self._running)
            for task in (*loops, ended):
                task.cancel()
            for terminal in self._terminals.values():
                terminal.cancel()
            await asyncio.gather(*loops, ended, *self._terminals.values(), return_exceptions=True)
            await self._bench.rooms.close()
        await self._leave()

    def drain(self) -> None:
        """Take no more jobs; end when those that run have ended, or are killed after the configured time."""
        if not self._draining or self._sent_away:
            log.info("draining", running=len(self._running))
            self._draining, self._sent_away = True, False
            self._tell_change()
            if self._bench.config.drain_s is not None:
                asyncio.get_running_loop().call_later(self._bench.config.drain_s, self.interrupt)

    def interrupt(self) -> None:
        """Drain at once: kill what runs."""
        self.drain()
        for held in list(self._held.values()):
            held.stop(INTERRUPTED)

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining

    async def _drained(self) -> None:
        """Wait until nothing runs any more, then a little for the last reports to be taken."""
        await self._idle.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bench.config.flush_s):
                await self._outbox.flushed()
                return
        log.error("reports_lost", attempts=sorted(self._held))

    async def _leave(self) -> None:
        """Say that this process ends, so that a poll that was cut off is not handed a job."""
        if self._greeted:
            with suppress(EngineError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._bench.client.claim(
                        Claim(session=self._bench.session, free=0, have=list(self._held), wait_s=0.0, leaving=True)
                    )

    # --- claims

    async def _claim_always(self) -> None:
        backoff = Backoff()
        while True:
            try:
                if not self._greeted:
                    await self._greet()
                await self._claim()
                backoff.reset()
            except Forbidden:
                raise
            except Incompatible as exc:
                # it may be replaced; what runs goes on meanwhile, and its reports may be taken
                log.warning("server_of_another_version", error=str(exc), again_s=self._bench.config.incompatible_s)
                self._greeted = False
                await asyncio.sleep(self._bench.config.incompatible_s)
            except EngineError as exc:
                if isinstance(exc, Invalid) and not self._greeted:
                    raise
                log.warning("server_away", error=str(exc))
                self._greeted = False
                await backoff.wait()

    async def _greet(self) -> None:
        config, folder = self._bench.config, self._bench.folder
        sent_at = ticks()
        welcome = await self._bench.client.hello(
            Hello(
                protocol=VERSION,
                name=config.name,
                session=self._bench.session,
                state_id=folder.state_id,
                version=config.version,
                labels=list(config.labels),
                executors=sorted(self._bench.executors),
                system=config.system,
                slots=config.slots,
                host=config.host,
                held=[held.held for held in self._held.values()],
            )
        )
        self._clock.learn(welcome.now, sent_at, ticks())
        self._lease_s, self._heartbeat_s = welcome.lease_s, welcome.heartbeat_s
        self._greeted = True
        self._known.set()
        self._obey([], welcome.drop)
        log.info("greeted", worker=welcome.worker, server=welcome.version, held=len(self._held))

    def _free(self) -> int:
        return 0 if self._draining else max(0, self._bench.config.slots - len(self._running))

    async def _claim(self) -> None:
        """One poll. It is open all the time, since wishes to cancel come with it too."""
        if self._free() == 0 and not self._draining:
            with suppress(TimeoutError):
                async with asyncio.timeout(BUSY_S):
                    await self._changed.wait()
        free = self._free()
        wait_s = min(self._lease_s / 2, 30.0 if free else BUSY_POLL_S)
        sent_at = time.monotonic()
        claim = self._claim_for(free, wait_s)
        claimed = await self._unless_outdated(asyncio.create_task(self._bench.client.claim(claim)), free)
        if claimed is None:
            return
        age_s = time.monotonic() - sent_at
        begun = self._accept(claimed.jobs, age_s=age_s)
        self._obey(claimed.cancel, claimed.drop)
        self._follow(paused=claimed.paused, draining=claimed.draining)
        for wish in claimed.terminals:
            self._open_terminal(wish)
        if not begun and age_s < PAUSE_S:
            await asyncio.sleep(PAUSE_S)

    def _claim_for(self, free: int, wait_s: float) -> Claim:
        cancelling = [attempt for attempt, held in self._held.items() if held.stopped is not None]
        return Claim(
            session=self._bench.session,
            free=free,
            have=list(self._held),
            wait_s=wait_s,
            cancelling=cancelling,
            terminals=list(self._terminals),
        )

    async def _unless_outdated(self, call: asyncio.Task[Claimed], free: int) -> Claimed | None:
        """The poll's answer; None if it asked for what is no longer wanted."""
        try:
            while not call.done():
                outdated = (free == 0) != (self._free() == 0) and (free == 0 or self._draining)
                if outdated or not self._greeted:
                    return None
                self._changed.clear()
                change = asyncio.create_task(self._changed.wait())
                changed: set[asyncio.Task[Any]] = {call, change}
                await asyncio.wait(changed, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
            return call.result()
        finally:
            call.cancel()
            await asyncio.wait({call})

    def _accept(self, grants: list[JobGrant], *, age_s: float) -> bool:
        """Begin new jobs; whether any was. One held already only gets its new token; one that was over stays so."""
        begun = False
        for grant in grants:
            if held := self._held.get(grant.attempt):
                held.reel.token = grant.token
            elif grant.attempt in self._over:
                log.warning("grant_of_finished_attempt", attempt=grant.attempt)
            elif age_s > self._lease_s:
                log.warning("grant_too_late", attempt=grant.attempt, age_s=age_s)
            else:
                self._begin(grant)
                begun = True
        return begun

    def _open_terminal(self, wish: TerminalWish) -> None:
        """Serve a wish for a terminal in a task of its own, once."""
        if wish.key not in self._terminals:
            may_run = wish.attempt in self._held and not self._bench.rooms.has(wish.attempt)
            serving = asyncio.create_task(serve_terminal(self._bench, wish, may_run=may_run))
            self._terminals[wish.key] = serving
            serving.add_done_callback(lambda task: self._on_terminal_done(wish, task))

    def _on_terminal_done(self, wish: TerminalWish, task: asyncio.Task[None]) -> None:
        del self._terminals[wish.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("terminal_failed", attempt=wish.attempt, error="".join(format_exception(error)))

    def _begin(self, grant: JobGrant) -> None:
        reel = Reel(grant.attempt, grant.token, self._bench.folder.scratch, self._clock, self._outbox.wake)
        held = self._held[grant.attempt] = HeldAttempt(grant, reel)
        self._outbox.add(reel)
        held.task = asyncio.create_task(run_attempt(self._bench, held))
        self._running.add(held.task)
        held.task.add_done_callback(lambda task: self._on_done(held, task))
        log.info("attempt_begun", attempt=grant.attempt, build=grant.build, job=grant.spec.name)

    def _on_done(self, held: HeldAttempt, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("attempt_failed", attempt=held.grant.attempt, error=held.masked("".join(format_exception(error))))
        if not held.is_ended:
            detail = f"the worker failed: {error}"
            held.finish(held.stopped or Ending(result=Result.ERROR, cause=Cause.EXECUTOR, detail=detail))
        self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        if self._draining and not self._running:
            self._idle.set()

    # --- heartbeats

    async def _beat_always(self) -> None:
        await self._known.wait()
        while True:
            renewed = await self._beat()
            await asyncio.sleep(self._heartbeat_s if renewed else min(1.0, self._heartbeat_s))

    async def _beat(self) -> bool:
        """Renew the leases; whether that went well."""
        held = [attempt.held for attempt in self._held.values()]
        sent_at = ticks()
        try:
            beat: Beat = await self._bench.client.heartbeat(
                Heartbeat(session=self._bench.session, held=held), timeout=max(1.0, self._lease_s / 3)
            )
        except Forbidden:
            raise
        except EngineError as exc:
            log.warning("heartbeat_failed", error=str(exc))
            if isinstance(exc, NotFound | Conflict | Incompatible):
                self._on_unknown_session()
            return False
        if beat.now:
            self._clock.learn(beat.now, sent_at, ticks())
        self._obey(beat.cancel, beat.drop)
        self._follow(paused=beat.paused, draining=beat.draining)
        return True

    def _obey(self, cancel: list[int], drop: list[int]) -> None:
        for attempt in cancel:
            if held := self._held.get(attempt):
                held.stop(CANCELLED)
        for attempt in drop:
            self._drop(attempt)

    def _follow(self, *, paused: bool, draining: bool) -> None:
        """Leave once nothing runs if the server wishes so, and stay if it wishes so before that."""
        if paused is not self._paused:
            log.info("paused" if paused else "resumed")
            self._paused = paused
        if draining and not self._draining:
            log.info("draining", running=len(self._running), by="server")
            self._draining = self._sent_away = True
            self._tell_change()
        elif not draining and self._sent_away and not self._idle.is_set():
            log.info("resumed")
            self._draining = self._sent_away = False
            self._tell_change()

    # --- what became of reports

    def _on_taken(self, attempt: int, item: Item) -> None:
        if isinstance(item, Finished):
            self._forget(attempt)

    def _on_refused(self, attempt: int, item: Item, detail: str) -> None:
        """What the server will never take ends the attempt; an end that it will never take is forgotten."""
        held = self._held[attempt]
        ending = Ending(result=Result.ERROR, cause=Cause.STORAGE, detail=f"the server refused a report: {detail}")
        if not isinstance(item, Finished):
            held.stop(ending)
        elif item.result is Result.ERROR:
            self._forget(attempt)
        else:
            held.finish(ending)

    def _on_stale(self, attempt: int) -> None:
        self._drop(attempt)

    def _on_unknown_session(self) -> None:
        self._greeted = False
        self._tell_change()

    def _drop(self, attempt: int) -> None:
        if held := self._held.get(attempt):
            log.warning("attempt_dropped", attempt=attempt)
            held.drop()
            self._bench.rooms.remove(attempt)
            self._forget(attempt)

    def _forget(self, attempt: int) -> None:
        del self._held[attempt]
        self._outbox.remove(attempt)
        self._over[attempt] = None
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
