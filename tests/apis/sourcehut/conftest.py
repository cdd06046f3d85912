"""The pages and files of this API on a loopback port, over the engine of a small world on each kind of database."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import uvicorn

from apis.sourcehut.resting import Rest
from apis.sourcehut.serving import Site
from buildyard.apis.sourcehut.config import SourcehutConfig
from buildyard.apis.sourcehut.routes import sourcehut_app
from buildyard.apis.sourcehut.web import web_app
from buildyard.engine.sign_in import PasswordGate
from world import World


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    """A client of it."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        app = web_app(world.engine, PasswordGate())
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with aiohttp.ClientSession() as session:
                yield Site(world, f"http://127.0.0.1:{listener.getsockname()[1]}", session)
        finally:
            server.should_exit = True
            await serving


@pytest.fixture
async def rest(world: World) -> AsyncIterator[Rest]:
    """A client of the REST part."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        app = sourcehut_app(world.engine, SourcehutConfig(body_bytes=1024 * 1024))
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=2, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with aiohttp.ClientSession() as session:
                yield Rest(world, f"http://127.0.0.1:{listener.getsockname()[1]}", session)
        finally:
            server.should_exit = True
            await serving
