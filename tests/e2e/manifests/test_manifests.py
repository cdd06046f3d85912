"""Manifests that really run: every key stands in one, in a sandbox and in a container with a package manager."""

import asyncio
import json
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from buildyard.client.messages import NewSecret
from debian_image import IMAGE, PACKAGE, REPOSITORY, import_debian
from e2e.running import Yard, served
from needs import need_program
from podman import Podman, end_podman, start_podman
from receiving import receiving

PATIENCE_S = 180.0


@pytest.fixture(scope="module")
def debian() -> Iterator[Podman]:
    """A Podman with an image that has apt, and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="buildyard-podman-"))
    running = start_podman(folder)
    try:
        (folder / "debian").mkdir()
        import_debian(running, folder / "debian")
        yield running
    finally:
        end_podman(running)


def repository(folder: Path, text: str) -> str:
    """A git repository with a file of this text, tagged `v1`, and an empty one on top of it."""
    folder.mkdir(parents=True)
    git = [need_program("git"), "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    for content, tag in ((text, "v1"), ("", "v2")):
        (folder / "file").write_text(content)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", tag], check=True)
        subprocess.run([*git, "tag", tag], check=True)
    return f"file://{folder}"


class Api:
    """The REST API as a script of a user's sees it."""

    def __init__(self, yard: Yard, session: ClientSession) -> None:
        self.yard, self.session = yard, session

    async def submit(self, manifest: str, **more: object) -> int:
        """The id of a new job."""
        body = {"manifest": manifest, **more}
        async with self.session.post(f"{self.yard.url}/api/jobs", json=body) as answer:
            said = await answer.json()
            assert answer.status == 200, said
            return int(said["id"])

    async def finished(self, job: int) -> dict[str, Any]:
        """The job, once it is over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with self.session.get(f"{self.yard.url}/api/jobs/{job}") as answer:
                    said: dict[str, Any] = await answer.json()
                if said["status"] not in ("pending", "queued", "running"):
                    return said
                await asyncio.sleep(0.05)

    async def log(self, job: int, task: str = "") -> str:
        """A whole log; without a task that of the setup."""
        async with self.session.get(f"{self.yard.url}/logs/{job}/{f'{task}/' if task else ''}log") as answer:
            return await answer.text()


async def api_of(yard: Yard) -> Api:
    """The API with a token for jobs; the session is the caller's to close."""
    token = await yard.token("jobs:read", "jobs:write")
    return Api(yard, ClientSession(headers={"Authorization": f"token {token}"}))


SANDBOXED = """
image: alpine/edge
arch: {arch}
packages: [hello]
repositories: {{extra: "https://example.org/extra"}}
sources:
  - {one}#v1
  - {two}
environment:
  TEXT: it's $HOME
  YES: true
  LIST: [a, two words]
  NOTHING:
secrets: [a-file, {uid}]
shell: false
artifacts: [out/result.txt]
oauth: builds.sr.ht/JOBS:RO pages.sr.ht/PAGES:RW
submitter:
  git.sr.ht: {{enabled: true, allow-refs: [refs/heads/main]}}
triggers:
  - {{action: webhook, condition: success, url: "{hook}/told"}}
  - {{action: webhook, condition: failure, url: "{hook}/not"}}
misspelt: 1
tasks:
  - first: |
      cat one/file two/file
      printf '<%s>' "$TEXT" "$YES" "${{LIST[@]}}" "$NOTHING" "$CI_NAME" "$JOB_ID" "$PWD" "$HOME"
      test -t 1
      cat ~/.config/secret; test "$variable" = "the other one"
      test -n "$OAUTH2_TOKEN"; type -t acurl
      echo "export PASSED=on" >> ~/.buildenv
  - second: |
      mkdir out; echo "$PASSED $JOB_URL" > out/result.txt
      complete-build
  - third: exit 1
"""


