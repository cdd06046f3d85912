"""Waiting for news of a build or a log, for readers that ask again and again."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission
from buildyard.domain.errors import Gone, NotFound
from buildyard.domain.ids import BuildId, LogId, iso
from buildyard.engine.build_access import require_build
from buildyard.engine.builds import JobView, get_build, get_build_by_id, list_jobs
from buildyard.engine.engine import Engine
from buildyard.store import attempts, builds, jobs
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction

LONGEST_WAIT = 30.0
SLOW_POLL = 5.0
"""A lost wake-up costs at most this long."""

PART_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BuildTree:
    """A build with all below it."""

    build: BuildView
    jobs: tuple[JobView, ...]


@dataclass(frozen=True, slots=True)
class LogPart:
    """Bytes of a log; `sealed`: nothing follows them."""

    data: bytes
    sealed: bool


async def find_build(engine: Engine, actor: Actor, reference: str) -> BuildView:
    """A build by its id or uid, as people type it."""
    if reference.isascii() and reference.isdecimal() and len(reference) < 11:
        return await engine.read(get_build_by_id, actor, BuildId(int(reference)))
    return await engine.read(get_build, actor, reference)


async def read_tree(engine: Engine, actor: Actor, reference: str) -> BuildTree:
    """A build and its jobs as they are now."""
    view = await find_build(engine, actor, reference)
    found = await engine.read(list_jobs, actor, view.build.uid)
    return BuildTree(await find_build(engine, actor, view.build.uid), tuple(found))


async def watch_tree(
    engine: Engine, actor: Actor, reference: str, is_news: Callable[[BuildTree], bool], wait_s: float
) -> BuildTree:
    """The build once it `is_news` to the reader, or as it is when the time has passed.

    A large build is read again at most every few tenths of a second, however often it changes.
    """
    deadline = time.monotonic() + min(max(wait_s, 0.0), LONGEST_WAIT)
    view = await find_build(engine, actor, reference)
    pause = min(2.0, 0.05 + view.build.jobs_total / 2000)
    async with engine.bus.subscribe(f"build:{view.build.id}") as changes:
        while True:
            tree = await read_tree(engine, actor, view.build.uid)
            left = deadline - time.monotonic()
            if left <= 0 or is_news(tree):
                return tree
            await changes.wait(min(left, SLOW_POLL))
            await asyncio.sleep(min(pause, max(0.0, left)))


async def require_log(tx: Transaction, actor: Actor, key: LogId) -> None:
    """Raise unless the actor may read this log."""
    log = await attempts.get_log(tx, key)
    attempt = await attempts.get(tx, log.attempt)
    build = await builds.get(tx, (await jobs.get(tx, attempt.job)).build)
    await require_build(tx, actor, Permission.READ, build, "log")
    if log.removed_at is not None:
        raise Gone(f"the log was deleted by retention on {iso(log.removed_at)}")


async def read_log_part(engine: Engine, actor: Actor, key: LogId, start: int, wait_s: float) -> LogPart:
    """What a log has from byte `start` on, PART_BYTES at most; if it has nothing yet, wait for something."""
    await engine.read(require_log, actor, key)
    deadline = time.monotonic() + min(max(wait_s, 0.0), LONGEST_WAIT)
    while True:
        part = await _part(engine, key, start)
        left = deadline - time.monotonic()
        if part.data or part.sealed or left <= 0:
            return part
        await _wait_for_more(engine, key, start, left)


async def _part(engine: Engine, key: LogId, start: int) -> LogPart:
    try:
        state = await engine.logs.state(key)
    except NotFound:
        return LogPart(b"", sealed=False)
    stop = min(state.size, start + PART_BYTES)
    data = b"".join([piece async for piece in engine.logs.read(key, start, stop)]) if start < stop else b""
    return LogPart(data, sealed=state.sealed and stop == state.size)


async def _wait_for_more(engine: Engine, key: LogId, start: int, seconds: float) -> None:
    """Sleep until the log has bytes beyond `start` or is sealed."""
    following = engine.logs.follow(key, start)
    try:
        async with asyncio.timeout(seconds):
            async for _chunk in following:
                return
    except TimeoutError:
        return
