"""A real Podman with a store of its own, serving the Docker Engine API; images of this machine's own programs."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from needs import need, need_program

CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
log_driver = "k8s-file"
netns = "{network}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
"""
REGISTRIES = """
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "{registry}"
insecure = true
"""
IMAGE = "localhost/buildyard-test:latest"
PROGRAMS = (
    "bash",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "env",
    "find",
    "getfattr",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "nc",
    "nohup",
    "nproc",
    "pgrep",
    "pkill",
    "ps",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sleep",
    "socat",
    "sort",
    "stat",
    "stty",
    "tail",
    "tee",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
    "whoami",
)
PATIENCE_S = 60.0


@dataclass
class Podman:
    """A running `podman system service`. `variables` are what a worker is given to use it."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the API is."""
        return f"unix://{self.folder}/podman.sock"

    def run(self, *arguments: str, check: bool = True) -> str:
        """What a command of Podman on this store prints."""
        argv = ["podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", *arguments]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def containers(self, *, label: str = "") -> list[str]:
        """The ids of all containers, running or not, of this label if given."""
        return self.run("ps", "-aq", *(["--filter", f"label={label}"] if label else [])).split()

    def start(self) -> None:
        """Serve, and wait until it answers."""
        argv = ["podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "system", "service", "-t", "0", self.address],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not (self.folder / "podman.sock").exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop serving; containers go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            (self.folder / "podman.sock").unlink(missing_ok=True)


def start_podman(folder: Path, *, registry: str = "127.0.0.1:1", network: str = "none") -> Podman:
    """A Podman whose store is in `folder`, without any image; `registry` may be spoken to without TLS.

    `network` is what jobs get that do not choose: the usual ones take time and change the machine.
    """
    need(os.getuid() == 0, "root, for a Podman of the tests' own")
    for program in ("podman", "runc", "conmon"):
        need_program(program)
    (folder / "containers.conf").write_text(CONFIGURATION.format(folder=folder, network=network))
    (folder / "registries.conf").write_text(REGISTRIES.format(registry=registry))
    own = {
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
    }
    podman = Podman(folder, environment=own)
    podman.start()
    return podman


def end_podman(podman: Podman) -> None:
    """Stop, and remove the store with everything in it."""
    podman.run("rm", "-af", "-t", "0", check=False)
    podman.stop()
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        mounted = line.split(" ")[4]
        if mounted.startswith(f"{podman.folder}/"):
            subprocess.run(["umount", "-l", mounted], check=False)
    shutil.rmtree(podman.folder, ignore_errors=True)


@contextmanager
def fresh_podman() -> Iterator[Podman]:
    """One with the image `IMAGE`, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="buildyard-podman-"))
    running = start_podman(folder)
    try:
        make_root_tar(folder / "image.tar")
        import_image(running, folder / "image.tar")
        yield running
    finally:
        end_podman(running)


def make_root_tar(file: Path, *, more: Sequence[str] = (), trees: Mapping[str, Path] | None = None) -> None:
    """A root file system with the test machine's own programs and the libraries that they need: in a second.

    `more` are further programs; `trees` are folders and files by the paths that they get.
    """
    wanted = (*PROGRAMS, *more)
    programs = {name: found for name in wanted if (found := shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin"))}
    inner = [path for tree in (trees or {}).values() for path in (tree, *tree.rglob("*")) if path.is_file()]
    libraries: set[str] = set()
    for path in (*programs.values(), *(str(path) for path in inner if os.access(path, os.X_OK))):
        listed = subprocess.run(["ldd", os.path.realpath(path)], capture_output=True, text=True, check=False).stdout
        libraries.update(re.findall(r"(/\S+)", listed))
    with tarfile.open(file, "w") as tar:
        for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        for name, path in programs.items():
            tar.add(os.path.realpath(path), f"usr/bin/{name}")
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"/usr/bin/{name}"
            tar.addfile(link)
        for path in sorted(libraries):
            tar.add(os.path.realpath(path), path.lstrip("/"))
        for name, tree in (trees or {}).items():
            tar.add(tree, name)
        for name, text in {"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))


def import_image(podman: Podman, tar: Path, name: str = IMAGE, *changes: str) -> None:
    """Make an image of a root file system; `changes` are lines of a Dockerfile such as `ENV A=1`."""
    podman.run("import", *(word for change in changes for word in ("--change", change)), str(tar), name)


def inspect(podman: Podman, container: str) -> dict[str, object]:
    """What Podman knows of a container."""
    found: list[dict[str, object]] = json.loads(podman.run("inspect", container))
    return found[0]
