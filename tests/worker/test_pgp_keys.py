"""PGP keys of a job in a sandbox: in the keyring of the gpg that is there, and said where there is none."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildyard.adapters.executors.sandbox import SandboxExecutor
from buildyard.domain.states import Result
from buildyard.protocol import GrantedSecret
from needs import need, need_program
from worker.conftest import Working
from worker.model_server import ModelServer
from worker.test_steps import job


def granted(value: bytes) -> GrantedSecret:
    """A PGP key that is to be installed."""
    return GrantedSecret(
        name="signing", value=value, variable="", path=".secrets/uid.asc", kind="pgp_key", installed=True
    )


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[SandboxExecutor]:
    """A sandbox, which must work here."""
    executor = SandboxExecutor(tmp_path / "boxes")
    probe = await executor.probe()
    need(probe.usable, "; ".join(probe.missing))
    yield executor
    await executor.close()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A new secret key without a passphrase."""
    gpg = need_program("gpg")
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)

    def run(*words: str) -> bytes:
        command = [gpg, "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", "", *words]
        return subprocess.run(command, check=True, capture_output=True).stdout

    run("--quick-generate-key", "Someone <someone@example.org>", "ed25519", "sign", "never")
    exported = run("--export-secret-keys", "--armor")
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    return exported


@pytest.mark.covers("secrets.installed")
async def test_a_pgp_key_is_imported_and_signs(
    server: ModelServer, working: Working, sandbox: SandboxExecutor, key: bytes
) -> None:
    script = "ls -A .secrets; echo text > f; gpg --batch --detach-sign f && gpg --batch --verify f.sig f 2>&1"
    attempt = server.submit(job(script, executor="sandbox", at_home=True), secrets=[granted(key)])

    async with working(more={"sandbox": sandbox}):
        end = await attempt.finished()

    assert end.result is Result.SUCCESS, attempt.log(0).data + attempt.log(1).data
    assert 'Good signature from "Someone <someone@example.org>"' in attempt.output()
    assert attempt.output().startswith("gpg: ")
    assert attempt.said().endswith("secret signing: imported with gpg, and the file removed\n")


@pytest.mark.covers("secrets.installed")
async def test_a_pgp_key_that_gpg_refuses_ends_the_job(
    server: ModelServer, working: Working, sandbox: SandboxExecutor
) -> None:
    need_program("gpg")
    attempt = server.submit(job("echo never", executor="sandbox", at_home=True), secrets=[granted(b"no key at all\n")])

    async with working(more={"sandbox": sandbox}):
        end = await attempt.finished()

    assert (end.result, end.detail) == (
        Result.FAILURE, "the PGP key signing could not be imported: gpg ended with status 2"
    )  # fmt: skip
    assert attempt.begun == []


@pytest.mark.covers("secrets.installed")
async def test_without_gpg_the_file_of_a_pgp_key_stays_and_the_log_says_so(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "bash", "cat"):
        (programs / name).symlink_to(need_program(name))
    environment = {"PATH": str(programs)}
    attempt = server.submit(
        job("cat .secrets/uid.asc", executor="process", at_home=True, environment=environment),
        secrets=[granted(b"a key\n")],
    )

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS
    assert "secret signing: not imported, for there is no gpg here; the file stays\n" in attempt.said()
    assert attempt.output() == "***\n"
