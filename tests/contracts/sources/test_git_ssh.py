"""Fetching over SSH with a job's keys, from a real server."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildyard.adapters.sources.git import GitFetcher
from buildyard.domain.errors import NotFound
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource
from contracts.sources.serving import Repository
from needs import need, need_program

LOCAL = SourcePolicy(allow_local=True, environment={"PATH": os.environ.get("PATH", "")})
GENEROUS_S = 30.0


def new_key(file: Path) -> bytes:
    """A new key pair at `file`; the private key."""
    subprocess.run([need_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file.read_bytes()


@dataclass
class Served:
    """A server that lets in the bearer of one key."""

    port: int
    key: bytes

    def url(self, folder: Path) -> str:
        """The address of a repository there."""
        return f"ssh://root@127.0.0.1:{self.port}{folder}"


def _forget(port: int) -> None:
    """Take the server's key out of what is known of hosts: ports are used again with other keys."""
    subprocess.run(["ssh-keygen", "-R", f"[127.0.0.1]:{port}"], capture_output=True, check=False)


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """An SSH server on the loopback, with a key that it lets in."""
    need(os.getuid() == 0, "root")
    need_program("ssh")
    program = need_program("sshd")
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    new_key(tmp_path / "host")
    key = new_key(tmp_path / "client")
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "client.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    named = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _forget(port)
    with subprocess.Popen([program, "-D", "-e", "-f", "/dev/null", *named], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + GENEROUS_S
        while not _listens(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Served(port, key)
        process.terminate()
    _forget(port)


@pytest.mark.covers("workspace.sources", "secrets.installed")
async def test_a_jobs_key_opens_a_repository_to_that_job_alone(
    served: Served, hello: Repository, tmp_path: Path
) -> None:
    fetcher = GitFetcher(tmp_path / "mirrors", LOCAL)
    source = GitSource(url=served.url(hello.folder), branch="main")
    said: list[str] = []

    found = await fetcher.fetch(source, tmp_path / "first", said.append, ssh_keys=[new_key(tmp_path / "x"), served.key])

    assert (tmp_path / "first/.git").is_dir()
    assert not any("PRIVATE KEY" in line for line in said)
    exact = GitSource(url=source.url, commit=found.commit)
    for keys in ((), (new_key(tmp_path / "y"),)):
        with pytest.raises(NotFound, match="may not be read"):
            await fetcher.fetch(exact, tmp_path / f"second-{len(keys)}", said.append, ssh_keys=keys)
    again = await fetcher.fetch(exact, tmp_path / "third", said.append, ssh_keys=[served.key])
    assert again.commit == found.commit
    assert sorted(path.name for path in (tmp_path / "mirrors").iterdir() if "key" in path.name) == []
