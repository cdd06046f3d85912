"""What an attempt does from its grant to its end, as the server sees it."""

from pathlib import Path

import pytest

from buildyard.domain.specs import JobSpec, Limits, Requirement, StepSpec
from buildyard.domain.states import Cause, Result, Stream
from worker.conftest import Working
from worker.model_server import ModelServer


def job(*scripts: str, executor: str = "dummy", **spec: object) -> JobSpec:
    """A job with a step for each script."""
    steps = tuple(StepSpec(name=f"s{number}", run=script) for number, script in enumerate(scripts, 1))
    return JobSpec(name="job", steps=steps, require=Requirement(executor=executor), **spec)  # type: ignore[arg-type]


async def test_a_job_runs_its_steps_in_order_and_succeeds(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print one", "print two"))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause, end.detail) == (Result.SUCCESS, Cause.NONE, "")
    assert [attempt.output(1), attempt.output(2)] == ["one\n", "two\n"]
    assert [attempt.result(number) for number in (0, 1, 2)] == [Result.SUCCESS] * 3
    assert attempt.begun == [attempt.grant.steps[1].step, attempt.grant.steps[2].step]


async def test_after_a_failed_step_the_later_ones_are_not_run(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print one", "exit 3", "print three"))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.detail) == (Result.FAILURE, "step s2 ended with status 3")
    assert attempt.steps[attempt.grant.steps[2].step].exit_status == 3
    assert attempt.grant.steps[3].step not in attempt.begun
    assert attempt.grant.steps[3].step not in attempt.steps


async def test_a_real_script_runs_in_bash_and_stops_at_the_first_failing_command(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(
        job("[[ -n $BASH_VERSION ]]\necho out\necho err >&2\nfalse\necho never", executor="process")
    )

    async with working():
        end = await attempt.finished()

    assert end.result is Result.FAILURE
    assert attempt.output() == "out\n"
    assert attempt.log(1).text(Stream.ERROR) == "err\n"


async def test_binary_output_arrives_exactly(server: ModelServer, working: Working) -> None:
    attempt = server.submit(
        job("head -c 3000000 /dev/zero | tr '\\0' '\\377'; printf 'a\\0b\\r\\n'", executor="process")
    )

    async with working():
        await attempt.finished()

    assert bytes(attempt.log(1).data) == b"\xff" * 3_000_000 + b"a\0b\r\n"


async def test_the_setup_log_says_where_the_job_runs(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("true", image="debian-12"))

    async with working():
        await attempt.finished()

    assert "worker w1, executor dummy, attempt 1\n" in attempt.said()
    assert "image debian-12 is noted" in attempt.said()


@pytest.mark.covers("worker.environment")
async def test_a_step_sees_the_variables_of_worker_server_job_and_step(server: ModelServer, working: Working) -> None:
    names = [
        "PIP_INDEX_URL",
        "A",
        "B",
        "C",
        "CI",
        "BUILDYARD",
        "BUILDYARD_PROJECT",
        "BUILDYARD_ATTEMPT",
        "BUILDYARD_STEP",
    ]
    step = StepSpec(name="s1", run="\n".join(f"env {name}" for name in names), environment={"B": "step", "C": "step"})
    spec = JobSpec(name="job", steps=(step,), environment={"A": "job", "B": "job", "BUILDYARD_PROJECT": "forged"})
    attempt = server.submit(spec, environment={"A": "server"})

    async with working():
        await attempt.finished()

    seen = ["https://index.invalid/simple", "job", "step", "step", "true", "true", "project", "1", "s1"]
    assert attempt.output().split("\n")[:-1] == seen


async def test_a_script_leaves_no_file_in_the_workspace_and_is_ignored_by_git(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("true", "ls -A", executor="process"))

    async with working():
        await attempt.finished()

    assert attempt.output(2).split() == [name for name in attempt.output(2).split() if name.startswith(".buildyard-")]
    assert len(attempt.output(2).split()) == 1


async def test_a_script_of_half_a_mebibyte_runs(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("# " + "x" * 512 * 1024 + "\necho ran", executor="process"))

    async with working():
        await attempt.finished()

    assert attempt.output() == "ran\n"


async def test_another_shell_runs_the_script(server: ModelServer, working: Working) -> None:
    step = StepSpec(name="s1", run="import sys; print('python', len(sys.argv))", shell="python3")
    attempt = server.submit(JobSpec(name="job", steps=(step,), require=Requirement(executor="process")))

    async with working():
        await attempt.finished()

    assert attempt.output() == "python 1\n"


async def test_an_executor_that_the_worker_lacks_is_an_error_of_kind_unsupported(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("true", executor="container"))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.UNSUPPORTED)
    assert "no executor container (it has dummy, process)" in attempt.said()


async def test_untrusted_work_that_an_executor_refuses_ends_in_an_error(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("true", executor="process"), trusted=False)

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.EXECUTOR)
    assert "trusted" in end.detail


@pytest.mark.covers("engine.jobs.timeout", "executors.limits.wall")
async def test_the_wall_time_of_a_job_ends_it_as_a_timeout(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print one", "hang", limits=Limits(wall_s=1)))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.TIMEOUT, Cause.WALL)
    assert attempt.result(2) is Result.TIMEOUT
    assert "wall time limit of 1 s reached" in attempt.said(2)


@pytest.mark.covers("executors.limits.wall")
async def test_the_timeout_of_a_step_ends_the_job_as_a_timeout(server: ModelServer, working: Working) -> None:
    step = StepSpec(name="s1", run="hang", timeout_s=1)
    attempt = server.submit(JobSpec(name="job", steps=(step,)))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.TIMEOUT, Cause.WALL)
    assert "wall time limit of 1 s reached" in attempt.said(1)


@pytest.mark.covers("executors.limits.wall")
async def test_silence_beyond_the_limit_ends_the_job_as_a_timeout(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print hello\nhang", limits=Limits(silent_s=1)))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.TIMEOUT, Cause.SILENT)
    assert "no output for 1 s" in attempt.said(1)


@pytest.mark.covers("executors.limits.output")
async def test_output_beyond_the_log_limit_ends_the_job_and_the_log_says_so(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("yes", executor="process", limits=Limits(log_bytes=100_001)))

    async with working():
        end = await attempt.finished()

    assert end.result is Result.LOG_LIMIT
    assert attempt.output() == ("y\n" * 60_000)[:100_001]
    assert attempt.said(1) == "\nlog limit of 97.7 KiB reached\n"
    assert attempt.result(1) is Result.LOG_LIMIT


async def test_output_of_exactly_the_log_limit_is_fine(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print 123", "print 123", limits=Limits(log_bytes=8)))

    async with working():
        end = await attempt.finished()

    assert end.result is Result.SUCCESS


@pytest.mark.covers("workspace.cleanup")
async def test_steps_of_one_job_share_the_workspace_and_jobs_do_not(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    first = server.submit(job("write f 1", "cat f"))
    second = server.submit(job("cat f"))

    async with working():
        await first.finished()
        await second.finished()

    assert first.output(2) == "1\n"
    assert second.end.result is Result.FAILURE
    assert list((tmp_path / "state" / "workspaces").iterdir()) == []


@pytest.mark.parametrize("executor", ["dummy", "process"])
async def test_a_cancelled_job_ends_and_keeps_its_log(server: ModelServer, working: Working, executor: str) -> None:
    script = "print begun\nhang" if executor == "dummy" else "echo begun\nsleep 1000 & sleep 1001"
    attempt = server.submit(job(script, "print never", executor=executor))

    async with working():
        await attempt.until(lambda attempt: attempt.output() == "begun\n")
        server.cancel(attempt)
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.CANCELLED, Cause.NONE)
    assert attempt.output() == "begun\n"
    assert "cancelled on the server\n" in attempt.said(1)
    assert attempt.result(1) is Result.CANCELLED
    assert attempt.grant.steps[2].step not in attempt.steps


async def test_a_job_cancelled_before_it_began_ends_without_running(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print ran"))
    server.cancel(attempt)

    async with working():
        end = await attempt.finished()

    assert end.result is Result.CANCELLED
    assert attempt.output() == ""


async def test_a_dropped_attempt_is_killed_without_a_report(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    attempt = server.submit(job("print begun\nhang"))

    async with working(slots=1):
        await attempt.until(lambda attempt: attempt.output() == "begun\n")
        server.drop(attempt)
        following = server.submit(job("print next"))
        await following.finished()

    assert attempt.ends == []
    assert attempt.said(1) == ""
    assert list((tmp_path / "state" / "workspaces").iterdir()) == []


async def test_more_jobs_than_slots_run_one_after_another(server: ModelServer, working: Working) -> None:
    attempts = [server.submit(job(f"print {number}")) for number in range(20)]

    async with working(slots=3):
        for attempt in attempts:
            await attempt.finished()

    assert [attempt.output() for attempt in attempts] == [f"{number}\n" for number in range(20)]
    assert max(claim.free for claim in server.claims) == 3


async def test_a_worker_told_so_gives_no_job_the_hosts_network(server: ModelServer, working: Working) -> None:
    refused = server.submit(job("print one", network="host"))

    async with working(host_network=False):
        end = await refused.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.EXECUTOR)
    assert "worker.host_network" in end.detail


async def test_the_hosts_network_is_there_for_those_who_ask_where_nothing_forbids_it(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("print one", network="host"))

    async with working():
        assert (await attempt.finished()).result is Result.SUCCESS
