"""What a worker does for jobs that live in their home folder: sources, installed secrets, limits on outputs."""

import subprocess
from pathlib import Path

import pytest

from buildyard.adapters.sources.git import GitFetcher
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource, Limits, NamedSource
from buildyard.domain.states import Cause, Result
from buildyard.protocol import GrantedSecret
from needs import need_program
from worker.conftest import Working
from worker.model_server import ModelServer
from worker.test_steps import job

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0IGtleQ==\n-----END OPENSSH PRIVATE KEY-----\n"


def repository(folder: Path, text: str) -> str:
    """A repository with one commit; the commit."""
    need_program("git")
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")

    def git(*words: str) -> str:
        done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    folder.mkdir(parents=True, exist_ok=True)
    git("init", "-q", "-b", "main")
    (folder / "file").write_text(text)
    git("add", ".")
    git("commit", "-qm", f"Say {text}")
    return git("rev-parse", "HEAD")


@pytest.mark.covers("executors.at_home")
async def test_a_job_at_home_has_its_workspace_and_its_secrets_there(server: ModelServer, working: Working) -> None:
    file = GrantedSecret(name="netrc", value=b"machine x", variable="", path=".netrc", kind="file", installed=True)
    script = '[ "$PWD" = "$HOME" ] && [ "$BUILDYARD_WORKSPACE" = "$HOME" ]; cat .netrc; echo; echo x > out; ls -A'
    attempt = server.submit(
        job(script, "cat ~/out", executor="process", at_home=True, outputs=("out",)), secrets=[file]
    )

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS
    printed = attempt.output(1).split()
    assert printed[0] == "***"
    assert sorted(name for name in printed[1:] if not name.startswith(".buildyard-")) == [".netrc", "out"]
    assert attempt.output(2) == "x\n"
    assert [file.path for file in end.outputs] == ["out"]
    assert "secret netrc: in the file ~/.netrc (mode 0600)\n" in attempt.said()


@pytest.mark.covers("executors.at_home")
async def test_the_file_of_a_secret_cannot_be_an_output(server: ModelServer, working: Working) -> None:
    file = GrantedSecret(name="netrc", value=b"machine x", variable="", path=".netrc", kind="file", installed=True)
    attempt = server.submit(job("true", executor="process", at_home=True, outputs=("**",)), secrets=[file])

    async with working():
        end = await attempt.finished()

    words = "an output is the file of a secret: .netrc"
    assert (end.result, end.cause, end.detail) == (Result.FAILURE, Cause.OUTPUTS, words)
    assert server.blobs == {}


@pytest.mark.covers("workspace.sources")
async def test_several_sources_are_laid_each_into_its_folder(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    first, second = repository(tmp_path / "served/app", "app"), repository(tmp_path / "served/lib", "lib")
    sources = tuple(
        NamedSource(folder=name, git=GitSource(url=f"file://{tmp_path}/served/{name}")) for name in ("app", "lib")
    )
    attempt = server.submit(job("cat app/file lib/file; ls", executor="process", at_home=True, sources=sources))
    policy = SourcePolicy(allow_local=True, environment={"PATH": "/usr/bin:/bin"})

    async with working(fetcher=GitFetcher(tmp_path / "mirrors", policy)):
        end = await attempt.finished()

    assert end.result is Result.SUCCESS, end.detail
    assert attempt.output() == "applibapp\nlib\n"
    said = attempt.said()
    assert f"source app: file://{tmp_path}/served/app\n" in said
    assert f'source app: commit {first} on main "Say app" by A <a@example.org>, in ' in said
    assert f"source lib: commit {second} on main" in said
    assert [(found.source, found.commit) for found in server.pinned] == [("app", first), ("lib", second)]


@pytest.mark.covers("workspace.sources")
async def test_a_source_that_cannot_be_had_is_named(server: ModelServer, working: Working, tmp_path: Path) -> None:
    sources = (NamedSource(folder="gone", git=GitSource(url=f"file://{tmp_path}/gone")),)
    attempt = server.submit(job("true", executor="process", at_home=True, sources=sources))
    policy = SourcePolicy(allow_local=True, environment={"PATH": "/usr/bin:/bin"})

    async with working(fetcher=GitFetcher(tmp_path / "mirrors", policy)):
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.SOURCE)
    assert end.detail.startswith("source gone: could not read file://")


@pytest.mark.covers("secrets.installed")
async def test_ssh_keys_lie_where_ssh_looks_the_first_under_its_usual_name_too(
    server: ModelServer, working: Working
) -> None:
    keys = [
        GrantedSecret(name=name, value=KEY + name.encode(), variable="", path=f".ssh/{name}", kind="ssh_key",
                      installed=True)
        for name in ("one", "two")
    ]  # fmt: skip
    attempt = server.submit(
        job("cd ~/.ssh; stat -c '%n %a' . *; cmp one id_rsa && echo same; env | grep -c KEY || true",
            executor="process", at_home=True),
        secrets=keys,
    )  # fmt: skip

    async with working():
        await attempt.finished()

    assert attempt.output() == ". 700\nid_rsa 600\none 600\ntwo 600\nsame\n0\n"
    assert attempt.said().endswith("secret one: also in the file ~/.ssh/id_rsa\n")


@pytest.mark.covers("secrets.installed")
async def test_a_file_that_is_the_usual_key_already_stays(server: ModelServer, working: Working) -> None:
    own = GrantedSecret(name="own", value=b"my own", variable="", path=".ssh/id_rsa", kind="file", installed=True)
    key = GrantedSecret(name="one", value=KEY, variable="", path=".ssh/one", kind="ssh_key", installed=True)
    attempt = server.submit(job("wc -c < ~/.ssh/id_rsa", executor="process", at_home=True), secrets=[key, own])

    async with working():
        await attempt.finished()

    assert attempt.output() == "6\n"


@pytest.mark.covers("workspace.output_limits")
async def test_of_too_many_outputs_none_is_kept_and_the_job_goes_on(server: ModelServer, working: Working) -> None:
    spec = job("write a x\nwrite b x\nwrite c x", outputs=("a", "b", "c"), limits=Limits(output_files=2))
    attempt = server.submit(spec)

    async with working():
        end = await attempt.finished()

    assert (end.result, end.outputs) == (Result.SUCCESS, [])
    assert "outputs: 3 files, more than 2: none is kept\n" in attempt.said(1)
    assert server.blobs == {}


@pytest.mark.covers("workspace.output_limits")
async def test_an_output_that_is_too_large_fails_the_job(server: ModelServer, working: Working) -> None:
    spec = job("write a x\nwrite b 0123456789", outputs=("a", "b"), limits=Limits(output_file_bytes=10))
    attempt = server.submit(spec)

    async with working():
        end = await attempt.finished()

    assert (end.result, end.detail) == (
        Result.OUTPUT_LIMIT, "the output b of 11 bytes is over the limit of 10 bytes"
    )  # fmt: skip
    assert server.blobs == {}


async def test_notes_of_the_server_are_lines_of_the_first_log(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("true"), notes=["a note"])

    async with working():
        await attempt.finished()

    assert "attempt 1\na note\n" in attempt.said()
