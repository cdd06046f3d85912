"""Secrets in a worker's hands: how a job gets them, and that nothing that the worker says holds them."""

import os
from pathlib import Path

import msgspec
import pytest

from buildyard.domain.specs import Limits
from buildyard.domain.states import Cause, Result
from buildyard.protocol import GrantedSecret
from worker.conftest import Working
from worker.model_server import ModelServer
from worker.test_steps import job

TOKEN = GrantedSecret(name="TOKEN", value=b"s3cret-of-bob", variable="TOKEN")
KEY = GrantedSecret(name="key", value=b"-----BEGIN-----\nAbCdEfGh\n-----END-----\n", variable="KEY", path=".ssh/key")


def everything(server: ModelServer) -> bytes:
    """All that a server was told of attempts, and their logs."""
    attempts = server.attempts.values()
    told = msgspec.json.encode([[attempt.ends, list(attempt.steps.values())] for attempt in attempts])
    return told + b"".join(bytes(log.data) for attempt in attempts for log in attempt.logs.values())


@pytest.mark.covers("secrets.variable", "secrets.masking")
async def test_a_job_has_a_secret_in_a_variable_and_its_log_shows_stars(server: ModelServer, working: Working) -> None:
    script = 'echo "token: $TOKEN"; printf %s "$TOKEN" | wc -c; printf %s "$TOKEN" >&2; printf %s "$TOKEN" | base64'
    attempt = server.submit(job(script, executor="process", environment={"TOKEN": "weaker"}), secrets=[TOKEN])

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS
    assert attempt.output() == "token: ***\n13\n***\n"
    assert "secret TOKEN: in the variable TOKEN\n" in attempt.said()
    assert b"s3cret" not in everything(server)


@pytest.mark.covers("secrets.file")
async def test_a_job_has_a_secret_as_a_file_outside_the_workspace_and_it_is_gone_at_the_end(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    script = 'stat -c %a "$KEY" "$(dirname "$KEY")"; [ "$KEY" = ~/.ssh/key ]; wc -c < "$KEY"; cat "$KEY"; ls -A; env'
    attempt = server.submit(job(script, executor="process"), secrets=[KEY])

    async with working():
        await attempt.finished()

    assert attempt.output().startswith("600\n700\n39\n***\n.buildyard-")
    assert "secret key: in the file ~/.ssh/key (mode 0600), whose path is in KEY\n" in attempt.said()
    assert b"AbCdEfGh" not in everything(server)
    left = [Path(folder) / name for folder, _, names in os.walk(tmp_path) for name in names]
    assert not any(b"AbCdEfGh" in path.read_bytes() for path in left if path.is_file() and not path.is_symlink())


@pytest.mark.covers("secrets.masking-said")
async def test_what_the_worker_itself_says_is_masked_too(server: ModelServer, working: Working) -> None:
    made = server.submit(job("write s3cret-of-bob.txt x", outputs=("s3cret-of-bob.txt",)), secrets=[TOKEN])
    missed = server.submit(job("true", outputs=("s3cret-of-bob",)), secrets=[TOKEN])

    async with working():
        assert (await made.finished()).detail == "the name of an output holds a secret: ***.txt"
        assert (await missed.finished()).detail == "the job did not make its outputs: ***"

    assert made.end.result is missed.end.result is Result.FAILURE
    assert b"s3cret" not in everything(server)


async def test_output_that_only_begins_like_a_secret_is_shown_once_the_step_is_quiet(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("printf 'go: s3'; while [ ! -e go ]; do sleep 0.05; done", executor="process"),
                            secrets=[TOKEN])  # fmt: skip

    async with working() as worker:
        await attempt.until(lambda attempt: attempt.output() == "go: s3")
        worker.interrupt()
        await attempt.finished()

    assert attempt.output() == "go: s3"


async def test_the_log_limit_cuts_masked_output_and_shows_no_part_of_a_secret(
    server: ModelServer, working: Working
) -> None:
    spec = job("raw 12345s3cret-of-bob67890", limits=Limits(log_bytes=7))
    attempt = server.submit(spec, secrets=[TOKEN])

    async with working():
        assert (await attempt.finished()).result is Result.LOG_LIMIT

    assert attempt.output() == "12345**"


@pytest.mark.covers("secrets.refused")
async def test_a_grant_that_the_server_refused_ends_with_its_words(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print never"), refused="there is no secret X")

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause, end.detail) == (Result.ERROR, Cause.INPUTS, "there is no secret X")
    assert "there is no secret X\n" in attempt.said()
    assert attempt.output() == ""


async def test_a_secret_whose_file_cannot_be_written_fails_the_job(server: ModelServer, working: Working) -> None:
    inside_a_file = GrantedSecret(name="key", value=b"value", variable="OTHER", path=".ssh/key/inner")
    attempt = server.submit(job("print never"), secrets=[KEY, inside_a_file])

    async with working():
        assert (await attempt.finished()).cause is Cause.INPUTS


def test_a_granted_secret_does_not_show_its_value() -> None:
    assert "AbCdEfGh" not in f"{KEY!r} {KEY} {[KEY]} {KEY.__rich_repr__()}"
