"""Real Buildbot beside Buildyard: a master on SQLite and a worker, both local, each in a process of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load import Connection, connections
from bench.processes import ended_after, start, wait_for_text

INSTALLER = Path(__file__).parents[1] / "tools" / "install_buildbot.py"
CONFIG = """
from buildbot.plugins import schedulers, steps, util, worker
c = BuildmasterConfig = {{}}
c["workers"] = [worker.Worker("w", "secret", max_builds={slots})]
c["protocols"] = {{"pb": {{"port": "tcp:{workers}:interface=127.0.0.1"}}}}
c["builders"] = [
    util.BuilderConfig(
        name="one", workernames=["w"], collapseRequests=False,
        factory=util.BuildFactory([steps.ShellCommand(name="run", command=["bash", "-c", {script!r}])]),
    )
]
c["schedulers"] = [schedulers.ForceScheduler(name="force", builderNames=["one"])]
c["www"] = {{"port": "tcp:{port}:interface=127.0.0.1", "plugins": {{}}}}
c["db"] = {{"db_url": "sqlite:///state.sqlite"}}
c["buildbotURL"] = "http://127.0.0.1:{port}/"
c["buildbotNetUsageData"] = None
"""


@dataclass(frozen=True, slots=True)
class Buildbot:
    """A running Buildbot."""

    url: str
    master: int
    worker: int


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Installation:
    """A Buildbot master and worker in a folder; `running` starts them, more than once if need be."""

    def __init__(self, folder: Path, *, script: str, slots: int) -> None:
        self._folder = folder
        self._script = script
        self._slots = slots
        self._programs = Path(
            subprocess.run([sys.executable, INSTALLER], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        )
        self._ports = free_port(), free_port()
        self._environment = {**os.environ, "PATH": f"{self._programs}:{os.environ['PATH']}"}

    @property
    def database(self) -> Path:
        """The master's SQLite file."""
        return self._folder / "master" / "state.sqlite"

    def create(self) -> None:
        """Make master and worker, anew."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        port, workers = self._ports
        master, worker = self._folder / "master", self._folder / "worker"
        self._call("buildbot", "create-master", master)
        text = CONFIG.format(slots=self._slots, workers=workers, port=port, script=self._script)
        (master / "master.cfg").write_text(text)
        self._call("buildbot", "upgrade-master", master)
        self._call("buildbot-worker", "create-worker", worker, f"127.0.0.1:{workers}", "w", "secret")

    def _call(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self._programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, env=self._environment
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Buildbot]:
        """Start both and wait until they know each other. Each writes its log into its own folder."""
        with contextlib.ExitStack() as stack:
            pids = []
            for program, name, text in (
                ("buildbot", "master", "BuildMaster is running"),
                ("buildbot-worker", "worker", "Connected to"),
            ):
                folder = self._folder / name
                log = folder / "twistd.log"
                log.write_bytes(b"")
                argv: list[str | Path] = [self._programs / program, "start", "--nodaemon", folder]
                output = self._folder / f"{name}.out"
                process = stack.enter_context(ended_after(start(argv, output, self._environment)))
                wait_for_text(process, log, text, 60)
                pids.append(process.pid)
            yield Buildbot(f"http://127.0.0.1:{self._ports[0]}", *pids)

    def multiply(self, wanted: int) -> int:
        """Copy the finished builds of the stopped master's database until there are `wanted`; how many there are."""
        with contextlib.closing(sqlite3.connect(self.database)) as raw:
            columns = [row[1] for row in raw.execute("PRAGMA table_info(builds)") if row[1] not in ("id", "number")]
            listed = ", ".join(columns)
            (have,) = raw.execute("SELECT COUNT(*) FROM builds").fetchone()
            while have < wanted:
                raw.execute(
                    f"INSERT INTO builds (number, {listed}) SELECT number + (SELECT MAX(number) FROM builds), {listed} "
                    "FROM builds LIMIT ?",
                    (wanted - have,),
                )
                (have,) = raw.execute("SELECT COUNT(*) FROM builds").fetchone()
            raw.commit()
            return int(have)


class Finishes:
    """The builds that finish, as the master tells of them by server-sent events."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> float:
        """When the next build was heard to have finished (time.time())."""
        while True:
            line = await self._reader.readline()
            if not line:
                raise RuntimeError("Buildbot ended the stream of events")
            if line.startswith(b"data: {"):
                return time.time()


@contextlib.asynccontextmanager
async def finishes(bot: Buildbot) -> AsyncIterator[Finishes]:
    """Listen for ends of builds."""
    port = int(bot.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /sse/listen/builds/*/finished HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    try:
        while not (await reader.readline()).startswith(b"event: handshake"):
            pass
        yield Finishes(reader)
    finally:
        writer.close()


async def force(connection: Connection) -> None:
    """Start one build of the only builder."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "force", "params": {"builderid": "1", "reason": "bench"}}
    answer = await connection.json("POST", "/api/v2/forceschedulers/force", message)
    if "result" not in answer:
        raise RuntimeError(f"Buildbot did not start a build: {json.dumps(answer)}")


async def one_after_another(bot: Buildbot, count: int) -> list[float]:
    """From force to the news of its end, for one build at a time (seconds)."""
    taken = []
    async with finishes(bot) as ends, connections(bot.url, 1) as (connection,):
        for _ in range(count):
            begun = time.time()
            await force(connection)
            taken.append(await ends.next() - begun)
    return taken


async def all_at_once(bot: Buildbot, count: int) -> float:
    """Builds a second when `count` are forced at once."""
    async with finishes(bot) as ends, connections(bot.url, 1) as (connection,):
        begun = time.time()
        for _ in range(count):
            await force(connection)
        for _ in range(count):
            await ends.next()
        return count / (time.time() - begun)
