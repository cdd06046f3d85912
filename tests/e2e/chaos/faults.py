"""What befalls the ground, one at a time, while it works; each is over when its function returns."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

from e2e.chaos.ground import Ground
from e2e.running import PROGRAM, Program

Fault = Callable[[Ground, random.Random], Awaitable[None]]


async def kill_server(ground: Ground, _chance: random.Random) -> None:
    """The server dies and is started again."""
    await ground.yard.restart()


async def kill_starting_server(ground: Ground, chance: random.Random) -> None:
    """The server dies, and the next one while it starts."""
    await ground.yard.server.kill()
    variables = {**ground.yard.variables, "BUILDYARD_DATA": str(ground.yard.data), "BUILDYARD_PORT": "0"}
    starting = await Program.start([*PROGRAM, "serve"], variables, ground.yard.log)
    await asyncio.sleep(chance.uniform(0, 2))
    await starting.kill()
    await ground.yard.start()


async def stop_server(ground: Ground, _chance: random.Random) -> None:
    """The server is asked to stop, with its worker, and started again."""
    ground.yard.server.signal(signal.SIGTERM)
    await ground.yard.server.ended()
    await ground.yard.start()


async def kill_worker(ground: Ground, _chance: random.Random) -> None:
    """The server's own worker dies; the server starts another."""
    try:
        async with asyncio.timeout(0.5):
            await ground.yard.kill_worker()
    except TimeoutError:
        return  # there is none at this moment


async def kill_both(ground: Ground, chance: random.Random) -> None:
    """Server and worker die together."""
    await kill_worker(ground, chance)
    await ground.yard.restart()


async def kill_remote_worker(ground: Ground, _chance: random.Random) -> None:
    """The worker elsewhere dies and is started again."""
    await ground.remote_worker.kill()
    await ground.start_remote()


async def freeze_remote_worker(ground: Ground, chance: random.Random) -> None:
    """The worker elsewhere stands still, at times for longer than its leases last."""
    ground.remote_worker.signal(signal.SIGSTOP)
    await asyncio.sleep(chance.choice([0.5, 1, 7]))
    ground.remote_worker.signal(signal.SIGCONT)


async def cut_network(ground: Ground, chance: random.Random) -> None:
    """The worker elsewhere does not reach the server, at times for longer than its leases last."""
    ground.cable.cut()
    await asyncio.sleep(chance.choice([0.1, 0.5, 1, 2, 7]))
    ground.cable.mend()


async def crash_database(ground: Ground, _chance: random.Random) -> None:
    """The database ends without a checkpoint and recovers."""
    await ground.crash_database()


async def fill_disk(ground: Ground, chance: random.Random) -> None:
    """The data folder's disk is full for a while."""
    ballast = await asyncio.to_thread(ground.fill_disk)
    await asyncio.sleep(chance.uniform(0.2, 1.5))
    ballast.unlink()


async def crash_engine(ground: Ground, _chance: random.Random) -> None:
    """The container engine dies under its containers and is started again."""
    await asyncio.to_thread(ground.crash_engine)


async def kill_contained_worker(ground: Ground, _chance: random.Random) -> None:
    """The worker whose jobs run in containers dies and is started again."""
    assert ground.contained is not None
    await ground.contained.kill()
    await ground.start_contained(ground.oracle)


FAULTS: tuple[Fault, ...] = (
    kill_server,
    kill_starting_server,
    stop_server,
    kill_worker,
    kill_both,
    kill_remote_worker,
    freeze_remote_worker,
    cut_network,
    crash_database,
    fill_disk,
    crash_engine,
    kill_contained_worker,
)
OF_A_DISK = frozenset({fill_disk})
OF_AN_ENGINE = frozenset({crash_engine, kill_contained_worker})
"""What only befalls a ground that has these."""


def name_of(fault: Fault) -> str:
    """What a fault is called: `kill server`."""
    return str(getattr(fault, "__name__", fault)).replace("_", " ")
