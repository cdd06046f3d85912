"""The server of the cross test, over each kind of database."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import uvicorn

from apis.cross.yard import Yard
from buildyard.bootstrap.server import server_app
from buildyard.settings import read_settings
from world import World


@pytest.fixture
async def yard(world: World, tmp_path: Path) -> AsyncIterator[Yard]:
    """A server that asks for tokens in every API."""
    settings = read_settings({"BUILDYARD_DATA": str(tmp_path / "data"), "BUILDYARD_BUILD_SERVER_AUTH": "token"})
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        app = server_app(world.engine, settings)
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with aiohttp.ClientSession() as session:
                made = Yard(world, f"http://127.0.0.1:{listener.getsockname()[1]}", session)
                await made.settle()
                yield made
        finally:
            server.should_exit = True
            await serving
