"""Logs and artifacts as files at stable addresses: for `curl`, for browsers, and for clients that ask by range."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.http import client_of
from buildyard.apis.sourcehut.addresses import name_in
from buildyard.apis.user_bytes import TEXT, Beyond, Stored, serve_bytes
from buildyard.domain.access import Actor
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, Sha256
from buildyard.engine import builds, log_reading, task_logs
from buildyard.engine.engine import Engine
from buildyard.engine.log_reading import JobLog
from buildyard.engine.sign_in import PasswordGate, authenticate

LARGEST_ID = 2**31 - 1


class FileRoutes:
    """The handlers; they answer also those who send no token, with what everybody may see."""

    def __init__(self, engine: Engine, gate: PasswordGate) -> None:
        self._engine = engine
        self._gate = gate

    async def _actor(self, request: Request) -> Actor:
        ip, agent = client_of(request)
        return await authenticate(self._engine, self._gate, request.headers.get("authorization"), ip=ip, agent=agent)

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/logs/{build}/log", self.get_setup_log),
            Route("/logs/{build}/{task:path}/log", self.get_task_log),
            Route("/logs/{build}/artifacts/{artifact}/{name:path}", self.get_artifact),
        ]

    async def get_setup_log(self, request: Request) -> Response:
        """`GET /logs/:id/log`."""
        actor, build = await self._actor(request), build_id(request)
        return await self._log(request, build, await self._engine.read(task_logs.get_setup_log, actor, build))

    async def get_task_log(self, request: Request) -> Response:
        """`GET /logs/:id/:task/log`."""
        actor, build = await self._actor(request), build_id(request)
        task = name_in(request.path_params["task"])
        return await self._log(request, build, await self._engine.read(task_logs.get_task_log, actor, build, task))

    async def _log(self, request: Request, build: BuildId, log: JobLog | None) -> Response:
        sections = await log_reading.measure(self._engine, log) if log is not None else []
        stored = Stored(
            size=sections[-1].stop if sections else 0,
            read=partial(log_reading.read_sections, self._engine, sections),
            key=f"log-{build}",
            media=TEXT,
            appended=True,
            growing=log is None or not log.over,
        )
        return serve_bytes(request, stored, beyond=Beyond.NOTHING)

    async def get_artifact(self, request: Request) -> Response:
        """`GET /logs/:id/artifacts/:uid/:name`; the name is there for whoever saves it."""
        actor, build = await self._actor(request), build_id(request)
        artifact = await self._engine.read(builds.get_artifact, actor, request.path_params["artifact"])
        if artifact.build != build:
            raise NotFound("artifact not found")
        sha256 = Sha256(artifact.sha256)
        stored = Stored(
            size=await self._size(sha256),
            read=partial(self._engine.blobs.read, sha256),
            key=sha256,
            filename=artifact.path.rpartition("/")[2],
            modified_at=artifact.created_at,
        )
        return serve_bytes(request, stored)

    async def _size(self, sha256: Sha256) -> int:
        try:
            return await self._engine.blobs.size(sha256)
        except NotFound:
            raise NotFound("the artifact's bytes are no longer kept") from None


def build_id(request: Request) -> BuildId:
    """The job's number in an address; raises NotFound for what cannot be one."""
    given: str = request.path_params["build"]
    if not (given.isascii() and given.isdecimal() and len(given) <= 10 and int(given) <= LARGEST_ID):
        raise NotFound("job not found")
    return BuildId(int(given))
