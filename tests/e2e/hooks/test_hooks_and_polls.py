"""A real server with a yard file: a signed push and a poll build real repositories, once, whatever is killed."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from apis.hooks.deliveries import SECRET, Json, gitea_push, signed
from buildyard.client.messages import Build
from buildyard.client.native import NativeClient
from buildyard.domain.hooks import Forge
from contracts.sources.serving import Repository
from e2e.running import Yard, finished, served, step_log
from needs import need_program

YARD = """
projects:
  hello:
    pipelines:
      pushed:
        source: {{git: "{url}", branch: main}}
        jobs: {{build: {{run: 'echo built $(cat word) on $BUILDYARD_BRANCH'}}}}
        triggers: [{{push: {{branches: [main]}}}}]
      polled:
        source: {{git: "{url}", branch: main}}
        jobs: {{build: {{run: 'echo built $(cat word)'}}}}
        triggers: [{{poll: {{interval: 10s, branches: [polled]}}}}]
hooks:
  main: {{forge: gitea, secret_files: [old.secret, new.secret]}}
"""


def made_repository(folder: Path) -> Repository:
    """A repository whose file `word` says what is built."""
    need_program("git")
    need_program("curl")
    repository = Repository(folder)
    folder.mkdir(parents=True)
    repository.git("init", "-q", "-b", "main")
    repository.commit("word", "one")
    return repository


def told(repository: Repository, before: str, after: str) -> tuple[bytes, dict[str, str]]:
    """A push as the forge tells it, signed."""
    document: Json = gitea_push(before=before, after=after).document
    document["repository"] |= {"clone_url": repository.url, "ssh_url": "", "html_url": ""}
    document["commits"][0]["id"] = after
    body = json.dumps(document).encode()
    return body, signed(Forge.GITEA, "push", body)


async def curl(url: str, body: bytes, headers: dict[str, str], folder: Path) -> tuple[int, Any]:
    """Deliver with a program of the system."""
    (folder / "body.json").write_bytes(body)
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "-w", "\n%{http_code}", "--data-binary", f"@{folder / 'body.json'}", *options, url]
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True, timeout=120)
    text, _newline, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


async def builds_of(client: NativeClient, pipeline: str) -> list[Build]:
    """The builds of a pipeline, the newest first."""
    return [build for build in await client.builds(project="hello", limit=100) if build.pipeline == pipeline]


async def some_build(client: NativeClient, pipeline: str, count: int) -> Build:
    """The newest build of a pipeline, once there are so many."""
    async with asyncio.timeout(180):
        while len(found := await builds_of(client, pipeline)) < count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)
    assert len(found) == count
    return found[0]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """What is built."""
    return made_repository(tmp_path / "repository")


@pytest.fixture
def variables(tmp_path: Path, repository: Repository) -> dict[str, str]:
    """Settings of a server with a yard file about the repository."""
    (tmp_path / "old.secret").write_text("the one before\n")
    (tmp_path / "new.secret").write_text(f"{SECRET}\n")
    (tmp_path / "yard.yml").write_text(YARD.format(url=repository.url))
    return {
        "BUILDYARD_YARD": str(tmp_path / "yard.yml"),
        "BUILDYARD_ALLOW_LOCAL_SOURCES": "1",
        "BUILDYARD_EXECUTOR": "process",
    }


@pytest.mark.covers("hooks.end_to_end", "hooks.replay")
async def test_a_signed_push_is_built_once_also_when_it_is_repeated_after_a_crash(
    tmp_path: Path, repository: Repository, variables: dict[str, str]
) -> None:
    before = repository.git("rev-parse", "HEAD")
    body, headers = told(repository, before, repository.commit("word", "two"))
    async with served(tmp_path / "data", **variables) as yard:
        url = f"{yard.url}/-/hooks/gitea/main"
        wrong = {**headers, "X-Gitea-Signature": "0" * 64}
        assert (await curl(url, body, wrong, tmp_path))[0] == 403
        status, answer = await curl(url, body, headers, tmp_path)
        assert (status, answer["message"]) == (200, "branch main: hello-pushed-push started 1 build")

        await yard.server.kill()
        await yard.start()
        status, again = await curl(url, body, headers, tmp_path)
        assert (status, again) == (200, {**answer, "repeated": True})

        client = yard.client()
        build = await some_build(client, "pushed", 1)
        assert [build.uid] == answer["builds"]
        tree = await finished(client, build)
        assert tree.build.result == "success"
        assert await step_log(client, tree, "build") == b"built two on main\n"


@pytest.mark.covers("poll.once", "poll.moves")
async def test_a_poll_builds_each_move_once_through_kills_of_the_server(
    tmp_path: Path, repository: Repository, variables: dict[str, str]
) -> None:
    repository.git("branch", "polled")
    async with served(tmp_path / "data", **variables) as yard:
        await _seen(yard, repository)
        repository.git("checkout", "-q", "polled")
        for number, word in enumerate(("two", "three"), 1):
            repository.commit("word", word)
            await asyncio.sleep(0.5 * number)  # some time in which the server may be looking
            await yard.restart()
            client = yard.client()
            tree = await finished(client, await some_build(client, "polled", number))
            assert await step_log(client, tree, "build") == f"built {word}\n".encode()


async def _seen(yard: Yard, repository: Repository) -> None:
    """Wait for the first look."""
    client = yard.client()
    async with asyncio.timeout(120):
        while not await _has_looked(client):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)
    assert await builds_of(client, "polled") == []
    assert repository.git("rev-parse", "polled")


async def _has_looked(client: NativeClient) -> bool:
    return any(one.checked_at for one in await client.triggers("hello") if one.kind == "poll")
