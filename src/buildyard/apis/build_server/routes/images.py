"""Docker images and the audit log."""

from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.build_server import mapping, requests
from buildyard.apis.build_server.routes.api import Api, answer
from buildyard.engine import audit, build_lists, images

MOST_ENTRIES = 1000
ENTRIES = 100


class ImageRoutes:
    """The handlers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._engine = api.engine

    async def list_images(self, request: Request) -> Response:
        """`GET /api/docker-images`."""
        actor = await self._api.actor(request)
        public = requests.flag(request.query_params, "public")
        found = await self._engine.read(images.list_images, actor, public=public)
        return answer([mapping.image(one) for one in found])

    async def create_image(self, request: Request) -> Response:
        """`POST /api/docker-images`."""
        actor = await self._api.actor(request)
        wanted = await self._api.json(request, requests.image)
        made = await self._engine.run(
            images.create_image, actor, slug=wanted.slug, url=wanted.url, public=wanted.public
        )
        return answer(mapping.image(made), 201)


class AuditRoutes:
    """The handler of the audit log."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._engine = api.engine

    async def list_entries(self, request: Request) -> Response:
        """`GET /api/audit-logs`."""
        actor = await self._api.actor(request)
        query = request.query_params
        page = requests.page(query, default=ENTRIES, most=MOST_ENTRIES)
        action, project = requests.words(query, "action"), requests.words(query, "projectId")
        if project is None:
            found, total = await self._engine.read(
                build_lists.list_visible_audit, actor, action=action, limit=page.limit, offset=page.offset
            )
        else:
            found, total = await self._engine.read(
                audit.list_audit,
                actor,
                project_uid=requests.uid(project, "project"),
                action=action,
                limit=page.limit,
                offset=page.offset,
            )
        return answer(mapping.audit_logs(found, page, total))
