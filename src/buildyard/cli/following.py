"""Follows a build while it runs: its tree as it changes, and the logs of its jobs."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Literal, Protocol, TypeVar

from buildyard.cli.output import PASSED, word_of
from buildyard.client.messages import Attempt, Job, Step, Tree
from buildyard.client.native import NativeClient
from buildyard.domain.errors import Gone, NotFound, Unavailable

T = TypeVar("T")
Logs = Literal["all", "failed", "none"]

PATIENCE_S = 60.0
"""How long a server may be away before following is given up."""

TAIL_LINES = 200
"""How much of a failed step's log is shown."""


class Display(Protocol):
    """Shows a build that is being followed."""

    def show(self, tree: Tree) -> None:
        """The build has changed."""
        ...

    def line(self, job: str, line: bytes) -> None:
        """A line of a job's log, without its newline."""
        ...

    def note(self, text: str) -> None:
        """Something about the following itself."""
        ...


async def follow_build(client: NativeClient, build: str, display: Display, logs: Logs) -> Tree:
    """Show a build until it is finished; the answer is its last state."""
    printed: set[int] = set()
    turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    async with asyncio.TaskGroup() as tails:
        tree = await client.tree(build)
        while True:
            display.show(tree)
            for job, step in _to_print(tree, logs):
                if step.log is not None and step.log not in printed:
                    printed.add(step.log)
                    tails.create_task(_in_turn(turns[job.uid], _print_log(client, job, step, display, logs)))
            if tree.build.phase == "finished":
                return tree
            seen = tree.seen
            tree = await patiently(lambda seen=seen: client.tree(build, seen=seen), display)  # type: ignore[misc] # a default binds the loop's value


async def _in_turn(turn: asyncio.Lock, printing: Coroutine[Any, Any, None]) -> None:
    """One log of a job after the other."""
    async with turn:
        await printing


def _to_print(tree: Tree, logs: Logs) -> list[tuple[Job, Step]]:
    """The steps whose logs are due: as they start, or once their job failed."""
    found: list[tuple[Job, Step]] = []
    for job in tree.jobs:
        for attempt in job.attempts:
            if logs == "all":
                found += [(job, step) for step in attempt.steps if _has_begun(step)]
            elif logs == "failed" and attempt is job.attempts[-1] and _failed(job):
                found += [(job, step) for step in guilty_steps(attempt)]
    return found


def _failed(job: Job) -> bool:
    return job.phase == "finished" and job.result not in PASSED | {"skipped", "dependency_failed"}


def _has_begun(step: Step) -> bool:
    return step.phase in ("running", "finished") and (step.phase == "running" or step.log_bytes > 0)


def guilty_steps(attempt: Attempt) -> list[Step]:
    """The steps that explain a failed attempt: those that did not pass, else its last with a log."""
    begun = [step for step in attempt.steps if step.log is not None and step.phase == "finished"]
    return [step for step in begun if step.result not in PASSED] or begun[-1:]


async def _print_log(client: NativeClient, job: Job, step: Step, display: Display, logs: Logs) -> None:
    assert step.log is not None
    if logs == "all":
        async for line in log_lines(client, step.log, follow=True, display=display):
            display.line(job.name, line)
        return
    lines: list[bytes] = []
    left_out = 0
    async for line in log_lines(client, step.log, follow=False, display=display):
        lines.append(line)
        if len(lines) > 2 * TAIL_LINES:
            left_out += TAIL_LINES
            del lines[:TAIL_LINES]
    display.note(f"{job.name}: log of step {step.name!r}, {word_of(step.phase, step.result, lost=step.lost)}")
    left_out += max(0, len(lines) - TAIL_LINES)
    if left_out:
        display.note(f"({left_out} earlier lines: buildyard logs)")
    for line in lines[-TAIL_LINES:]:
        display.line(job.name, line)


async def log_parts(client: NativeClient, log: int, *, follow: bool, display: Display | None) -> AsyncIterator[bytes]:
    """A log's bytes from its beginning; with `follow` until it is sealed.

    An unbegun log has none; in place of one that was deleted comes a line that says so.
    """
    position = 0
    while True:
        try:
            part = await patiently(lambda at=position: client.log(log, at, wait=follow), display)  # type: ignore[misc] # a default binds the loop's value
        except Gone as exc:
            yield f"--- {exc} ---\n".encode()
            return
        except NotFound:
            return
        position += len(part.data)
        if part.data:
            yield part.data
        if part.sealed or (not follow and not part.data):
            return


async def log_lines(client: NativeClient, log: int, *, follow: bool, display: Display | None) -> AsyncIterator[bytes]:
    """A log's lines without their newlines."""
    rest = b""
    async for data in log_parts(client, log, follow=follow, display=display):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def patiently(call: Callable[[], Awaitable[T]], display: Display | None) -> T:
    """Repeat a call while the server is away, for PATIENCE_S; it may be restarting, and builds go on without it."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + PATIENCE_S
    told = False
    while True:
        try:
            return await call()
        except Unavailable as exc:
            if loop.time() > give_up:
                raise
            if not told and display is not None:
                display.note(f"{exc}; trying again")
                told = True
            await asyncio.sleep(0.5)
