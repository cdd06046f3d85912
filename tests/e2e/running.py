"""Real servers and workers as processes of their own: started, found, stopped and killed by pid."""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from buildyard.adapters.executors.process import sweep_state
from buildyard.adapters.executors.trees import exited, identify, is_alive
from buildyard.client.messages import Build, Job, NewToken, Submission, Tree
from buildyard.client.native import NativeClient
from buildyard.domain.errors import Unavailable
from buildyard.worker.folder import holder

T = TypeVar("T")

START_S = 60.0
"""Starting is a matter of seconds; tests share their processors with others."""

PROGRAM = (sys.executable, "-m", "buildyard.cli")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """That of the tests, without what steers Buildyard, and with these; compiled modules are kept, for speed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUILDYARD_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**inherited, "PYTHONPYCACHEPREFIX": f"{tempfile.gettempdir()}/buildyard-e2e-pycache", **variables}


@dataclass
class Program:
    """A process of ours: what it printed, and its end."""

    process: asyncio.subprocess.Process
    log: Path
    printed: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, argv: Sequence[str], variables: Mapping[str, str], log: Path) -> "Program":
        """Start it; what it writes to standard error is added to a file."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=environment(variables),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        program = cls(process, log)
        program._reading = asyncio.create_task(program._read())
        return program

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.printed.append(line.decode().rstrip("\n"))
            self._news.set()
        self._news.set()

    async def line(self, beginning: str, timeout: float = START_S) -> str:
        """The rest of the first line with this beginning, once it is printed."""
        async with asyncio.timeout(timeout):
            while True:
                self._news.clear()
                for line in self.printed:
                    if line.startswith(beginning):
                        return line.removeprefix(beginning)
                assert self._reading is not None
                assert not self._reading.done(), f"no {beginning!r} in {self.printed}; {self.log.read_text()[-2000:]}"
                await self._news.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self, timeout: float = START_S) -> int:
        """Wait for its end; the exit status."""
        async with asyncio.timeout(timeout):
            status = await self.process.wait()
            assert self._reading is not None
            await self._reading
        return status

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        await self.ended()


@dataclass
class Yard:
    """A data folder, and the server on it, which may come and go. Its address stays the same.

    On another host its process is started by `inside`, and the tests reach it by its socket.
    """

    data: Path
    variables: dict[str, str]
    inside: tuple[str, ...] = ()
    url: str = ""
    program: Program | None = None
    clients: list[NativeClient] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What the servers on this folder wrote to standard error."""
        return self.data.with_name(f"{self.data.name}.log")

    async def start(self) -> None:
        """Start a server and wait until it listens."""
        port = self.url.rpartition(":")[2] or "0"
        variables = {
            "BUILDYARD_WORKER_SEPARATE_USER": "0",
            "BUILDYARD_ADMIN_PASSWORD": "a password for tests",
            **self.variables,
            "BUILDYARD_DATA": str(self.data),
            "BUILDYARD_PORT": port,
        }
        self.program = await Program.start([*self.inside, *PROGRAM, "serve"], variables, self.log)
        self.url = await self.program.line("listening on ")

    @property
    def server(self) -> Program:
        """The server's process."""
        assert self.program is not None
        return self.program

    async def restart(self) -> None:
        """Kill the server and start another."""
        await self.server.kill()
        await self.start()

    async def stop(self) -> int:
        """Ask the server to stop and wait; its exit status."""
        self.server.signal(signal.SIGTERM)
        return await self.server.ended()

    def client(self) -> NativeClient:
        """Talks to the server as the operator of this machine."""
        token = (self.data / "operator.token").read_text().strip()
        reached_by = f"unix://{self.data / 'run' / 'server.sock'}" if self.inside else self.url
        client = NativeClient(reached_by, f"Bearer {token}")
        self.clients.append(client)
        return client

    async def worker_pid(self) -> int:
        """The embedded worker's pid, once there is one."""
        return await held_by(self.data / "worker")

    async def kill_worker(self) -> int:
        """Kill the embedded worker, wait until it is dead, and tell its pid."""
        pid = await self.worker_pid()
        await kill_stranger(pid)
        return pid

    async def token(self, *scopes: str, labels: Sequence[str] = ()) -> str:
        """A new token of the administrator."""
        made = await self.client().create_token(NewToken(user="admin", scopes=list(scopes), labels=list(labels)))
        assert made.token
        return made.token

    async def put_away(self) -> None:
        """Kill whatever still runs on this folder, and clean up after it."""
        for client in self.clients:
            await client.close()
        if self.program is not None:
            await self.program.kill()
        pid = holder(self.data / "worker") if (self.data / "worker" / "worker.lock").exists() else None
        if pid is not None:
            await kill_stranger(pid)
        await sweep_worker(self.data / "worker")


