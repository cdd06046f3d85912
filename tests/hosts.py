"""Several machines on one: network namespaces joined by a bridge, whose cables can be pulled and slowed.

Only the network is apart: files and processes are those of this machine, so that tests can look at what each host's
worker does. Nothing shows in this machine's own network, so many such sites can exist at once. A namespace lasts as
long as a process of ours in it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from needs import need

NET = "10.213.7"
"""Of the addresses inside every site; its hosts see nothing else."""

HOLDER = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo made; exec sleep infinity")
"""Keeps a network namespace until it is killed, or its parent ends."""


class NoNetwork(Exception):
    """This machine makes no namespaces or no links."""


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise NoNetwork(f"{' '.join(argv)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Host:
    """A machine of a site. Its one cable is called `eth0`."""

    holder: "subprocess.Popen[str]"
    address: str

    @classmethod
    def start(cls, address: str) -> "Host":
        """A machine without a cable."""
        host = cls(subprocess.Popen(HOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True), address)
        assert host.holder.stdout is not None
        if not host.holder.stdout.readline():
            host.stop()
            raise NoNetwork("unshare --net is not allowed")
        host.ip("link set lo up")
        return host

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command to run it there; the process stays the same."""
        return ("nsenter", f"--net=/proc/{self.holder.pid}/ns/net")

    def cut(self) -> None:
        """Pull the cable: nothing comes through, and nobody is told."""
        self.ip("link set eth0 down")

    def join(self) -> None:
        """Put the cable back."""
        self.ip("link set eth0 up")

    def slow(self) -> str:
        """Make the way out slow, and lossy where the kernel can do that; how."""
        for words in ("netem delay 150ms 50ms loss 2%", "tbf rate 400kbit burst 3kb latency 800ms"):
            try:
                _run(*self.inside, "tc", "qdisc", "replace", "dev", "eth0", "root", *words.split())
            except NoNetwork:
                continue
            return words
        raise NoNetwork("neither netem nor tbf")

    def ip(self, words: str) -> None:
        """Set up the machine's network."""
        _run(*self.inside, "ip", *words.split())

    def stop(self) -> None:
        """Let go of the namespace; it ends with its last process."""
        self.holder.kill()
        self.holder.communicate()


@dataclass
class Site:
    """A server's machine, whose `eth0` is a bridge, and others around it; `hosts` are all."""

    server: Host
    hosts: list[Host]

    def host(self) -> Host:
        """One more machine."""
        number = len(self.hosts) + 1
        host = Host.start(f"{NET}.{number}")
        self.hosts.append(host)
        self.server.ip(f"link add port{number} type veth peer name eth0 netns {host.holder.pid}")
        self.server.ip(f"link set port{number} master eth0 up")
        host.ip(f"addr add {host.address}/24 dev eth0")
        host.join()
        return host


@contextmanager
def network() -> Iterator[Site]:
    """A site, for the length of a block; skips where this machine makes none."""
    need(os.geteuid() == 0 and shutil.which("ip"), "network namespaces (root; Debian: apt-get install iproute2)")
    hosts: list[Host] = []
    try:
        try:
            hosts.append(server := Host.start(f"{NET}.1"))
            for words in ("link add eth0 type bridge", f"addr add {server.address}/24 dev eth0", "link set eth0 up"):
                server.ip(words)
        except NoNetwork as exc:
            need(False, f"network namespaces: {exc}")
        yield Site(server, hosts)
    finally:
        for host in hosts:
            host.stop()
