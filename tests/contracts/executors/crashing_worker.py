"""A worker to be killed: opens a workspace, starts a command that hangs, and says on its output when that runs.

Usage: python crashing_worker.py EXECUTOR STATE SCRIPT [MEMORY_BYTES]
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from buildyard.adapters.executors.container import ContainerExecutor, ContainerOptions
from buildyard.adapters.executors.dummy import DummyExecutor
from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.executors.sandbox import SandboxExecutor
from buildyard.domain.specs import Limits
from buildyard.domain.states import Stream
from buildyard.ports import Command, Executor, WorkspaceRequest


def _pass_on(_stream: Stream, data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


async def _work(name: str, state: Path, script: str, memory_bytes: int | None) -> None:
    executors: dict[str, Callable[[Path], Executor]] = {
        "process": ProcessExecutor,
        "sandbox": SandboxExecutor,
        "dummy": DummyExecutor,
        "container": lambda state: ContainerExecutor(
            state, ContainerOptions(address=os.environ["TEST_CONTAINER_HOST"], image="localhost/buildyard-test:latest")
        ),
    }
    executor = executors[name](state)
    request = WorkspaceRequest(key="crash", marker="crash", limits=Limits(memory_bytes=memory_bytes))
    workspace = await executor.open(request)
    (workspace.folder / "s").write_text(script)
    await workspace.run(Command(argv=("bash", "s")), _pass_on)


if __name__ == "__main__":
    limit = int(sys.argv[4]) if len(sys.argv) > 4 else None
    asyncio.run(_work(sys.argv[1], Path(sys.argv[2]), sys.argv[3], limit))
