"""The live screen of queue, workers and running jobs; or the same once, for pipes and programs."""

import asyncio
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from buildyard.cli.connection import connected
from buildyard.cli.output import console, duration, print_json, style_of
from buildyard.cli.workers import state_of
from buildyard.client.messages import Overview, QueuedJobs, RunningJob, Worker
from buildyard.client.native import NativeClient
from buildyard.domain.errors import Unavailable

ENDLESS = 10_000
"""Rows of a snapshot, which nothing cuts."""


async def show_top(*, once: bool, interval: float, as_json: bool) -> None:
    """Show what is going on until somebody presses q; once if that is wished or nobody looks."""
    async with connected() as client:
        screen = console()
        if as_json:
            print_json(await client.overview())
        elif once or not screen.is_terminal:
            screen.print(_page(_Seen(await client.overview()), ENDLESS))
        else:
            await _watch(client, interval)


class _Seen:
    """An overview, and for how long it has been known."""

    def __init__(self, overview: Overview) -> None:
        self.overview = overview
        self.trouble = ""
        self._at = time.monotonic()

    def seconds_since(self, moment: str) -> float:
        """By the server's clock, moved on by ours."""
        told = datetime.fromisoformat(self.overview.now) - datetime.fromisoformat(moment)
        return max(0.0, told.total_seconds() + time.monotonic() - self._at)


async def _watch(client: NativeClient, interval: float) -> None:
    screen = console()
    seen = _Seen(await client.overview())
    ended = asyncio.Event()
    with (
        _keys(ended),
        Live(
            console=screen,
            screen=True,
            auto_refresh=False,
            get_renderable=lambda: _page(seen, screen.height),
            redirect_stderr=False,
        ) as live,
    ):
        while not ended.is_set():
            live.refresh()
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await ended.wait()
            if not ended.is_set():
                seen = await _look(client, seen)


async def _look(client: NativeClient, before: _Seen) -> _Seen:
    """What is going on now; what was known and why there is no news, while the server is away."""
    try:
        return _Seen(await client.overview())
    except Unavailable as exc:
        before.trouble = str(exc)
        return before


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Hear the key q, without Enter, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def press() -> None:
        if sys.stdin.read(1) in ("q", "Q", ""):
            ended.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, press)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


# --- the page -----------------------------------------------------------------------------------


def _page(seen: _Seen, height: int) -> RenderableType:
    """All of it in so many lines: workers get a quarter, the queue half of what jobs leave."""
    found = seen.overview
    room = max(6, height - 8)
    workers = min(len(found.workers), max(2, room // 4))
    queued = min(len(found.queued), max(2, (room - workers) // 2))
    return Group(
        _headline(seen),
        _running(seen, found.running, max(2, room - workers - queued)),
        _queued(found.queued, queued),
        _workers(found.workers, workers),
    )


def _headline(seen: _Seen) -> Text:
    found = seen.overview
    here = [worker for worker in found.workers if worker.connected]
    slots, taken = sum(worker.slots for worker in here), sum(worker.busy for worker in here)
    line = Text.assemble(
        ("buildyard ", "bold"),
        f"{found.version}  {found.now[11:19]} UTC  ",
        (f"{found.running_total} running", style_of("running")),
        f"  {found.queued_total} queued  {len(here)} of {len(found.workers)} workers, {taken} of {slots} slots taken",
    )
    return Text.assemble(line, (f"\n{seen.trouble}; trying again", "bold red")) if seen.trouble else line


def _table(*headings: str) -> Table:
    return Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)


def _rest(table: Table, shown: int, total: int) -> None:
    if total > shown:
        table.add_row(Text(f"… and {total - shown} more", "dim"))


def _running(seen: _Seen, found: list[RunningJob], room: int) -> Table:
    table = _table("build", "pipeline", "job", "step", "worker", "for", "jobs done")
    for one in found[:room]:
        table.add_row(
            str(one.build),
            Text(f"{one.project}/{one.pipeline} #{one.number}"),
            Text(one.job + (f" (attempt {one.attempt})" if one.attempt > 1 else "")),
            Text(one.step, "dim"),
            Text(one.worker),
            duration(seen.seconds_since(one.since)),
            f"{one.jobs_total - one.jobs_left}/{one.jobs_total}",
        )
    _rest(table, room, len(found))
    return table


def _queued(found: list[QueuedJobs], room: int) -> Table:
    table = _table("queued", "pipeline", "waits for")
    for one in found[:room]:
        table.add_row(
            str(one.count), Text(f"{one.project}/{one.pipeline}"), Text(one.waits_for.removeprefix("waits for "), "dim")
        )
    _rest(table, room, len(found))
    return table


def _workers(found: list[Worker], room: int) -> Table:
    table = _table("worker", "state", "slots", "offers", "why")
    for one in found[:room]:
        offers = " ".join([*one.labels, *one.executors, one.system])
        state = state_of(one)
        table.add_row(
            Text(one.name),
            Text(state, style_of(state)),
            f"{one.busy}/{one.slots}",
            Text(offers, "dim"),
            Text(one.reason),
        )
    _rest(table, room, len(found))
    return table
