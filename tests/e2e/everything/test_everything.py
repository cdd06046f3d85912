"""One build with everything that jobs need: containers, a database beside them, a secret, a cache, an approval.

A signed push starts it, a worker on another host does it, a forge and a mailbox are told of it; and in its middle the
server, the worker and the container engine all die.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

from apis.hooks.deliveries import SECRET, gitea_push, signed
from buildyard.client.messages import Build, NewSecret, Tree, Verdict
from buildyard.client.native import NativeClient
from buildyard.domain.hooks import Forge
from e2e.running import (
    PROGRAM,
    Program,
    Yard,
    environment,
    finished,
    has_logged,
    job_of,
    log_of,
    nothing_left,
    served,
    step_log,
    tree_when,
    until,
    working,
)
from e2e.third_party.project import PROJECT, SPEEDUPS, repository, sdist
from hosts import Site, network
from needs import need, need_program
from podman import Podman

IMAGE = "localhost/debian-build:12"
PACKAGES = "python3-dev,python3-venv,python3-setuptools,python3-wheel,gcc,libc6-dev,postgresql"
POSTGRES = "/usr/lib/postgresql/15/bin"
KEY = "a signing key that nobody may read"
DATABASE = f"""
install -d -o postgres /tmp/db /var/run/postgresql
su postgres -c '{POSTGRES}/initdb -A trust -D /tmp/db'
exec su postgres -c '{POSTGRES}/postgres -D /tmp/db -h 127.0.0.1'
"""
FORGE = """
import http.server, sys
class Statuses(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as file:
            file.write(self.path.encode() + b" " + body + b"\\n")
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Statuses).serve_forever()
"""


def yard_file(source: str) -> dict[str, object]:
    """What the operator declares."""
    jobs = {
        "compile": {
            "steps": [
                {"name": "build", "run": "python3 setup.py build_ext --inplace && mkdir -p .kept && date > .kept/when"},
                {"name": "sign", "run": 'echo "signed with $KEY"'},
            ],
            "secrets": [{"name": "KEY"}],
            "caches": [".kept"],
            "outputs": ["simplejson/_speedups*.so"],
        },
        "test": {
            "needs": ["compile"],
            "services": {
                "db": {
                    "image": IMAGE,
                    "command": ["bash", "-ec", DATABASE],
                    "ready": f"{POSTGRES}/pg_isready -h 127.0.0.1 -U postgres",
                }
            },
            "run": f'python3 -c "{SPEEDUPS}"\n'
            "psql -h db -U postgres -Atc \"select 'answer ' || 6 * 7\"\n"
            "echo begun; [ $BUILDYARD_ATTEMPT -gt 1 ] || sleep 600\n"
            "python3 -m simplejson.tests._cibw_runner .",
        },
        "wheel": {
            "needs": ["compile"],
            "run": "python3 setup.py --quiet bdist_wheel",
            "outputs": ["dist/*.whl"],
        },
        "install": {
            "needs": ["wheel", "test"],
            "approval": {"users": ["admin"], "message": "Release it?"},
            "run": f"python3 -m venv fresh && fresh/bin/pip install --quiet --no-index dist/*.whl\n"
            f'cd / && $BUILDYARD_WORKSPACE/fresh/bin/python -c "{SPEEDUPS}"',
        },
    }
    pipeline = {
        "source": {"git": source, "branch": "main"},
        "jobs": {name: {"image": IMAGE, **job} for name, job in jobs.items()},
        "triggers": [{"push": {"branches": ["main"]}}],
        "notify": [
            {"email": ["team@example.org"], "on": "always"},
            {
                "status": "github",
                "repository": f"acme/{PROJECT}",
                "token": "server:forge",
                "api": "http://127.0.0.1:9000",
            },
        ],
    }
    return {
        "projects": {PROJECT: {"pipelines": {"main": pipeline}}},
        "hooks": {"main": {"forge": "gitea", "secret_files": ["hook.secret"]}},
        "workers": {"far": {"password_file": "far.secret"}},
    }


@dataclass
class Place:
    """Where it all happens: a site with a server's machine and a worker's, and what the server's machine is told."""

    folder: Path
    site: Site
    podman: Podman
    commit: str

    @property
    def source(self) -> str:
        """The repository's address."""
        return f"file://{self.folder}/source/repository"

    def serving(self) -> AbstractAsyncContextManager[Yard]:
        """The server, without a worker of its own."""
        (self.folder / "yard.json").write_text(json.dumps(yard_file(self.source)))
        (self.folder / "hook.secret").write_text(SECRET)
        (self.folder / "far.secret").write_text("the-word-of-the-worker-far-away")
        (self.folder / "forge.token").write_text("a token")
        return served(
            self.folder / "data",
            inside=self.site.server.inside,
            BUILDYARD_HOST=self.site.server.address,
            BUILDYARD_PORT="8010",
            BUILDYARD_WORKERS="0",
            BUILDYARD_YARD=str(self.folder / "yard.json"),
            BUILDYARD_ALLOW_LOCAL_SOURCES="1",
            BUILDYARD_TELLING_CREDENTIALS=f"forge={self.folder}/forge.token",
            BUILDYARD_MAIL_HOST="127.0.0.1",
            BUILDYARD_MAIL_PORT="2525",
            BUILDYARD_MAIL_SECURITY="none",
            BUILDYARD_MAIL_FROM="yard@example.org",
        )

    def worker(self, yard: Yard) -> AbstractAsyncContextManager[Program]:
        """The worker on the other machine."""
        return working(
            yard.url,
            "the-word-of-the-worker-far-away",
            self.folder / "far",
            "far",
            executor="container",
            inside=self.site.hosts[1].inside,
            BUILDYARD_CONTAINER_HOST=self.podman.address,
            BUILDYARD_CONTAINER_PULL="never",
            BUILDYARD_ALLOW_LOCAL_SOURCES="1",
        )

    @asynccontextmanager
    async def receivers(self) -> AsyncIterator[None]:
        """A mail server and a forge on the server's machine."""
        inside, log = self.site.server.inside, self.folder / "receivers.log"
        mails = [sys.executable, "-m", "aiosmtpd", "-n", "-l", "127.0.0.1:2525", "-c", "aiosmtpd.handlers.Mailbox"]
        forge = [sys.executable, "-c", FORGE, "9000", str(self.folder / "statuses")]
        programs = [
            await Program.start([*inside, *mails, str(self.folder / "mails")], {}, log),
            await Program.start([*inside, *forge], {}, log),
        ]
        try:
            yield
        finally:
            for program in programs:
                await program.kill()

    async def push(self, yard: Yard) -> list[str]:
        """A signed push, told by curl; the uids of the builds that it starts."""
        document = gitea_push(after=self.commit).document
        document["repository"] |= {"clone_url": self.source, "ssh_url": "", "html_url": ""}
        document["commits"][0]["id"] = self.commit
        body = json.dumps(document).encode()
        (self.folder / "push.json").write_bytes(body)
        headers = [part for pair in signed(Forge.GITEA, "push", body).items() for part in ("-H", ": ".join(pair))]
        address = f"{yard.url}/-/hooks/gitea/main"
        command = ["curl", "-sS", "--fail-with-body", "--data-binary", f"@{self.folder}/push.json", *headers, address]
        done = await asyncio.to_thread(
            subprocess.run, [*self.site.server.inside, *command], capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        builds: list[str] = json.loads(done.stdout)["builds"]
        return builds

    def statuses(self) -> list[tuple[str, str]]:
        """What the forge was told: commit and state."""
        lines = (self.folder / "statuses").read_text().splitlines() if (self.folder / "statuses").exists() else []
        told = [line.split(" ", 1) for line in lines]
        return [(path.rpartition("/")[2], json.loads(body)["state"]) for path, body in told]

    def mails(self) -> list[str]:
        """The subjects in the mailbox."""
        return [str(message_from_bytes(file.read_bytes())["Subject"]) for file in (self.folder / "mails").glob("new/*")]


@pytest.fixture
def site() -> Iterator[Site]:
    """A server's machine and a worker's."""
    with network() as made:
        made.host()
        yield made


@pytest.fixture
def image(podman: Podman, tmp_path: Path) -> None:
    """A Debian with a compiler and a database, loaded as an operator does."""
    need(shutil.which("mmdebstrap"), "mmdebstrap (Debian: apt-get install mmdebstrap)")
    tar = tmp_path / "image.tar"
    without = "--dpkgopt=path-exclude=/usr/share/{doc,man,locale}/*"
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", without, "bookworm", tar],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    loaded = subprocess.run(
        [*PROGRAM, "image", "load", tar, "--as", IMAGE],
        env=environment({"BUILDYARD_CONTAINER_HOST": podman.address}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    tar.unlink()


@pytest.fixture
async def place(site: Site, podman: Podman, image: None, tmp_path: Path) -> Place:
    """All of it, with the project's repository."""
    need_program("curl")
    archive = await asyncio.to_thread(sdist, tmp_path)
    commit = await asyncio.to_thread(repository, archive, tmp_path / "source")
    return Place(tmp_path, site, podman, commit)


async def one_build(client: NativeClient, uids: list[str]) -> Build:
    """The only build there is."""
    (build,) = await client.builds(project=PROJECT)
    assert [build.uid] == uids
    return build


async def until_test_runs(client: NativeClient, build: Build) -> None:
    """Until the tests have reached their database, and the wheel is there."""
    await has_logged(client, build, "test", b"answer 42\nbegun\n")
    await tree_when(client, build, lambda tree: job_of(tree, "wheel").phase == "finished")


@pytest.mark.covers("proof.everything")
async def test_a_build_with_everything_survives_a_restart_of_everything(place: Place) -> None:
    async with place.receivers(), place.serving() as yard:
        client = yard.client()
        await client.set_secret(NewSecret(name="KEY", project=PROJECT, value=KEY.encode()))
        async with place.worker(yard) as worker:
            build = await one_build(client, await place.push(yard))
            await until_test_runs(client, build)
            await yard.server.kill()
            await worker.kill()
            place.podman.stop()
        place.podman.start()
        await yard.start()
        client = yard.client()
        async with place.worker(yard):
            await tree_when(client, build, lambda tree: job_of(tree, "test").phase == "finished", timeout=240)
            answered = await client.answer(build.uid, Verdict(granted=True, job="install", reason="it is good"))
            assert answered.jobs == ["install"]
            tree = await finished(client, build, timeout=240)

            logs = {job.name: await step_log(client, tree, job.name, 1, len(job.attempts)) for job in tree.jobs}
            assert tree.build.result == "success", {name: log[-2000:] for name, log in logs.items()}
            await check(client, tree, logs)
            await until(lambda: place.mails() or None)
            await until(lambda: [state for _, state in place.statuses()][-1:] == ["success"] or None)
            assert place.statuses() == [(place.commit, "pending"), (place.commit, "success")]
            assert place.mails() == [f"[{PROJECT}] main #1 succeeded"]
            await nothing_left(place.folder / "far")
            assert place.podman.containers(label="buildyard.state") == []


async def check(client: NativeClient, tree: Tree, logs: dict[str, bytes]) -> None:
    """What the build left behind."""
    assert {job.name: [attempt.lost for attempt in job.attempts] for job in tree.jobs} == {
        "compile": [False],
        "test": [True, False],
        "wheel": [False],
        "install": [False],
    }
    assert {attempt.worker for job in tree.jobs for attempt in job.attempts} == {"far"}
    assert b"\nOK" in logs["test"]
    assert b"answer 42" in logs["test"]
    assert b"with speedups" in logs["install"]
    service = next(step for step in job_of(tree, "test").attempts[-1].steps if step.name == "service db")
    assert b"ready to accept connections" in await log_of(client, service.log)
    compiling = job_of(tree, "compile").attempts[0].steps
    signing = await log_of(client, compiling[2].log)
    assert signing.startswith(b"signed with ***\n")
    assert b"cache .kept: saved" in signing
    kept = {artifact.path.rpartition("/")[2] for artifact in (await client.artifacts(tree.build.uid)).artifacts}
    assert any(name.endswith(".whl") for name in kept)
    used = [act for act in (await client.acts(limit=200)).acts if act.action == "secret.use"]
    assert len(used) == 1
