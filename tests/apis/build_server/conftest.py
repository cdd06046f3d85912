"""A whole Build Server API on a loopback port, over an engine on SQLite with the real log and blob stores."""

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

from apis.build_server.serving import Api
from buildyard.apis.build_server.app import build_server_app
from buildyard.apis.build_server.auth import BuildServerConfig
from buildyard.bootstrap.server import open_engine
from buildyard.settings import Settings
from buildyard.settings.model import Sources

Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def serve(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Serve]:
    """Starts servers: `await serve(open=True, allow_local=False)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *, is_open: bool = True, allow_local: bool = False, hosts: frozenset[str] = frozenset(), port: int = 0
        ) -> Api:
            settings = Settings(data=tmp_path / "data", sources=Sources(allow_local=allow_local))
            if not settings.data.exists():
                settings.data.mkdir()
                shutil.copy(sqlite_template, settings.data / "buildyard.sqlite")
            parts = await stack.enter_async_context(contextlib.AsyncExitStack())
            engine = await parts.enter_async_context(open_engine(settings))
            listener = socket.create_server(("127.0.0.1", port))
            parts.callback(listener.close)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            config = BuildServerConfig(public_url=url, open=is_open, hosts=hosts)
            await parts.enter_async_context(_running(build_server_app(engine, config), listener))
            session = await parts.enter_async_context(aiohttp.ClientSession())
            return Api(engine, url, session, parts.aclose)

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
async def api(serve: Serve) -> Api:
    """An open server that does not allow local sources."""
    return await serve()
