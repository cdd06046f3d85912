"""What a worker leaves behind when it is killed, and how the next one clears it away."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from buildyard.adapters.executors.cgroups import find_cgroups
from buildyard.adapters.executors.trees import identify
from buildyard.ports import Executor
from contracts.executors.watching import GENEROUS_S, become_true, processes_with, unique_sleep

PROGRAM = Path(__file__).with_name("crashing_worker.py")
DAEMONS = (
    "sleep {n} & setsid sleep {n} & nohup setsid sh -c 'sleep {n} & sleep {n}' > /dev/null 2>&1 &"
    " env -i /usr/bin/setsid /bin/sleep {n} & while [ $(pgrep -fc '^(/bin/)?sleep {n}') -lt 5 ]; do sleep 0.01; done;"
    " echo begun; sleep {n}"
)
MEMORY = 512 * 1024 * 1024


async def _crash(name: str, state: Path, script: str, *limit: str) -> Process:
    """Start a worker, kill it once its command runs, and wait for its death."""
    source = os.pathsep.join(path for path in sys.path if path)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, name, state, script, *limit, stdout=PIPE, env={**os.environ, "PYTHONPATH": source}
    )
    assert worker.stdout is not None
    async with asyncio.timeout(GENEROUS_S):
        assert b"begun" in await worker.stdout.readline()
    worker.kill()
    await worker.wait()
    return worker


@pytest.mark.covers("workspace.cleanup")
async def test_a_sweep_ends_and_removes_all_that_a_killed_worker_left(real_executor: Executor, state: Path) -> None:
    seconds = unique_sleep()
    await _crash(real_executor.name, state, DAEMONS.format(n=seconds))

    swept = await real_executor.sweep()

    assert swept >= 1
    assert processes_with(seconds) == []
    assert os.listdir(state / "workspaces") == []
    assert await real_executor.sweep() == 0


async def test_the_command_dies_with_its_worker_without_any_sweep(real_executor: Executor, state: Path) -> None:
    seconds = unique_sleep()
    await _crash(real_executor.name, state, f"echo begun; exec sleep {seconds}")

    await become_true(lambda: processes_with(seconds) == [])

    await real_executor.sweep()


async def test_a_sweep_removes_the_cgroups_of_a_killed_worker(real_executor: Executor, state: Path) -> None:
    cgroups = find_cgroups(identify(state))
    if cgroups is None or not cgroups.enforces("memory"):
        pytest.skip("no writable cgroups")
    await _crash(real_executor.name, state, f"echo begun; sleep {unique_sleep()}", str(MEMORY))
    assert [folder for folder in cgroups.parents["memory"].iterdir() if folder.is_dir()] != []

    await real_executor.sweep()

    assert [folder for folder in cgroups.parents["memory"].iterdir() if folder.is_dir()] == []


async def test_the_networks_of_a_killed_worker_end_by_themselves(sandbox: Executor, state: Path) -> None:
    worker = await _crash("sandbox", state, f"echo begun; sleep {unique_sleep()}")
    marker = f"BUILDYARD_MARKER={identify(state).state}:{worker.pid}.".encode()

    await become_true(lambda: not _processes_marked(marker))

    await sandbox.sweep()


async def test_a_sweep_of_scripted_work_removes_its_folder(state: Path) -> None:
    from buildyard.adapters.executors.dummy import DummyExecutor

    await _crash("dummy", state, "print begun\nhang")

    assert await DummyExecutor(state).sweep() == 1

    assert os.listdir(state / "workspaces") == []


async def test_a_sweep_of_a_folder_never_used_finds_nothing(executor: Executor) -> None:
    assert await executor.sweep() == 0


def _processes_marked(start: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(variable.startswith(start) for variable in variables):
                found.append(int(name))
    return found
