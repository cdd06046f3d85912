"""The worker as a process: its folder, its signals, its exit statuses, its death."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buildyard.domain.errors import Conflict
from buildyard.domain.specs import StepSpec
from buildyard.domain.states import Cause, Result
from buildyard.worker.folder import hold, holder
from buildyard.worker.main import FOLDER_IN_USE, STOPPED, UNAUTHENTICATED
from worker.model_server import GENEROUS_S, Attempt, ModelServer
from worker.test_steps import job

PROGRAM = Path(__file__).with_name("worker_process.py")

Process = asyncio.subprocess.Process


@asynccontextmanager
async def worker_process(
    socket: Path, folder: Path, *, token: str = "secret", drain_s: str = ""
) -> AsyncIterator[Process]:
    """A worker; killed at the end of the block if it lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, f"unix://{socket}", folder, token, drain_s, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def exit_status(process: Process) -> int:
    """Wait for the end."""
    async with asyncio.timeout(GENEROUS_S):
        return await process.wait()


async def begun(attempt: Attempt) -> None:
    """Wait for the job's first line."""
    await attempt.until(lambda attempt: "\n" in attempt.output())


async def gone(pid: int) -> None:
    """Wait until a process is no more."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, ended.set)
    try:
        async with asyncio.timeout(GENEROUS_S):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_folder_is_held_by_one_and_keeps_its_identity(tmp_path: Path) -> None:
    with hold(tmp_path / "state") as first:
        assert holder(tmp_path / "state") == os.getpid()
        with pytest.raises(Conflict, match=f"in use by process {os.getpid()}"), hold(tmp_path / "state"):
            pass
        (first.scratch / "left").touch()

    assert holder(tmp_path / "state") is None
    with hold(tmp_path / "state") as second:
        assert second.state_id == first.state_id
        assert list(second.scratch.iterdir()) == []


async def test_a_second_worker_of_a_folder_says_who_holds_it(server: ModelServer, socket: Path, tmp_path: Path) -> None:
    with hold(tmp_path / "state"):
        async with worker_process(socket, tmp_path / "state") as process:
            assert await exit_status(process) == FOLDER_IN_USE
            assert process.stdout is not None
            assert f"in use by process {os.getpid()}" in (await process.stdout.read()).decode()


async def test_a_token_that_is_not_accepted_ends_the_worker(server: ModelServer, socket: Path, tmp_path: Path) -> None:
    async with worker_process(socket, tmp_path / "state", token="wrong") as process:
        assert await exit_status(process) == UNAUTHENTICATED
        assert process.stdout is not None
        assert "does not accept this worker's token: unknown token" in (await process.stdout.read()).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_worker_stops_at_once(
    server: ModelServer, socket: Path, tmp_path: Path, number: signal.Signals
) -> None:
    async with worker_process(socket, tmp_path / "state") as process:
        await server.until(lambda: server.claims)
        process.send_signal(number)
        assert await exit_status(process) == STOPPED


async def test_a_worker_stops_while_it_waits_for_a_server_that_is_away(
    server: ModelServer, socket: Path, tmp_path: Path
) -> None:
    async with worker_process(socket, tmp_path / "state") as process:
        await server.until(lambda: server.claims)
        await server.stop()
        process.send_signal(signal.SIGTERM)
        assert await exit_status(process) == STOPPED


async def test_after_the_first_signal_running_jobs_end_and_no_new_ones_begin(
    server: ModelServer, socket: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    running = server.submit(job(f"echo begun; until [ -e {go_on} ]; do sleep 0.02; done", executor="process"))
    async with worker_process(socket, tmp_path / "state") as process:
        await begun(running)
        process.send_signal(signal.SIGTERM)
        await server.until(lambda: server.claims[-1].free == 0)
        waiting = server.submit(job("echo never", executor="process"))
        go_on.touch()
        assert await exit_status(process) == STOPPED

    assert running.end.result is Result.SUCCESS
    assert waiting.session == ""


async def test_while_it_drains_a_job_can_be_cancelled(server: ModelServer, socket: Path, tmp_path: Path) -> None:
    running = server.submit(job("echo begun; sleep 1000", executor="process"))
    async with worker_process(socket, tmp_path / "state") as process:
        await begun(running)
        process.send_signal(signal.SIGTERM)
        server.cancel(running)
        assert await exit_status(process) == STOPPED

    assert (running.end.result, running.end.cause) == (Result.CANCELLED, Cause.NONE)


@pytest.mark.parametrize(("drain_s", "signals"), [("", 2), ("0.2", 1)])
async def test_a_second_signal_or_the_end_of_the_drain_kills_jobs_and_says_so(
    server: ModelServer, socket: Path, tmp_path: Path, drain_s: str, signals: int
) -> None:
    running = server.submit(job("echo $$; sleep 1000", executor="process"))
    async with worker_process(socket, tmp_path / "state", drain_s=drain_s) as process:
        await begun(running)
        process.send_signal(signal.SIGTERM)
        if signals == 2:
            await server.until(lambda: server.claims[-1].free == 0)
            process.send_signal(signal.SIGTERM)
        assert await exit_status(process) == STOPPED

    assert (running.end.result, running.end.cause) == (Result.CANCELLED, Cause.INTERRUPTED)
    assert "the worker was stopped" in running.said(1)
    assert not _lives(int(running.output()))


async def test_the_processes_of_a_killed_worker_are_dead_before_its_successor_says_hello(
    server: ModelServer, socket: Path, tmp_path: Path
) -> None:
    orphan = server.submit(job("setsid sleep 1000 & echo $!; wait", executor="process"))
    async with worker_process(socket, tmp_path / "state") as process:
        await begun(orphan)
        process.kill()
        await process.wait()

    def check(call: object) -> None:
        if getattr(call, "name", "") == "hello":
            alive.append(_lives(int(orphan.output())))

    alive: list[bool] = []
    server.before = check
    async with worker_process(socket, tmp_path / "state") as process:
        await server.until(lambda: len(server.hellos) == 2)
        process.send_signal(signal.SIGTERM)
        await exit_status(process)

    assert alive == [False]
    first, second = server.hellos
    assert first.state_id == second.state_id
    assert first.session != second.session
    assert list((tmp_path / "state/workspaces").iterdir()) == []


async def test_a_cancelled_job_leaves_no_process(server: ModelServer, socket: Path, tmp_path: Path) -> None:
    running = server.submit(job("setsid nohup sleep 1000 >/dev/null 2>&1 & echo $!; sleep 1001", executor="process"))
    async with worker_process(socket, tmp_path / "state"):
        await begun(running)
        server.cancel(running)
        await running.finished()
        await gone(int(running.output()))


async def test_a_job_survives_a_worker_whose_server_dies_and_returns(
    server: ModelServer, socket: Path, tmp_path: Path
) -> None:
    script = "for n in $(seq 200); do echo $n; sleep 0.005; done"
    running = server.submit(job(script, executor="process"))
    async with worker_process(socket, tmp_path / "state"):
        for _ in range(5):
            await begun(running)
            await server.stop()
            await server.start(socket)
        await running.finished()

    assert running.output().split() == [str(number) for number in range(1, 201)]


@pytest.mark.covers("worker.prepare")
async def test_what_prepares_a_job_is_dead_before_the_successor_of_a_killed_worker_says_hello(
    server: ModelServer, socket: Path, tmp_path: Path
) -> None:
    script = StepSpec(name="packages", run="setsid sleep 1000 & echo $!; wait")
    orphan = server.submit(job("echo never", executor="process", prepare=(script,)))
    async with worker_process(socket, tmp_path / "state") as process:
        await orphan.until(lambda attempt: "\n" in attempt.output(0))
        process.kill()
        await process.wait()

    def check(call: object) -> None:
        if getattr(call, "name", "") == "hello":
            alive.append(_lives(int(orphan.output(0))))

    alive: list[bool] = []
    server.before = check
    async with worker_process(socket, tmp_path / "state") as process:
        await server.until(lambda: len(server.hellos) == 2)
        process.send_signal(signal.SIGTERM)
        await exit_status(process)

    assert alive == [False]
    assert (orphan.begun, orphan.steps) == ([], {})
    assert list((tmp_path / "state/workspaces").iterdir()) == []


@pytest.mark.covers("worker.prepare")
async def test_a_server_that_dies_while_a_job_is_prepared_hears_everything_once_when_it_is_back(
    server: ModelServer, socket: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = StepSpec(name="packages", run=f"echo one; read -r _ < {gate}; echo two", pty=True)
    attempt = server.submit(job("echo step", executor="process", prepare=(script, script)))
    async with worker_process(socket, tmp_path / "state"):
        await attempt.until(lambda attempt: attempt.output(0) == "one\n")
        await server.stop()
        through = os.open(gate, os.O_RDWR)
        os.write(through, b"\n")
        await server.start(socket)
        await attempt.until(lambda attempt: attempt.output(0) == "one\ntwo\none\n")
        await server.stop()
        await server.start(socket)
        os.write(through, b"\n")
        end = await attempt.finished()
        os.close(through)

    assert end.result is Result.SUCCESS
    assert attempt.output(0) == "one\ntwo\none\ntwo\n"
    assert attempt.output(1) == "step\n"
    assert attempt.said().count("prepare: packages\n") == 2
