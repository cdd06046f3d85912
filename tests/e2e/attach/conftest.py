"""A server that listens, a worker of one executor, people with tokens: all but the command line in this process."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from buildyard.adapters.executors.container import ContainerExecutor, ContainerOptions
from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.executors.sandbox import SandboxExecutor
from buildyard.adapters.sources.folder import FolderFetcher
from buildyard.apis.dispatch import Dispatcher, Mount
from buildyard.apis.native.routes import native_app
from buildyard.apis.terminals import Switchboard
from buildyard.apis.worker.routes import worker_app
from buildyard.cli.serve import _listening
from buildyard.client.worker import WorkerClient
from buildyard.domain.access import SYSTEM
from buildyard.domain.specs import JobSpec, StepSpec
from buildyard.domain.states import Phase
from buildyard.engine import identity
from buildyard.engine.sign_in import PasswordGate
from buildyard.ports import Executor
from buildyard.store.builds import BuildView
from buildyard.web.start import start_app
from buildyard.worker.bench import Bench
from buildyard.worker.config import WorkerConfig
from buildyard.worker.folder import hold
from buildyard.worker.service import Worker
from buildyard.worker.unpacking import unpack
from e2e.attach.typist import Typist
from needs import need
from podman import IMAGE, Podman
from world import World


@dataclass
class Ground:
    """Where it all happens."""

    world: World
    folder: Path
    executor: str
    url: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    worker: Worker | None = None
    bench: Bench | None = None

    async def token(self, user: str, *scopes: str) -> str:
        """A token of a user."""
        made = await self.world.engine.run(identity.create_token, SYSTEM, user, scopes or ("*",))
        return made.secret

    def attached(self, token: str, build: BuildView, *more: str) -> Typist:
        """The command line, attaching."""
        return Typist(self.url, token, "attach", str(build.build.id), *more)

    async def submit(self, *scripts: str, keep_s: int = 600, **more: object) -> BuildView:
        """A job of these steps, whose workspace is kept."""
        steps = tuple(StepSpec(name=f"s{number}", run=run) for number, run in enumerate(scripts, 1))
        return await self.world.submit(JobSpec(name="job", steps=steps, keep_s=keep_s, **more))  # type: ignore[arg-type]

    async def finished(self, build: BuildView) -> BuildView:
        """Wait for a build's end."""
        async with asyncio.timeout(60):
            while (found := await self.world.build(build)).build.state.phase is not Phase.FINISHED:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found

    async def running(self, build: BuildView) -> None:
        """Wait until a step other than `setup` runs."""
        async with asyncio.timeout(60):
            while True:
                attempts = (await self.world.jobs(build))["job"].attempts
                if attempts and any(step.state.phase is Phase.RUNNING for step in attempts[0].steps[1:]):
                    return
                await asyncio.sleep(0.02)

    async def log(self, build: BuildView, number: int) -> str:
        """A step's log."""
        (attempt,) = (await self.world.jobs(build))["job"].attempts
        data = b""
        async for piece in self.world.engine.logs.read(attempt.logs[number].id):
            data += piece
        return data.decode()

    def workspaces(self) -> list[str]:
        """The folders of workspaces that there are."""
        return sorted(os.listdir(self.folder / "state" / "executor" / "workspaces"))

    def working(self, **config: object) -> AbstractAsyncContextManager[None]:
        """A worker for the length of a block."""
        return _working(self, config)


def _executor(name: str, folder: Path, podman: Podman | None) -> Executor:
    if name == "sandbox":
        return SandboxExecutor(folder)
    if name == "process":
        return ProcessExecutor(folder)
    assert podman is not None
    return ContainerExecutor(folder, ContainerOptions(address=podman.address, image=IMAGE))


@asynccontextmanager
async def _working(ground: Ground, config: dict[str, object]) -> AsyncIterator[None]:
    token = await ground.token("admin", "runner")
    client = WorkerClient(ground.url, token)
    podman = getattr(ground, "podman", None)
    settings = WorkerConfig(
        name="w1", folder=ground.folder / "state", slots=2, executor=ground.executor, version="test", system="x"
    )
    settings = replace(settings, **config)  # type: ignore[arg-type]
    with hold(settings.folder) as folder:
        executor = _executor(ground.executor, settings.folder / "executor", podman)
        probe = await executor.probe()
        need(probe.usable, "; ".join(probe.missing))
        bench = ground.bench = Bench(
            config=settings,
            executors={executor.name: executor},
            fetcher=FolderFetcher(client.read_blob, unpack),
            client=client,
            folder=folder,
            session=os.urandom(8).hex(),
        )
        worker = ground.worker = Worker(bench)
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.interrupt()
            async with asyncio.timeout(60):
                await asyncio.wait({running})
            await executor.close()
            await client.close()
        running.result()


@asynccontextmanager
async def listening(ground: Ground) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The server, at a port that stays the same; what is given stops it and starts another."""
    engine, gate = ground.world.engine, PasswordGate()

    def serving(stack: AsyncExitStack) -> Awaitable[None]:
        switchboard = Switchboard(check_s=0.2)
        mounts = [
            Mount("/worker/v1", "worker", worker_app(engine, gate, switchboard)),
            Mount("/-/api/v1", "native", native_app(engine, gate, switchboard=switchboard)),
        ]
        place = socket.socket()
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", int(ground.url.rpartition(":")[2] or 0)))
        place.listen()
        ground.url = f"http://127.0.0.1:{place.getsockname()[1]}"
        stack.enter_context(place)
        return stack.enter_async_context(_listening(Dispatcher(mounts, fallback=start_app()), [place]))

    async with AsyncExitStack() as stack:
        await serving(stack)

        async def restart() -> None:
            await stack.aclose()
            await serving(stack)

        yield restart


@pytest.fixture
async def process_ground(sqlite_world: World, tmp_path: Path) -> AsyncIterator[Ground]:
    """A server, ready for a worker with the executor `process`."""
    ground = Ground(sqlite_world, tmp_path, "process")
    async with listening(ground):
        yield ground


@pytest.fixture(params=["process", "sandbox", "container"])
async def ground(request: pytest.FixtureRequest, sqlite_world: World, tmp_path: Path) -> AsyncIterator[Ground]:
    """The same for each executor."""
    ground = Ground(sqlite_world, tmp_path, request.param)
    if request.param == "container":
        ground.podman = request.getfixturevalue("podman")  # type: ignore[attr-defined]
    async with listening(ground):
        yield ground
