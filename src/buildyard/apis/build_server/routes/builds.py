"""Builds, their steps and artifacts."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.build_server import mapping, requests, schemas
from buildyard.apis.build_server.routes.api import Api, answer
from buildyard.apis.user_bytes import Beyond, Stored, serve_bytes
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import Sha256
from buildyard.engine import build_lists, builds

PAGE = 20
MOST = 100
MOST_ARTIFACTS = 1000


class BuildRoutes:
    """The handlers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._engine = api.engine

    async def list_of_project(self, request: Request) -> Response:
        """`GET /api/projects/{id}/builds`."""
        actor = await self._api.actor(request)
        project = requests.uid(request.path_params["id"], "project")
        page = requests.page(request.query_params, default=PAGE, most=MOST)
        views, total = await self._engine.read(builds.list_builds, actor, project, limit=page.limit, offset=page.offset)
        return answer(mapping.builds(views, page, total))

    async def create(self, request: Request) -> Response:
        """`POST /api/projects/{id}/builds`."""
        actor = await self._api.actor(request)
        project = requests.uid(request.path_params["id"], "project")
        policy = self._engine.policy
        wanted = await self._api.json(request, partial(requests.build, allow_local=policy.allow_local_sources))
        self._engine.require_space()
        view = await self._engine.run(
            builds.submit_build,
            actor,
            project,
            requests.uid(wanted.workflow, "workflow"),
            wanted.submission,
            queue_limit=policy.queue_limit,
        )
        return answer(mapping.build(view), 201)

    async def list_all(self, request: Request) -> Response:
        """`GET /api/builds`."""
        actor = await self._api.actor(request)
        page = requests.page(request.query_params, default=PAGE, most=MOST)
        views, total = await self._engine.read(
            build_lists.list_visible_builds, actor, limit=page.limit, offset=page.offset
        )
        return answer(mapping.builds(views, page, total))

    async def get(self, request: Request) -> Response:
        """`GET /api/builds/{id}`."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "build")
        return answer(mapping.whole_build(await self._engine.read(builds.get_build, actor, uid)))

    async def list_steps(self, request: Request) -> Response:
        """`GET /api/builds/{id}/steps`."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "build")
        found = await self._engine.read(builds.list_jobs, actor, uid)
        return answer(schemas.Steps(steps=[mapping.step(one, uid) for one in found]))

    async def list_artifacts(self, request: Request) -> Response:
        """`GET /api/builds/{id}/artifacts`."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "build")
        query = request.query_params
        limit = requests.page(query, default=MOST, most=MOST_ARTIFACTS).limit
        after = requests.page({"offset": query.get("cursor", "0")}, default=0, most=0).offset
        found = await self._engine.read(builds.list_artifacts, actor, uid, after=after, limit=limit)
        return answer(mapping.artifacts(found, uid, limit))

    async def cancel(self, request: Request) -> Response:
        """`POST /api/builds/{id}/cancel`."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "build")
        reason = await self._api.json(request, requests.reason)
        view = await self._engine.run(builds.cancel_build, actor, uid, reason=reason)
        return answer(mapping.whole_build(view))

    async def retry(self, request: Request) -> Response:
        """`POST /api/builds/{id}/retry`: a new build."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "build")
        reason = await self._api.json(request, requests.reason)
        limit = self._engine.policy.queue_limit
        self._engine.require_space()
        view = await self._engine.run(builds.rebuild_build, actor, uid, reason=reason, queue_limit=limit)
        return answer(mapping.whole_build(view), 201)

    async def get_artifact(self, request: Request) -> Response:
        """`GET /api/artifacts/{id}`: its bytes."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "artifact")
        found = await self._engine.read(builds.get_artifact, actor, uid)
        sha256 = Sha256(found.sha256)
        stored = Stored(
            size=await self._size(sha256),
            read=partial(self._engine.blobs.read, sha256),
            key=sha256,
            filename=found.path.rsplit("/", 1)[-1],
            modified_at=found.created_at,
        )
        return serve_bytes(request, stored, beyond=Beyond.WHOLE)

    async def _size(self, sha256: Sha256) -> int:
        try:
            return await self._engine.blobs.size(sha256)
        except NotFound:
            raise NotFound("the artifact's bytes are no longer kept") from None
