"""How the server is: whether it can take work, and the numbers that monitoring wants."""

import shutil
from dataclasses import dataclass

from buildyard.domain.access import Actor
from buildyard.domain.errors import EngineError
from buildyard.engine.engine import Engine
from buildyard.store import counters, jobs, workers
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Health:
    """Each part's state: `ok`, or what is wrong."""

    parts: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return all(state == "ok" for state in self.parts.values())


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the whole server counts, without names of anything that not everyone may see."""

    queued: int
    workers_connected: int
    slots: int
    builds: dict[str, int]


async def check_health(engine: Engine, actor: Actor) -> Health:
    """Try the database, the blob store's disk and the space left."""
    parts: dict[str, str] = {}
    try:
        await engine.read(read_numbers, actor)
        parts["database"] = "ok"
    except EngineError as exc:
        parts["database"] = str(exc)
    free = shutil.disk_usage(engine.stored_in).free if engine.stored_in else None
    low = free is not None and free < engine.policy.low_disk_bytes
    parts["disk"] = f"only {free} bytes are free" if low else "ok"
    return Health(parts)


async def read_numbers(tx: Transaction, _actor: Actor) -> Numbers:
    """The numbers as they stand."""
    connected = [worker for worker in await workers.search(tx) if worker.connected]
    return Numbers(
        queued=await jobs.queue_length(tx),
        workers_connected=len(connected),
        slots=sum(worker.slots for worker in connected),
        builds=await counters.all_of(tx, "server", 0),
    )
