"""What a worker does around the steps: scripts that prepare, terminals, and jobs that are done early."""

import pytest

from buildyard.domain.specs import JobSpec, Limits, Requirement, StepSpec
from buildyard.domain.states import Cause, Result, Stream
from buildyard.protocol import GrantedSecret
from worker.conftest import Working
from worker.model_server import ModelServer
from worker.test_steps import job


def script(name: str, run: str, **options: object) -> StepSpec:
    """A script that prepares."""
    return StepSpec(name=name, run=run, **options)  # type: ignore[arg-type]


@pytest.mark.covers("worker.prepare")
async def test_scripts_prepare_the_workspace_in_order_and_their_output_is_in_the_log_of_setup(
    server: ModelServer, working: Working
) -> None:
    prepare = (
        script("env", 'echo "A=$A" > "$HOME/.buildenv"; echo "first $SECRET"', environment={"A": "1"}),
        script("packages", 'echo second >&2; cat "$HOME/.buildenv"'),
    )
    secret = GrantedSecret(name="SECRET", value=b"hunter22", variable="SECRET")
    attempt = server.submit(
        job('cat "$HOME/.buildenv"', executor="process", prepare=prepare, environment={"A": "0"}), secrets=[secret]
    )

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS
    assert attempt.log(0).text(Stream.OUTPUT) == "first ***\nA=1\n"
    assert attempt.log(0).text(Stream.ERROR) == "second\n"
    assert attempt.said().endswith("prepare: env\nprepare: packages\n")
    assert attempt.output(1) == "A=1\n"


@pytest.mark.covers("worker.prepare")
async def test_the_first_script_that_fails_ends_the_job_as_a_failure_before_any_step(
    server: ModelServer, working: Working
) -> None:
    prepare = (script("packages", "echo no such package >&2; exit 7"), script("later", "echo never"))
    attempt = server.submit(job("echo never", executor="process", prepare=prepare))

    async with working():
        end = await attempt.finished()

    words = "the job could not be prepared: packages: ended with status 7"
    assert (end.result, end.cause, end.detail) == (Result.FAILURE, Cause.NONE, words)
    assert attempt.said().endswith(f"prepare: packages\n{words}\n")
    assert attempt.log(0).text(Stream.ERROR) == "no such package\n"
    assert attempt.result(0) is Result.FAILURE
    assert attempt.begun == []
    assert len(attempt.steps) == 1


@pytest.mark.covers("worker.prepare")
async def test_a_script_that_takes_too_long_ends_the_job_as_timeout(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print never", prepare=(script("slow", "hang", timeout_s=1),)))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.TIMEOUT, Cause.WALL)
    assert end.detail == "the job could not be prepared: slow: wall time limit of 1 s reached"


@pytest.mark.covers("worker.prepare")
async def test_the_wall_time_of_the_job_counts_while_it_is_prepared(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print never", prepare=(script("slow", "hang"),), limits=Limits(wall_s=1)))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.detail) == (Result.TIMEOUT, "wall time limit of 1 s reached")
    assert attempt.result(0) is Result.TIMEOUT


@pytest.mark.covers("worker.prepare")
async def test_a_job_is_cancelled_while_it_is_prepared(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print never", prepare=(script("slow", "print begun\nhang"),)))

    async with working():
        await attempt.until(lambda attempt: attempt.output(0) == "begun\n")
        server.cancel(attempt)
        end = await attempt.finished()

    assert end.result is attempt.result(0) is Result.CANCELLED
    assert attempt.said().endswith("prepare: slow\ncancelled on the server\n")


@pytest.mark.covers("worker.prepare")
async def test_output_of_a_script_that_prepares_counts_against_the_limit_of_log(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("print never", prepare=(script("loud", "print 12345678"),), limits=Limits(log_bytes=4)))

    async with working():
        assert (await attempt.finished()).result is Result.LOG_LIMIT

    assert attempt.output(0) == "1234"


@pytest.mark.covers("worker.terminal")
async def test_a_step_in_a_terminal_has_one_stream_colours_and_no_input(server: ModelServer, working: Working) -> None:
    run = 'echo out; echo err >&2; [ -t 1 ] && [ -t 2 ]; echo "$TERM"; ls --color=auto -d /usr; wc -c'
    steps = (StepSpec(name="s1", run=run, pty=True), StepSpec(name="s2", run='echo "$TERM"'))
    attempt = server.submit(JobSpec(name="job", steps=steps, require=Requirement(executor="process")))

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS
    printed = attempt.output(1)
    assert printed.startswith("out\nerr\nxterm-256color\n\x1b[")
    assert printed.endswith("\n0\n")
    assert attempt.log(1).text(Stream.ERROR) == ""
    assert attempt.output(2) == "dumb\n"


@pytest.mark.covers("worker.terminal")
async def test_the_log_limit_and_the_mask_hold_in_a_terminal(server: ModelServer, working: Working) -> None:
    step = StepSpec(name="s1", run='echo "$S"; exec yes', pty=True)
    spec = JobSpec(name="job", steps=(step,), require=Requirement(executor="process"), limits=Limits(log_bytes=1000))
    attempt = server.submit(spec, secrets=[GrantedSecret(name="S", value=b"hunter22", variable="S")])

    async with working():
        assert (await attempt.finished()).result is Result.LOG_LIMIT

    assert attempt.output().startswith("***\ny\ny\n")
    assert len(attempt.output()) == 1000


@pytest.mark.covers("worker.done_early")
async def test_a_step_that_leaves_the_done_file_ends_the_job_well_and_the_rest_is_skipped(
    server: ModelServer, working: Working
) -> None:
    scripts = ("echo one", 'touch "$HOME/.complete-build"; exit 0; echo never', "echo three", "exit 1")
    attempt = server.submit(job(*scripts, executor="process", done_file=".complete-build"))

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS
    assert [attempt.result(number) for number in range(5)] == [
        Result.SUCCESS, Result.SUCCESS, Result.SUCCESS, Result.SKIPPED, Result.SKIPPED
    ]  # fmt: skip
    assert attempt.begun == [attempt.grant.steps[number].step for number in (1, 2)]
    assert [len(attempt.log(number).data) for number in (3, 4)] == [0, 0]


@pytest.mark.covers("worker.done_early")
async def test_a_step_that_fails_fails_the_job_whatever_it_left(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job('touch "$HOME/done"; exit 4', "echo two", executor="process", done_file="done"))

    async with working():
        end = await attempt.finished()

    assert end.result is Result.FAILURE
    assert len(attempt.steps) == 2


@pytest.mark.covers("worker.done_early")
async def test_outputs_of_a_job_that_is_done_early_are_kept(server: ModelServer, working: Working) -> None:
    scripts = ('echo x > out; touch "$HOME/done"', "echo two")
    attempt = server.submit(job(*scripts, executor="process", done_file="done", outputs=("out",)))

    async with working():
        end = await attempt.finished()

    assert [file.path for file in end.outputs] == ["out"]
    assert "outputs: 1 files" in attempt.said(1)
