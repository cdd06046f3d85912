"""Terminals in a job's container: each an `exec` of the engine with a terminal, as the keeper cannot give one."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

from buildyard.adapters.containers.engine import Connection, ContainerEngine, path_of
from buildyard.adapters.executors.container_running import exit_status_of
from buildyard.domain.errors import EngineError, Unavailable
from buildyard.domain.states import Cause, Result, Stream
from buildyard.ports import Exit

_GRACE_S = 1.0
_DEAD_S = 10.0


class ContainerTerminal:
    """Implements `ports.Terminal`. `gone` is told once nothing of the program is connected any more."""

    def __init__(
        self,
        engine: ContainerEngine,
        execution: str,
        connection: Connection,
        gone: Callable[["ContainerTerminal"], None],
    ) -> None:
        self._engine = engine
        self._execution = execution
        self._connection = connection
        self._output: AsyncIterator[tuple[Stream, bytes]] = connection.output()
        self._gone = gone
        self._why = ""
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._ending: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        """See `ports.Terminal`."""
        if self._exit.done():
            return b""
        try:
            async for _, data in self._output:
                return data
        except Unavailable as exc:
            self._why = self._why or str(exc)
        await self._end()
        return b""

    async def write(self, data: bytes) -> None:
        """See `ports.Terminal`."""
        if not self._exit.done():
            with contextlib.suppress(Unavailable):
                await self._connection.write(data)

    async def resize(self, rows: int, columns: int) -> None:
        """See `ports.Terminal`."""
        with contextlib.suppress(EngineError):
            await self._engine.call("POST", path_of("exec", self._execution, "resize", h=rows, w=columns))

    async def ended(self) -> Exit:
        """See `ports.Terminal`."""
        return await asyncio.shield(self._exit)

    async def hang_up(self, why: str) -> None:
        """See `ports.Terminal`. What the program put into the background ends with the step or the workspace."""
        if not self._exit.done():
            self._why = self._why or why
            with contextlib.suppress(EngineError):
                await self._kill()
            await self._end()

    async def _kill(self) -> None:
        """The engine knows the program's process on this machine; it is told that its terminal is gone, then killed."""
        found = await self._engine.call("GET", path_of("exec", self._execution, "json"))
        if not found["Running"] or not found.get("Pid"):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            pidfd = os.pidfd_open(int(found["Pid"]))
            try:
                for number, patience in ((signal.SIGHUP, _GRACE_S), (signal.SIGKILL, _DEAD_S)):
                    signal.pidfd_send_signal(pidfd, number)
                    if await _dies(pidfd, patience):
                        return
            finally:
                os.close(pidfd)

    async def _end(self) -> None:
        """Learn how the program ended and let go of the connection; once for all who ask."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._let_go())
        await asyncio.shield(self._ending)

    async def _let_go(self) -> None:
        try:
            status = await exit_status_of(self._engine, self._execution)
            result = Result.FAILURE if status else Result.SUCCESS
            ended = Exit(status=status, result=result)
        except EngineError as exc:
            ended = Exit(status=137, result=Result.ERROR, cause=Cause.EXECUTOR, detail=str(exc))
        if self._why:
            ended = Exit(status=ended.status, result=Result.CANCELLED, detail=self._why)
        self._connection.close()
        self._exit.set_result(ended)
        self._gone(self)


async def _dies(pidfd: int, seconds: float) -> bool:
    """Whether a process ends within so many seconds."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True