@pytest.mark.covers("sourcehut.manifest.runs", "sourcehut.manifest.sandbox")
async def test_every_key_does_what_it_says_in_a_sandbox(sandbox: str, tmp_path: Path) -> None:
    one, two = repository(tmp_path / "git" / "one", "from one\n"), repository(tmp_path / "git" / "two.git", "unseen")
    settings = {"BUILDYARD_EXECUTOR": sandbox, "BUILDYARD_ALLOW_LOCAL_SOURCES": "1", "BUILDYARD_WORKERS": "1"}
    async with receiving() as receiver, served(tmp_path / "data", **settings) as yard:
        client = yard.client()
        await client.set_secret(
            NewSecret(name="a-file", value=b"the first one\n", kind="file", account="admin", path=".config/secret")
        )
        other = await client.set_secret(NewSecret(name="variable", value=b"the other one", account="admin"))
        api = await api_of(yard)
        async with api.session:
            words = {"arch": platform.machine(), "one": one, "two": two, "uid": other.uid, "hook": receiver.url}
            job = await api.submit(SANDBOXED.format(**words))
            ended = await api.finished(job)
            setup, first = await api.log(job), await api.log(job, "first")

            assert ended["status"] == "success", setup + first + await api.log(job, "second")
            assert [task["status"] for task in ended["tasks"]] == ["success", "success", "skipped"]
            shown = ("it's $HOME", "true", "a", "two words", "", "sourcehut", str(job), "/home/build", "/home/build")
            assert "from one" in first
            assert "".join(f"<{value}>" for value in shown) in first
            assert "the first one" not in first
            assert "the other one" not in first
            assert "packages (hello) and repositories (extra) of the manifest are not installed" in setup
            assert "the key 'misspelt' of the manifest is not known" in setup
            assert "pages.sr.ht/PAGES:RW" in setup
            async with api.session.get(f"{yard.url}/api/jobs/{job}/artifacts") as answer:
                (artifact,) = await answer.json()
            async with api.session.get(artifact["url"]) as answer:
                assert await answer.text() == f"on {yard.url}/~admin/job/{job}\n"
            (told,) = await receiver.has(1)
            assert (told.path, json.loads(told.body)["status"]) == ("/told", "success")


@pytest.mark.covers("sourcehut.manifest.runs", "sourcehut.manifest.oauth")
async def test_a_task_asks_the_server_about_its_own_job(tmp_path: Path) -> None:
    need_program("curl")
    task = 'acurl -sSf "${JOB_URL%%/~*}/api/jobs/$JOB_ID" > mine; grep -o \'"status": *"[a-z]*"\' mine'
    manifest = json.dumps({"image": "debian/stable", "oauth": "builds.sr.ht/JOBS:RO", "tasks": [{"ask": task}]})
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="1") as yard:
        api = await api_of(yard)
        async with api.session:
            job = await api.submit(manifest)
            ended = await api.finished(job)
            ask = await api.log(job, "ask")

            assert ended["status"] == "success", await api.log(job) + ask
            assert "running" in ask


CONTAINED = f"""
image: debian/stable
packages: [{PACKAGE}]
repositories: {{local: "{REPOSITORY}"}}
environment: {{GREETED: true}}
artifacts: [greeting]
tasks:
  - greet: |
      {PACKAGE} | tee ~/greeting
      sudo -E GREETED=false bash -c 'test $GREETED = false'
      test -t 1; test "$GREETED" = true; pwd
"""


@pytest.mark.covers("sourcehut.manifest.runs", "sourcehut.manifest.container")
async def test_packages_of_a_manifest_are_installed_in_a_container(debian: Podman, tmp_path: Path) -> None:
    settings = {
        "BUILDYARD_EXECUTOR": "container",
        "BUILDYARD_CONTAINER_HOST": debian.address,
        "BUILDYARD_CONTAINER_PULL": "never",
        "BUILDYARD_SOURCEHUT_IMAGES": f"debian/stable={IMAGE}",
        "BUILDYARD_WORKERS": "1",
    }
    async with served(tmp_path / "data", **settings) as yard:
        api = await api_of(yard)
        async with api.session:
            job = await api.submit(CONTAINED)
            ended = await api.finished(job)
            setup, greet = await api.log(job), await api.log(job, "greet")

            assert ended["status"] == "success", setup + greet
            assert "adding the repository local" in setup
            assert f"Setting up {PACKAGE} (1.0)" in setup
            assert "hello from a package" in greet
            assert "/home/build" in greet.splitlines()


@pytest.mark.covers("sourcehut.manifest.runs", "sourcehut.manifest.container")
async def test_a_package_that_there_is_none_of_fails_the_job_before_its_tasks(debian: Podman, tmp_path: Path) -> None:
    settings = {
        "BUILDYARD_EXECUTOR": "container",
        "BUILDYARD_CONTAINER_HOST": debian.address,
        "BUILDYARD_CONTAINER_PULL": "never",
        "BUILDYARD_WORKERS": "1",
    }
    async with served(tmp_path / "data", **settings) as yard:
        api = await api_of(yard)
        async with api.session:
            job = await api.submit(f"image: {IMAGE}\npackages: [no-such-package]\ntasks: [{{a: 'true'}}]\n")
            ended = await api.finished(job)

            assert (ended["status"], [task["status"] for task in ended["tasks"]]) == ("failed", ["pending"])
            assert "Unable to locate package no-such-package" in await api.log(job)


async def test_a_shell_without_tasks_is_a_job_that_succeeds(sandbox: str, tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR=sandbox, BUILDYARD_WORKERS="1") as yard:
        api = await api_of(yard)
        async with api.session:
            job = await api.submit("image: alpine/edge\nshell: true\n")
            ended = await api.finished(job)

            assert (ended["status"], ended["tasks"]) == ("success", [])
            assert "buildyard attach" in await api.log(job)
