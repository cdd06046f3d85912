"""Jobs: submit, list, look at, start, cancel."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from buildyard.apis.sourcehut import bodies, mapping
from buildyard.apis.sourcehut.auth import READ, WRITE, actor_with, anyone
from buildyard.apis.sourcehut.config import SourcehutConfig
from buildyard.apis.sourcehut.schemas import encode
from buildyard.apis.user_bytes import USER_BYTES
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId
from buildyard.engine import job_sheets, manifest_jobs
from buildyard.engine.engine import Engine


def answer(body: object) -> Response:
    """An answer with status 200; what it holds may be another thing in a moment."""
    return Response(encode(body), headers={"cache-control": "no-store"}, media_type="application/json")


def id_in(request: Request) -> int:
    """The number in an address; NotFound for what cannot be one."""
    given: str = request.path_params["id"]
    if not (given.isascii() and given.isdecimal() and len(given) <= 10 and int(given) <= bodies.LARGEST_ID):
        raise NotFound("job not found")
    return int(given)


class JobRoutes:
    """The handlers."""

    def __init__(self, engine: Engine, config: SourcehutConfig) -> None:
        self._engine = engine
        self._config = config

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/api/jobs", self.serve_all, methods=["GET", "POST"]),
            Route("/api/jobs/{id}", self.get, methods=["GET"]),
            Route("/api/jobs/{id}/artifacts", self.list_artifacts, methods=["GET"]),
            Route("/api/jobs/{id}/manifest", self.get_manifest, methods=["GET"]),
            Route("/api/jobs/{id}/start", self.start, methods=["POST"]),
            Route("/api/jobs/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    @property
    def _base(self) -> str:
        return self._engine.policy.public_url

    async def serve_all(self, request: Request) -> Response:
        """Both methods of one address, so that 405 names them all."""
        return await (self.submit if request.method == "POST" else self.list_jobs)(request)

    async def list_jobs(self, request: Request) -> Response:
        """`GET /api/jobs`."""
        actor = await actor_with(self._engine, request, READ)
        page, sheets = await self._engine.read(
            job_sheets.show_own_jobs,
            actor,
            start=bodies.start_of(request),
            limit=manifest_jobs.PAGE,
            manifests_only=self._config.own_only,
        )
        return answer(mapping.jobs(sheets, page.next, page.total, self._base))

    async def submit(self, request: Request) -> Response:
        """`POST /api/jobs`."""
        actor = await actor_with(self._engine, request, WRITE)
        fields = await bodies.fields_of(request, self._config.body_bytes)
        wanted = bodies.new_job(fields, allow_local=self._engine.policy.allow_local_sources)
        view = await manifest_jobs.submit_manifest(self._engine, actor, wanted)
        sheet = await self._engine.read(job_sheets.show_job, actor, view.build.id)
        return answer(mapping.submitted(sheet, self._base))

    async def get(self, request: Request) -> Response:
        """`GET /api/jobs/:id`."""
        actor = await actor_with(self._engine, request, READ)
        sheet = await self._engine.read(job_sheets.show_job, actor, BuildId(id_in(request)))
        return answer(mapping.job(sheet, self._base))

    async def list_artifacts(self, request: Request) -> Response:
        """`GET /api/jobs/:id/artifacts`."""
        actor = await actor_with(self._engine, request, READ)
        view, found = await self._engine.read(job_sheets.show_artifacts, actor, BuildId(id_in(request)))
        return answer(mapping.artifacts(found, self._base, view.build.id))

    async def get_manifest(self, request: Request) -> Response:
        """`GET /api/jobs/:id/manifest`: text, also for those without a token if everybody may read the job."""
        actor = await anyone(self._engine, request)
        text = await self._engine.read(job_sheets.show_manifest, actor, BuildId(id_in(request)))
        return PlainTextResponse(text, headers={**USER_BYTES, "cache-control": "no-store"})

    async def start(self, request: Request) -> Response:
        """`POST /api/jobs/:id/start`."""
        actor = await actor_with(self._engine, request, WRITE)
        mapping.check_started(await self._engine.run(manifest_jobs.start_job, actor, BuildId(id_in(request))))
        return answer({})

    async def cancel(self, request: Request) -> Response:
        """`POST /api/jobs/:id/cancel`; one that has ended stays as it is."""
        actor = await actor_with(self._engine, request, WRITE)
        await self._engine.run(manifest_jobs.cancel_job, actor, BuildId(id_in(request)))
        return answer({})
