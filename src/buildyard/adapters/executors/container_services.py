"""Side services of a job: containers beside its own, in its network, each with its output passed on."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from buildyard.adapters.containers.engine import Connection, ContainerEngine, path_of
from buildyard.adapters.containers.images import Image
from buildyard.domain.errors import Conflict, EngineError, Unavailable
from buildyard.domain.states import Stream
from buildyard.ports import ServiceRequest

_PAUSE_S = 0.3
_ENDED_S = 5.0

Remove = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class _Service:
    request: ServiceRequest
    container: str
    connection: Connection | None = None
    listening: asyncio.Task[None] | None = None


class Services:
    """The services of one job. `host` is what all of their containers have in common."""

    def __init__(self, engine: ContainerEngine, remove: Remove, common: dict[str, Any], labels: dict[str, str]) -> None:
        self._engine = engine
        self._remove = remove
        self._common = common
        self._labels = labels
        self._started: list[_Service] = []
        self._owed: list[str] = []

    async def start(self, request: ServiceRequest, image: Image, container: str) -> None:
        """Start one. Raises Unavailable if it cannot be."""
        service = _Service(request, container)
        self._started.append(service)
        request.begun()
        body = {
            "Image": image.id,
            **({"Cmd": list(request.command)} if request.command else {}),
            "Env": [f"{name}={value}" for name, value in request.environment.items()],
            "Labels": self._labels,
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": self._common,
        }
        try:
            await self._engine.call("POST", path_of("containers", "create", name=container), body)
            stream = path_of("containers", container, "attach", stream=1, stdout=1, stderr=1)
            service.connection = await self._engine.upgrade(stream)
            service.listening = asyncio.create_task(_pass_on(service.connection, request))
            await self._engine.call("POST", path_of("containers", container, "start"))
        except EngineError as exc:
            raise Unavailable(f"service {request.name} cannot be started: {exc}") from exc

    async def ready(self) -> None:
        """Wait until all are ready. Raises Unavailable, with the name, if one ends or takes too long."""
        waiting = [asyncio.ensure_future(self._ready(service)) for service in self._started]
        try:
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _ready(self, service: _Service) -> None:
        request = service.request
        try:
            async with asyncio.timeout(request.ready_s):
                while True:
                    status = await self._status(service)
                    if status is not None:
                        raise Unavailable(f"service {request.name} ended with status {status} before it was ready")
                    with suppress(Conflict, Unavailable):  # it has just ended: its status says so in the next round
                        if not request.ready or await self._answers(service):
                            return
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError as exc:
            raise Unavailable(f"service {request.name} was not ready within {request.ready_s} s") from exc

    async def _status(self, service: _Service) -> int | None:
        """The exit status of a service that has ended."""
        state = (await self._engine.call("GET", path_of("containers", service.container, "json")))["State"]
        return None if state["Running"] else int(state["ExitCode"])

    async def _answers(self, service: _Service) -> bool:
        """Whether the script that says so finds the service ready; what it prints is no part of the log."""
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["/bin/sh", "-c", service.request.ready]}
        made = await self._engine.call("POST", path_of("containers", service.container, "exec"), body)
        connection = await self._engine.upgrade(path_of("exec", made["Id"], "start"), {"Detach": False, "Tty": False})
        try:
            async for _ in connection.output():
                pass
        finally:
            connection.close()
        found = await self._engine.call("GET", path_of("exec", made["Id"], "json"))
        return not found["Running"] and found.get("ExitCode") == 0

    async def stop(self) -> None:
        """End and remove all, and say of each how it ended. What an engine that is away keeps, another call removes."""
        services, self._started = self._started, []
        owed, self._owed = self._owed, []
        await asyncio.gather(
            *(self._stop(service) for service in services), *(self._remove_container(container) for container in owed)
        )

    async def _remove_container(self, container: str) -> None:
        try:
            await self._remove(container)
        except EngineError:
            self._owed.append(container)
            raise

    async def _stop(self, service: _Service) -> None:
        status: int | None = None
        try:
            with suppress(EngineError):
                status = await self._status(service)
            await self._remove_container(service.container)
        finally:
            if service.listening is not None:
                await asyncio.wait({service.listening}, timeout=_ENDED_S)
                service.listening.cancel()
            if service.connection is not None:
                service.connection.close()
            service.request.ended(status)


async def _pass_on(connection: Connection, request: ServiceRequest) -> None:
    with suppress(Unavailable):
        async for stream, data in connection.output():
            request.output(stream if stream is Stream.ERROR else Stream.OUTPUT, data)
