"""The hooks of a server on a loopback port, over an engine on each kind of database."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import uvicorn

from apis.hooks.deliveries import SECRET, SIGNING
from apis.hooks.serving import Door
from buildyard.apis.hooks.routes import hooks_app
from buildyard.domain.hooks import Forge, Hook
from world import World

HOOKS = {forge.value: Hook(name=forge.value, forge=forge, secrets=("the next one", SECRET, SIGNING)) for forge in Forge}


@pytest.fixture
async def door(world: World) -> AsyncIterator[Door]:
    """A hook for each forge, named as it, and one that is for a project only."""
    hooks = HOOKS | {
        "narrow": Hook(name="narrow", forge=Forge.GITHUB, secrets=(SECRET,), projects=frozenset({"elsewhere"}))
    }
    app = hooks_app(world.engine, lambda: hooks, body_bytes=1_000_000, clock=world.clock)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        async with aiohttp.ClientSession() as session:
            yield Door(world, f"http://127.0.0.1:{listener.getsockname()[1]}", session)
        server.should_exit = True
        await serving
