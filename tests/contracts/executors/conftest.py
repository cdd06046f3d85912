"""The executors under the contract, each with a state folder of its own."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from buildyard.adapters.executors.container import ContainerExecutor, ContainerOptions
from buildyard.adapters.executors.dummy import DummyExecutor
from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.executors.sandbox import SandboxExecutor
from buildyard.ports import Executor, Workspace, WorkspaceRequest
from contracts.executors.watching import Listener
from needs import need
from podman import IMAGE, Podman

MAKE: dict[str, Callable[[Path], Executor]] = {
    "process": ProcessExecutor,
    "sandbox": SandboxExecutor,
    "dummy": DummyExecutor,
    "container": lambda state: ContainerExecutor(
        state, ContainerOptions(address=os.environ["TEST_CONTAINER_HOST"], image=IMAGE)
    ),
}


@pytest.fixture
def engine_if_needed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container engine for the tests of the executor `container`, whose address workers are told too."""
    if "[container" in request.node.name or "container]" in request.node.name or "-container-" in request.node.name:
        podman: Podman = request.getfixturevalue("podman")
        monkeypatch.setenv("TEST_CONTAINER_HOST", podman.address)


async def _opened(name: str, state: Path) -> AsyncIterator[Executor]:
    executor = MAKE[name](state)
    probe = await executor.probe()
    need(probe.usable, "; ".join(probe.missing))
    yield executor
    await executor.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a worker."""
    return tmp_path / "state"


@pytest.fixture(params=["process", "sandbox", "dummy", "container"])
async def executor(request: pytest.FixtureRequest, state: Path, engine_if_needed: None) -> AsyncIterator[Executor]:
    """Every executor."""
    async for each in _opened(request.param, state):
        yield each


@pytest.fixture(params=["process", "sandbox", "container"])
async def real_executor(request: pytest.FixtureRequest, state: Path, engine_if_needed: None) -> AsyncIterator[Executor]:
    """The executors that start processes."""
    async for each in _opened(request.param, state):
        yield each


@pytest.fixture
async def sandbox(state: Path) -> AsyncIterator[Executor]:
    """The sandbox alone."""
    async for each in _opened("sandbox", state):
        yield each


@pytest.fixture
async def workspace(executor: Executor) -> AsyncIterator[Workspace]:
    """A workspace of any executor."""
    opened = await executor.open(WorkspaceRequest(key="one", marker="attempt-1"))
    yield opened
    await opened.close()


@pytest.fixture
async def real_workspace(real_executor: Executor) -> AsyncIterator[Workspace]:
    """A workspace with real processes."""
    opened = await real_executor.open(WorkspaceRequest(key="one", marker="attempt-1"))
    yield opened
    await opened.close()


@pytest.fixture
async def sandboxed(sandbox: Executor) -> AsyncIterator[Workspace]:
    """A workspace in the sandbox."""
    opened = await sandbox.open(WorkspaceRequest(key="one", marker="attempt-1"))
    yield opened
    await opened.close()


@pytest.fixture
def heard() -> Listener:
    """What a command said."""
    return Listener()


@pytest.fixture
def as_root() -> None:
    """For tests of what only a root worker can do."""
    need(os.getuid() == 0, "root")
