"""Whole servers on a loopback port, over SQLite, and clients of their own API."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from apis.native.serving import PASSWORD, Server
from buildyard.bootstrap.server import first_steps, open_engine, server_app
from buildyard.settings import read_settings

Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Serve]:
    """Starts servers with the settings of variables: `await serve(BUILDYARD_ANONYMOUS_READ="0")`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**variables: str) -> Server:
            data = tmp_path / "data"
            data.mkdir()
            shutil.copy(sqlite_template, data / "buildyard.sqlite")
            settings = read_settings({"BUILDYARD_DATA": str(data), "BUILDYARD_ADMIN_PASSWORD": PASSWORD, **variables})
            engine = await stack.enter_async_context(open_engine(settings))
            operator = (await first_steps(engine, settings)).operator_token
            listener = socket.create_server(("127.0.0.1", 0))
            stack.callback(listener.close)
            await stack.enter_async_context(_running(server_app(engine, settings), listener))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Server(engine, f"http://127.0.0.1:{listener.getsockname()[1]}", operator, session)

        yield start


@contextlib.asynccontextmanager
async def _running(app: Any, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2, ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def server(serve: Serve) -> Server:
    """A server with its settings as they come."""
    return await serve()
