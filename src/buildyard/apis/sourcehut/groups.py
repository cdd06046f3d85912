"""Job groups: collect, look at, start, cancel."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.sourcehut import bodies, mapping
from buildyard.apis.sourcehut.auth import READ, WRITE, actor_with
from buildyard.apis.sourcehut.config import SourcehutConfig
from buildyard.apis.sourcehut.jobs import answer, id_in
from buildyard.domain.ids import GroupId
from buildyard.engine import build_groups
from buildyard.engine.engine import Engine


class GroupRoutes:
    """The handlers."""

    def __init__(self, engine: Engine, config: SourcehutConfig) -> None:
        self._engine = engine
        self._config = config

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/api/job-group", self.create, methods=["POST"]),
            Route("/api/job-group/{id}", self.get, methods=["GET"]),
            Route("/api/job-group/{id}/start", self.start, methods=["POST"]),
            Route("/api/job-group/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """`POST /api/job-group`."""
        actor = await actor_with(self._engine, request, WRITE)
        fields = await bodies.fields_of(request, self._config.body_bytes)
        allow_local = self._engine.policy.allow_local_sources
        wanted = bodies.new_group(fields, allow_local=allow_local)
        return answer(
            mapping.group(await self._engine.run(build_groups.create_group, actor, wanted, allow_local=allow_local))
        )

    async def get(self, request: Request) -> Response:
        """`GET /api/job-group/:id`."""
        actor = await actor_with(self._engine, request, READ)
        return answer(mapping.group(await self._engine.read(build_groups.get_group, actor, GroupId(id_in(request)))))

    async def start(self, request: Request) -> Response:
        """`POST /api/job-group/:id/start`."""
        actor = await actor_with(self._engine, request, WRITE)
        return answer(mapping.group(await self._engine.run(build_groups.start_group, actor, GroupId(id_in(request)))))

    async def cancel(self, request: Request) -> Response:
        """`POST /api/job-group/:id/cancel`."""
        actor = await actor_with(self._engine, request, WRITE)
        return answer(mapping.group(await self._engine.run(build_groups.cancel_group, actor, GroupId(id_in(request)))))
