"""Networks of sandboxes in user mode: a pool of network namespaces, each with its own slirp4netns.

A namespace lives as long as its holder, a process that waits for the end of a pipe whose other end only the worker
has; slirp4netns watches the same pipe. So both end with the worker, however that ends.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildyard.adapters.executors.trees import kill_quietly
from buildyard.domain.errors import Unavailable

_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class NetworkPrograms:
    """The programs that make a user-mode network and let a job enter it."""

    slirp4netns: str
    unshare: str
    nsenter: str


def find_network_programs(search_path: str) -> NetworkPrograms | None:
    """The programs, if all of them are found."""
    found = [shutil.which(name, path=search_path) for name in ("slirp4netns", "unshare", "nsenter")]
    slirp4netns, unshare, nsenter = found
    return NetworkPrograms(slirp4netns, unshare, nsenter) if slirp4netns and unshare and nsenter else None


@dataclass(slots=True)
class Network:
    """A network namespace of the pool; used by one workspace at a time, always of the same trust."""

    trusted: bool
    enter: tuple[str, ...]
    processes: tuple["subprocess.Popen[bytes]", ...]
    lifeline: int

    @property
    def works(self) -> bool:
        """Whether holder and slirp4netns still run."""
        return all(process.poll() is None for process in self.processes)

    def end(self) -> None:
        """End the namespace; safe to repeat."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        for process in self.processes:
            kill_quietly(process.pid)
            process.wait()


@dataclass(slots=True)
class NetworkPool:
    """Networks made on demand and used again by later workspaces of the same trust."""

    programs: NetworkPrograms
    environment: Mapping[str, str]
    _idle: dict[bool, list[Network]] = field(default_factory=lambda: {True: [], False: []})
    _all: list[Network] = field(default_factory=list)

    async def take(self, *, trusted: bool) -> Network:
        """A network for one workspace. Raises Unavailable if none can be made."""
        idle = self._idle[trusted]
        while idle:
            network = idle.pop()
            if network.works:
                return network
            self._discard(network)
        network = await self._make(trusted=trusted)
        self._all.append(network)
        return network

    def give_back(self, network: Network) -> None:
        """Keep a network for the next workspace; nothing runs in it any more."""
        if network in self._all:
            self._idle[network.trusted].append(network)

    def close(self) -> None:
        """End all networks."""
        for network in tuple(self._all):
            self._discard(network)
        self._idle = {True: [], False: []}

    def _discard(self, network: Network) -> None:
        self._all.remove(network)
        network.end()

    async def _make(self, *, trusted: bool) -> Network:
        held, lifeline = os.pipe()
        started: list[subprocess.Popen[bytes]] = []
        try:
            holder = await self._start_holder(held, started)
            await self._start_slirp(held, holder, started)
        except BaseException as exc:
            Network(trusted, (), tuple(started), lifeline).end()
            if isinstance(exc, OSError | TimeoutError):
                raise Unavailable(f"cannot make a network for the job: {exc or 'it took too long'}") from exc
            raise
        finally:
            os.close(held)
        return Network(trusted, self._enter(holder), tuple(started), lifeline)

    def _enter(self, holder: int) -> tuple[str, ...]:
        """The wrapper that enters the namespace; without root also the user namespace that owns it."""
        users = () if os.getuid() == 0 else (f"--user=/proc/{holder}/ns/user", "--preserve-credentials")
        return (self.programs.nsenter, *users, f"--net=/proc/{holder}/ns/net", "--")

    async def _start_holder(self, held: int, started: "list[subprocess.Popen[bytes]]") -> int:
        users = () if os.getuid() == 0 else ("--user", "--map-root-user")
        ready, tell = os.pipe()
        try:
            argv = (self.programs.unshare, *users, "--net", "--", "/bin/sh", "-c", "echo; exec cat > /dev/null")
            started.append(self._start(argv, stdin=held, stdout=tell, keep=()))
        finally:
            os.close(tell)
        await _first_byte(ready, "unshare cannot make a network namespace")
        return started[-1].pid

    async def _start_slirp(self, held: int, holder: int, started: "list[subprocess.Popen[bytes]]") -> None:
        ready, tell = os.pipe()
        options = ["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]
        try:
            argv = (self.programs.slirp4netns, *options, f"--exit-fd={held}", f"--ready-fd={tell}", str(holder), "tap0")
            started.append(self._start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, keep=(held, tell)))
        finally:
            os.close(tell)
        await _first_byte(ready, "slirp4netns cannot set up the network")

    def _start(
        self, argv: tuple[str, ...], *, stdin: int, stdout: int, keep: tuple[int, ...]
    ) -> "subprocess.Popen[bytes]":
        """Start one of the two, in a group of its own so that a Ctrl-C at the worker's terminal does not reach it."""
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            pass_fds=keep,
            process_group=0,
        )


async def _first_byte(fd: int, failure: str) -> None:
    """Wait until a started program says that it is ready, else OSError with `failure`; takes over `fd`."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await readable.wait()
        if not os.read(fd, 1):
            raise OSError(failure)
    finally:
        loop.remove_reader(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