@asynccontextmanager
async def served(data: Path, *, inside: tuple[str, ...] = (), **variables: str) -> AsyncIterator[Yard]:
    """A server on a data folder; whatever of it is left at the end is killed."""
    yard = Yard(data, variables, inside)
    try:
        await yard.start()
        yield yard
    finally:
        await yard.put_away()


@asynccontextmanager
async def working(
    server: str,
    token: str,
    folder: Path,
    name: str,
    *,
    executor: str = "process",
    slots: int = 2,
    inside: tuple[str, ...] = (),
    **variables: str,
) -> AsyncIterator[Program]:
    """A worker started by hand, by `inside` on another host; whatever of it is left at the end is killed."""
    own = {
        "BUILDYARD_DATA": str(folder / "none"),
        "BUILDYARD_EXECUTOR": executor,
        "BUILDYARD_WORKERS": str(slots),
        "BUILDYARD_WORKER_NAME": name,
        "BUILDYARD_TOKEN": token,
        **variables,
    }
    argv = [*inside, *PROGRAM, "worker", "--server", server, "--folder", str(folder)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    program = await Program.start(argv, own, folder.with_name(f"{folder.name}.log"))
    try:
        yield program
    finally:
        program.signal(signal.SIGCONT)
        await program.kill()
        await sweep_worker(folder)


async def sweep_worker(folder: Path) -> None:
    """End what a killed worker's jobs left behind, as its successor would."""
    for state in (folder / "executors").glob("*"):
        await sweep_state(state, None)


async def held_by(folder: Path) -> int:
    """The pid of the worker that holds a state folder, once there is one."""
    return await until(lambda: holder(folder) if (folder / "worker.lock").exists() else None)


async def kill_stranger(pid: int) -> None:
    """Kill a process that is not our child, and wait until it is dead."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    await exited(pid, START_S)


async def until(found: Callable[[], T | None], timeout: float = START_S) -> T:
    """Look again and again until something is there: for what no event tells."""
    async with asyncio.timeout(timeout):
        while (value := found()) is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        return value


async def http_get(url: str, headers: Mapping[str, str] | None = None) -> tuple[str, bytes]:
    """A request as any client sends it: the head of the answer, and its body."""
    place, slash, path = url.removeprefix("http://").partition("/")
    host, _, port = place.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET {slash}{path} HTTP/1.1", f"Host: {place}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return head.decode("latin-1"), body
    finally:
        writer.close()
        await writer.wait_closed()


# --- builds -------------------------------------------------------------------------------------


def script(name: str, *commands: str, **more: object) -> dict[str, object]:
    """A job of one step for each of these commands."""
    steps = [{"name": f"{name}{number}", "run": command} for number, command in enumerate(commands, 1)]
    return {"steps": steps, **more}


async def submit(client: NativeClient, project: str = "e2e", **jobs: Mapping[str, object]) -> Build:
    """Have these jobs run."""
    return await client.submit(Submission(workflow=json.dumps({"name": project, "jobs": jobs}), project=project))


async def tree_when(
    client: NativeClient, build: Build, fits: Callable[[Tree], bool], *, timeout: float = 120.0
) -> Tree:
    """The build once it is as wished; a server that is away is waited for."""
    seen = ""
    async with asyncio.timeout(timeout):
        while True:
            try:
                tree = await client.tree(build.uid, seen=seen)
            except Unavailable:
                await asyncio.sleep(0.05)
                continue
            if fits(tree):
                return tree
            seen = tree.seen


async def finished(client: NativeClient, build: Build, *, timeout: float = 120.0) -> Tree:
    """The build once it is over."""
    return await tree_when(client, build, lambda tree: tree.build.phase == "finished", timeout=timeout)


def job_of(tree: Tree, name: str) -> Job:
    """A job by its name."""
    return next(job for job in tree.jobs if job.name == name)


async def log_of(client: NativeClient, log: int | None) -> bytes:
    """A whole log."""
    assert log is not None
    data = b""
    while True:
        part = await client.log(log, len(data))
        data += part.data
        if not part.data:
            return data


async def step_log(client: NativeClient, tree: Tree, job: str, step: int = 1, attempt: int = 1) -> bytes:
    """The log of a job's step."""
    found = job_of(tree, job).attempts[attempt - 1]
    assert found.number == attempt
    return await log_of(client, found.steps[step].log)


async def has_logged(client: NativeClient, build: Build, job: str, words: bytes, *, step: int = 1) -> None:
    """Wait until a step of the first attempt has these words in its log."""

    def begun(tree: Tree) -> bool:
        found = next((each for each in tree.jobs if each.name == job), None)
        return bool(found and found.attempts and found.attempts[0].steps[step].phase != "queued")

    tree = await tree_when(client, build, begun)
    log = job_of(tree, job).attempts[0].steps[step].log
    assert log is not None
    data = b""
    async with asyncio.timeout(START_S):
        while words not in data:
            data += (await client.log(log, len(data), wait=True)).data


# --- what is left -------------------------------------------------------------------------------


def leftovers(worker: Path) -> list[str]:
    """Processes, workspaces and control groups that a worker's jobs left behind."""
    found: list[str] = []
    for state in sorted((worker / "executors").glob("*")):
        identity = identify(state)
        found += [str(path) for path in (state / "workspaces").glob("*")]
        found += _groups(identity.state)
        mark = re.compile(rb"(?:^|\0)BUILDYARD_MARKER=%b:([^:\0]*):([^\0]*)" % identity.state.encode())
        for pid in _pids():
            if (marked := mark.search(_environment_of(pid))) and not _is_network(*marked.groups()):
                found.append(f"process {pid} of {marked[2].decode()}")
    return found


def _groups(state: str) -> list[str]:
    """Control groups of a state; looked for again if one of somebody else goes away meanwhile."""
    while True:
        with suppress(FileNotFoundError):
            return [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/buildyard-{state}*/*/")]


def _is_network(owner: bytes, what: bytes) -> bool:
    """A live worker keeps its sandboxes' network programs for the next jobs."""
    return what == b"network" and is_alive(owner.decode())


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


async def no_processes_left(worker: Path, timeout: float) -> None:
    """Wait until no process of a job is left."""
    deadline = time.monotonic() + timeout
    while found := [each for each in leftovers(worker) if each.startswith("process ")]:
        assert time.monotonic() < deadline, f"still alive: {found}"
        await asyncio.sleep(0.02)


async def nothing_left(worker: Path, timeout: float = 20.0) -> None:
    """Wait until nothing is left behind; files are removed after a job's end was told."""
    deadline = time.monotonic() + timeout
    while found := leftovers(worker):
        assert time.monotonic() < deadline, f"left behind: {found}"
        await asyncio.sleep(0.05)


# --- what jobs and tests say to each other ------------------------------------------------------


class Oracle:
    """Hears what jobs do, in the order they do it: a pipe to which each appends whole lines, also from a sandbox."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, exist_ok=True)
        self.folder = folder
        self.path = folder / "oracle"
        os.mkfifo(self.path)
        self.path.chmod(0o666)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._gates: list[int] = []
        self._news = asyncio.Event()
        self.heard: list[str] = []
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            *lines, self._rest = (self._rest + os.read(self._fd, 65536)).split(b"\n")
            self.heard += [line.decode() for line in lines]
            self._news.set()

    def say(self, words: str) -> str:
        """A command that tells these words."""
        return f'echo "{words}" > {self.path}'

    def beat(self, words: str) -> str:
        """A command that leaves a process behind, in a session of its own, that tells these words for ever."""
        return f"setsid bash -c 'while :; do echo \"{words}\" > {self.path}; sleep 0.02; done' >/dev/null 2>&1 &"

    def gate(self, name: str) -> str:
        """A command that waits until `open_gate`."""
        path = self.folder / f"gate-{name}"
        os.mkfifo(path)
        path.chmod(0o666)
        return f"read -r _ < {path}"

    def open_gate(self, name: str, times: int = 1) -> None:
        """Let so many pass who wait there, or will."""
        fd = os.open(self.folder / f"gate-{name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._gates.append(fd)
        os.write(fd, b"\n" * times)

    async def hears(self, words: str, times: int = 1, timeout: float = 60.0) -> None:
        """Wait until it has been told these words so often."""
        async with asyncio.timeout(timeout):
            while self.heard.count(words) < times:
                self._news.clear()
                await self._news.wait()

    def close(self) -> None:
        """Hear nothing any more."""
        asyncio.get_running_loop().remove_reader(self._fd)
        for fd in (self._fd, *self._gates):
            os.close(fd)
