"""A model server, and workers against it with the executors `process` and `dummy`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from buildyard.adapters.executors.dummy import DummyExecutor
from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.sources.folder import FolderFetcher
from buildyard.client.worker import WorkerClient
from buildyard.ports import Executor, SourceFetcher
from buildyard.worker.bench import Bench
from buildyard.worker.config import WorkerConfig
from buildyard.worker.folder import hold
from buildyard.worker.service import Worker
from buildyard.worker.unpacking import unpack
from worker.model_server import ModelServer

Working = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    """Where the model server listens."""
    return tmp_path / "s"


@pytest.fixture
async def server(socket: Path) -> AsyncIterator[ModelServer]:
    """A model server that listens on `socket`."""
    server = ModelServer()
    async with server.listening(socket):
        yield server


@pytest.fixture
def config(tmp_path: Path) -> WorkerConfig:
    """A worker with two slots whose default executor is `dummy`."""
    return WorkerConfig(
        name="w1",
        folder=tmp_path / "state",
        slots=2,
        executor="dummy",
        version="test",
        system="x86_64-linux",
        variables={"PIP_INDEX_URL": "https://index.invalid/simple"},
        flush_s=5.0,
        patience_s=10.0,
    )


@pytest.fixture
def working(socket: Path, config: WorkerConfig) -> Working:
    """Runs a worker for the length of a block: `async with working(slots=4)`; then drains and interrupts it."""

    @asynccontextmanager
    async def work(
        *,
        url: str = "",
        fetcher: SourceFetcher | None = None,
        more: Mapping[str, Executor] | None = None,
        **changes: object,
    ) -> AsyncIterator[Worker]:
        settings = replace(config, **changes)  # type: ignore[arg-type]
        client = WorkerClient(url or f"unix://{socket}", "secret")
        executors: dict[str, Executor] = {
            "dummy": DummyExecutor(settings.folder),
            "process": ProcessExecutor(settings.folder, use_cgroups=False),
            **(more or {}),
        }
        with hold(settings.folder) as folder:
            bench = Bench(
                config=settings,
                executors=executors,
                fetcher=fetcher or FolderFetcher(client.read_blob, unpack),
                client=client,
                folder=folder,
                session=secrets.token_hex(8),
            )
            worker = Worker(bench)
            running = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.interrupt()
                async with asyncio.timeout(30):
                    await asyncio.wait({running})
                await client.close()
            running.result()

    return work
