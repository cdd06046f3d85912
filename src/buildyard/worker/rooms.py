"""The workspaces that terminals are opened in: those in which a step runs, and those kept after their job's end."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from buildyard.ports import Command, Workspace
from buildyard.worker.step_log import size_words

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace, and a command that ran in it: its folder and variables are those of shells."""

    workspace: Workspace
    command: Command


@dataclass(slots=True)
class _Kept:
    """A kept workspace, its size, and what will remove it. Without a place it is reserved only."""

    size: int
    place: Place | None = None
    removal: asyncio.Task[None] | None = None


class Rooms:
    """Those of one worker, by attempt. Kept ones are bounded in number and size and hold no slot."""

    def __init__(self) -> None:
        self._shown: dict[int, Place] = {}
        self._kept: dict[int, _Kept] = {}
        self._changed = asyncio.Event()

    @contextmanager
    def shown(self, attempt: int, place: Place) -> Iterator[None]:
        """Let terminals be opened while a command runs."""
        self._shown[attempt] = place
        self._changed.set()
        try:
            yield
        finally:
            del self._shown[attempt]

    def has(self, attempt: int) -> bool:
        """Whether the workspace is kept."""
        return attempt in self._kept

    async def find(self, attempt: int, patience_s: float) -> Place | None:
        """Where a terminal can be opened; None if that is nowhere for so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while True:
                    if place := self._place(attempt):
                        return place
                    self._changed.clear()
                    await self._changed.wait()
        return None

    def _place(self, attempt: int) -> Place | None:
        kept = self._kept.get(attempt)
        return self._shown.get(attempt) or (kept.place if kept else None)

    async def reserve(self, attempt: int, folders: tuple[Path, ...], *, most: int, most_bytes: int) -> str:
        """Make sure of room for one more; why there is none, or nothing."""
        if len(self._kept) >= most:
            return f"this worker keeps {len(self._kept)} already" if most else "this worker keeps none"
        self._kept[attempt] = entry = _Kept(0)
        left = most_bytes - sum(each.size for each in self._kept.values())
        entry.size = await asyncio.to_thread(_size, folders, left)
        if entry.size > left:
            del self._kept[attempt]
            return f"with it this worker would keep more than {size_words(most_bytes)}"
        return ""

    def keep(self, attempt: int, place: Place, seconds: float) -> None:
        """Keep a workspace for which there is room; it is closed after so many seconds, or by `remove`."""
        entry = self._kept[attempt]
        entry.place = place
        entry.removal = asyncio.create_task(self._remove_after(attempt, place.workspace, seconds))
        self._changed.set()

    def give_up(self, attempt: int) -> None:
        """A room that was reserved and not used is free again."""
        kept = self._kept.get(attempt)
        if kept is not None and kept.place is None:
            del self._kept[attempt]

    async def _remove_after(self, attempt: int, workspace: Workspace, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            self._kept.pop(attempt, None)
            closing = asyncio.ensure_future(workspace.close())
            await asyncio.wait({closing})
            if closing.exception() is not None:
                log.error("workspace_not_removed", attempt=attempt, error=str(closing.exception()))

    def remove(self, attempt: int) -> None:
        """Remove a kept workspace now; one that is not kept is no error."""
        kept = self._kept.get(attempt)
        if kept is not None and kept.removal is not None:
            kept.removal.cancel()

    async def close(self) -> None:
        """Remove all that are kept."""
        removals = [kept.removal for kept in self._kept.values() if kept.removal is not None]
        for removal in removals:
            removal.cancel()
        await asyncio.gather(*removals, return_exceptions=True)


def _size(folders: tuple[Path, ...], limit: int) -> int:
    """Bytes on disk below folders; counting ends beyond `limit`."""
    total = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            if total > limit:
                return total
    return total
