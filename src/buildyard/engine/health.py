"""How the server is: whether it can take work, and the numbers that monitoring wants."""

import asyncio
from dataclasses import dataclass

from buildyard.domain.access import Actor
from buildyard.domain.errors import EngineError, NotFound
from buildyard.domain.ids import Sha256
from buildyard.domain.notifications import DeliveryState
from buildyard.engine.engine import DiskLevel, Engine
from buildyard.store import counters, deliveries, jobs, workers
from buildyard.store.transactions import Transaction

PROBE_S = 2.0
"""How long the blob store may take to answer."""

MOST_COUNTED = 100_000
"""How far messages are counted each time that somebody asks."""

NO_BLOB = Sha256("0" * 64)


@dataclass(frozen=True, slots=True)
class Health:
    """Each part's state: `ok`, or what is wrong; and the disk, which may be low without anything being wrong yet."""

    parts: dict[str, str]
    disk: DiskLevel
    free_bytes: int | None

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
    taken: dict[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """Messages that wait and that were given up, counted up to MOST_COUNTED; how many ended so far, by kind and how."""

    waiting: int
    dead: int
    ended: dict[tuple[str, str], int]


async def check_health(engine: Engine, actor: Actor) -> Health:
    """Try the database, the blob store and the space left."""
    parts: dict[str, str] = {}
    try:
        await engine.read(read_numbers, actor)
        parts["database"] = "ok"
    except EngineError as exc:
        parts["database"] = str(exc)
    parts["blobs"] = await _blobs(engine)
    free, level = engine.free_bytes(), engine.disk_level()
    parts["disk"] = f"only {free} bytes are free" if level is DiskLevel.CRITICAL else "ok"
    return Health(parts, level, free)


async def _blobs(engine: Engine) -> str:
    """Ask for a blob that nobody has; what exactly fails is for the log, since anyone may read this."""
    try:
        async with asyncio.timeout(PROBE_S):
            await engine.blobs.size(NO_BLOB)
    except (TimeoutError, NotFound) as exc:
        return "ok" if isinstance(exc, NotFound) else "the blob store does not answer in time"
    except EngineError:
        return "the blob store cannot be reached"
    return "ok"


async def read_numbers(tx: Transaction, _actor: Actor) -> Numbers:
    """The numbers as they stand."""
    connected = [worker for worker in await workers.search(tx) if worker.connected]
    return Numbers(
        queued=await jobs.queue_length(tx),
        workers_connected=len(connected),
        slots=sum(worker.slots for worker in connected),
        builds=await counters.all_of(tx, "server", 0),
        taken=await counters.all_of(tx, "retention", 0),
    )


async def read_told(tx: Transaction, _actor: Actor) -> Told:
    """The numbers of messages as they stand."""
    ended = await counters.all_of(tx, "deliveries", 0)
    return Told(
        waiting=await deliveries.count(tx, DeliveryState.WAITING, MOST_COUNTED),
        dead=await deliveries.count(tx, DeliveryState.DEAD, MOST_COUNTED),
        ended={(kind, how): count for name, count in ended.items() for kind, _, how in (name.partition(" "),)},
    )
