"""Trying an executor for real."""

import secrets

from buildyard.domain.errors import EngineError
from buildyard.domain.specs import Limits
from buildyard.domain.states import Result, Stream
from buildyard.ports import Command, Executor, WorkspaceRequest

_PATIENCE_S = 20.0


async def try_true(executor: Executor, network: str = "default", limits: Limits | None = None) -> str:
    """Run `true` in a fresh workspace; why that failed, or nothing if it did not."""
    said = bytearray()

    def listen(_stream: Stream, data: bytes) -> None:
        said.extend(data[:1000])

    key = f"probe-{secrets.token_hex(8)}"
    request = WorkspaceRequest(key=key, marker=key, network=network, limits=limits or Limits())
    try:
        workspace = await executor.open(request)
        try:
            ended = await workspace.run(Command(argv=("true",), timeout_s=_PATIENCE_S), listen)
        finally:
            await workspace.close()
    except EngineError as exc:
        return str(exc)
    if ended.result is Result.SUCCESS:
        return ""
    return ended.detail or said.decode(errors="replace").strip() or f"true ended with status {ended.status}"
