"""What an attempt works with: the executors, the fetcher of sources, the server, and patience with the last."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from buildyard.client.worker import WorkerClient
from buildyard.domain.errors import Unavailable
from buildyard.ports import Executor, SourceFetcher
from buildyard.worker.backoff import Backoff
from buildyard.worker.config import WorkerConfig
from buildyard.worker.folder import StateFolder
from buildyard.worker.rooms import Rooms

Item = TypeVar("Item")
Result = TypeVar("Result")

_TRANSFERS = 4
"""How many files of one attempt travel at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The same for all attempts of a worker. `session` is new with each process."""

    config: WorkerConfig
    executors: Mapping[str, Executor]
    fetcher: SourceFetcher
    client: WorkerClient
    folder: StateFolder
    session: str
    rooms: Rooms = field(default_factory=Rooms)

    async def patiently(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do `work`, again while the server is away, for no longer than the configured patience."""
        backoff = Backoff()
        deadline = time.monotonic() + self.config.patience_s
        while True:
            try:
                return await work()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await backoff.wait()


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Do `work` for every item, a few at a time; the first failure stops the others and is raised."""
    waiting = iter(items)

    async def work_on_some() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.ensure_future(work_on_some()) for _ in range(_TRANSFERS)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
