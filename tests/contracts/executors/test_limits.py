"""Limits on memory, processes and CPU: they hold, and what hit one is told."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildyard.adapters.executors.cgroups import Cgroups, find_cgroups
from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.executors.trees import identify
from buildyard.domain.specs import Limits
from buildyard.domain.states import Cause, Result
from buildyard.ports import Executor, Workspace, WorkspaceRequest
from contracts.executors.watching import Listener, run
from needs import need

MIB = 1024 * 1024
EAT_200_MIB = "head -c 200M /dev/zero | tail | wc -c"


@pytest.fixture
def cgroups(state: Path) -> Cgroups:
    """The cgroups that this user may make."""
    found = find_cgroups(identify(state))
    need(found and found.enforces("memory") and found.enforces("pids"), "writable cgroups for memory and pids")
    assert found is not None
    return found


@pytest.fixture
async def limited(real_executor: Executor, cgroups: Cgroups) -> AsyncIterator[Workspace]:
    """A workspace with 64 MiB and 20 processes."""
    limits = Limits(memory_bytes=64 * MIB, pids=20)
    workspace = await real_executor.open(WorkspaceRequest(key="limited", marker="m", limits=limits))
    yield workspace
    await workspace.close()


@pytest.mark.covers("executors.limits.memory")
async def test_the_memory_limit_ends_a_command_and_is_named(limited: Workspace) -> None:
    ended = await run(limited, f"set -o pipefail; {EAT_200_MIB}")

    assert (ended.result, ended.cause) == (Result.FAILURE, Cause.MEMORY_LIMIT)
    assert ended.detail == "memory limit of 64 MiB reached"


@pytest.mark.covers("executors.limits.pids")
async def test_the_process_limit_fails_a_command_and_is_named(limited: Workspace, heard: Listener) -> None:
    ended = await run(limited, "sh -c 'for i in $(seq 100); do sleep 100 & done; echo all'", heard)

    assert (ended.result, ended.cause) == (Result.FAILURE, Cause.PIDS_LIMIT)
    assert ended.detail == "limit of 20 processes reached"
    assert heard.text == ""


async def test_a_command_within_its_limits_is_untouched(limited: Workspace, heard: Listener) -> None:
    await run(limited, EAT_200_MIB)

    ended = await run(limited, "sleep 0.05 & sleep 0.05 & wait; head -c 5M /dev/zero | tail | wc -c; exit 7", heard)

    assert (ended.status, ended.cause, heard.text) == (7, Cause.NONE, str(5 * MIB))


@pytest.mark.covers("executors.limits.cpu")
async def test_less_than_a_cpu_is_what_a_job_gets(real_executor: Executor, cgroups: Cgroups, heard: Listener) -> None:
    need(cgroups.enforces("cpu"), "writable cgroups for cpu")
    workspace = await real_executor.open(WorkspaceRequest(key="slow", marker="m", limits=Limits(cpus=0.2)))

    await run(workspace, "timeout 1 sh -c 'while :; do :; done' || true; times", heard)

    assert _children_seconds(heard.text) < 0.6
    await workspace.close()


def _children_seconds(times: str) -> float:
    """User and system time of the children, from the second line of the shell's `times`."""
    total = 0.0
    for word in times.splitlines()[1].split():
        minutes, _, seconds = word.rstrip("s").partition("m")
        total += 60 * int(minutes) + float(seconds)
    return total


async def test_closing_removes_the_cgroups(real_executor: Executor, cgroups: Cgroups) -> None:
    limits = Limits(memory_bytes=64 * MIB, pids=20, cpus=1)
    workspace = await real_executor.open(WorkspaceRequest(key="limited", marker="m", limits=limits))
    await run(workspace, "(setsid sleep 1000 &)")
    groups = [parent / name for parent in set(cgroups.parents.values()) for name in os.listdir(parent)]
    assert [group for group in groups if group.is_dir()] != []

    await workspace.close()

    assert [group for group in groups if group.is_dir()] == []


async def test_without_cgroups_memory_is_limited_all_the_same(state: Path) -> None:
    executor = ProcessExecutor(state, use_cgroups=False)
    workspace = await executor.open(WorkspaceRequest(key="k", marker="m", limits=Limits(memory_bytes=64 * MIB)))

    ended = await run(workspace, f"set -o pipefail; {EAT_200_MIB}")

    assert ended.result is Result.FAILURE
    await workspace.close()
    await executor.close()


@pytest.mark.covers("executors.limits.cpu")
async def test_without_cgroups_a_job_is_bound_to_its_number_of_cpus(state: Path, heard: Listener) -> None:
    executor = ProcessExecutor(state, use_cgroups=False)
    workspace = await executor.open(WorkspaceRequest(key="k", marker="m", limits=Limits(cpus=0.5)))

    await run(workspace, "sleep 0.1; nproc", heard)

    assert heard.text == "1"
    await workspace.close()
    await executor.close()


async def test_the_probe_says_how_limits_are_held(real_executor: Executor, cgroups: Cgroups) -> None:
    notes = (await real_executor.probe()).notes

    assert any(note.startswith("limits by cgroup") for note in notes)
