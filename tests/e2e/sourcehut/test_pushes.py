"""A signed push builds the manifest of its commit, on a real server that dies in between; a forge is told."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from apis.hooks.deliveries import SECRET, Json, gitea_push, signed
from buildyard.client.messages import Build
from buildyard.client.native import NativeClient
from buildyard.domain.hooks import Forge
from contracts.sources.serving import Repository
from e2e.running import finished, served, step_log
from e2e.sourcehut.curling import Script
from needs import need_program
from receiving import receiving

YARD = """
projects:
  site:
    pipelines:
      ci:
        source: {{git: "{url}", branch: main}}
        manifests: true
        notify: [{{status: gitea, repository: ada/hello, api: "{forge}", token: "server:forge", on: always}}]
        triggers: [push: {{}}]
hooks:
  main: {{forge: gitea, secret_files: [hook.secret]}}
"""
MANIFEST = """
image: debian
sources: ["{url}"]
tasks:
  - show: cd hello && git log -1 --format=%H && echo "on $GIT_REF"
"""


def told(repository: Repository, before: str, after: str) -> tuple[bytes, dict[str, str]]:
    """A push as the forge tells it, signed."""
    document: Json = gitea_push(before=before, after=after).document
    document["repository"] |= {"clone_url": repository.url, "ssh_url": "", "html_url": ""}
    document["commits"][0]["id"] = after
    body = json.dumps(document).encode()
    return body, signed(Forge.GITEA, "push", body)


async def deliver(script: Script, body: bytes, headers: dict[str, str]) -> str:
    """Deliver it; what the server says."""
    file = script.folder / "push.json"
    file.write_bytes(body)
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    status, _, answer = await script.curl("/-/hooks/gitea/main", "--data-binary", f"@{file}", *options)
    assert status == 200, answer
    message: str = json.loads(answer)["message"]
    return message


async def first_build(client: NativeClient) -> Build:
    async with asyncio.timeout(180):
        while not (found := await client.builds(project="site", limit=10)):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)
    (build,) = found
    return build


def variables(folder: Path, repository: Repository, forge: str) -> dict[str, str]:
    (folder / "hook.secret").write_text(f"{SECRET}\n")
    (folder / "forge.token").write_text("a token of the forge\n")
    (folder / "yard.yml").write_text(YARD.format(url=repository.url, forge=forge))
    return {
        "BUILDYARD_YARD": str(folder / "yard.yml"),
        "BUILDYARD_ALLOW_LOCAL_SOURCES": "1",
        "BUILDYARD_TELLING_CREDENTIALS": f"forge={folder / 'forge.token'}",
        "BUILDYARD_TELLING_ALLOW_LOCAL": "1",
        "BUILDYARD_EXECUTOR": "process",
    }


async def created(_request: object) -> web.Response:
    return web.json_response({}, status=201)


def made_repository(folder: Path) -> Repository:
    need_program("git")
    repository = Repository(folder)
    folder.mkdir(parents=True)
    repository.git("init", "-q", "-b", "main")
    repository.commit("readme", "hello")
    return repository


@pytest.mark.covers("sourcehut.repositories")
async def test_a_push_is_built_at_its_commit_though_the_server_dies(tmp_path: Path) -> None:
    repository = made_repository(tmp_path / "hello")
    before = repository.git("rev-parse", "HEAD")
    commit = repository.commit(".build.yml", MANIFEST.format(url=repository.url))
    async with (
        receiving() as forge,
        served(tmp_path / "data", **variables(tmp_path, repository, forge.url)) as yard,
    ):
        forge.answer = created
        script = await Script.of(yard, tmp_path)
        message = await deliver(script, *told(repository, before, commit))
        await yard.restart()

        client = yard.client()
        tree = await finished(client, await first_build(client))

        assert message == "branch main: site-ci-push reads the manifests"
        assert tree.build.result == "success", tree
        printed = await step_log(client, tree, "job")
        assert commit.encode() in printed
        assert b"on refs/heads/main" in printed
        statuses = [json.loads(one.body) for one in await forge.has(2)]
        assert statuses[-1]["state"] == "success"
        assert commit in forge.got[-1].path


@pytest.mark.covers("sourcehut.repositories")
async def test_faults_of_a_manifest_are_told_at_the_commit(tmp_path: Path) -> None:
    repository = made_repository(tmp_path / "hello")
    before = repository.git("rev-parse", "HEAD")
    commit = repository.commit(".build.yml", "image: debian\n")
    async with (
        receiving() as forge,
        served(tmp_path / "data", **variables(tmp_path, repository, forge.url)) as yard,
    ):
        forge.answer = created
        script = await Script.of(yard, tmp_path)
        await deliver(script, *told(repository, before, commit))

        build = await first_build(yard.client())

        assert (build.result, build.cause) == ("error", "configuration")
        assert "Attempted to create manifest with no tasks" in build.detail
        (status,) = [json.loads(one.body) for one in await forge.has(1)]
        assert status["state"] in ("error", "failure")
        assert commit in forge.got[0].path
        assert (await script.job(build.id))["status"] == "failed"
