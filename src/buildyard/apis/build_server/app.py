"""The Build Server API as one application: which handler answers which method of which path."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.build_server.auth import BuildServerConfig, Guard
from buildyard.apis.build_server.errors import on_engine_error, on_http_error, on_unforeseen
from buildyard.apis.build_server.routes.api import Api
from buildyard.apis.build_server.routes.builds import BuildRoutes
from buildyard.apis.build_server.routes.docs import DocsRoutes
from buildyard.apis.build_server.routes.images import AuditRoutes, ImageRoutes
from buildyard.apis.build_server.routes.projects import ProjectRoutes
from buildyard.apis.build_server.routes.runner import RunnerRoutes
from buildyard.apis.build_server.routes.steps import StepRoutes
from buildyard.domain.errors import EngineError
from buildyard.engine.engine import Engine

Handler = Callable[[Request], Awaitable[Response]]

PATHS = (
    "/api/projects",
    "/api/docker-images",
    "/api/runner",
    "/api/audit-logs",
    "/api/builds",
    "/api/steps",
    "/api/artifacts",
    "/api/openapi.json",
    "/docs",
)
"""What this API owns, for the dispatcher; it also answers 404 for unowned paths below `/api`."""


def _handlers(api: Api) -> dict[str, dict[str, Handler]]:
    projects, builds, steps = ProjectRoutes(api), BuildRoutes(api), StepRoutes(api)
    images, audit, runner, docs = ImageRoutes(api), AuditRoutes(api), RunnerRoutes(api), DocsRoutes(api)
    return {  # in the order in which they are tried: first what pollers ask for
        "/api/builds/{id}": {"GET": builds.get},
        "/api/builds": {"GET": builds.list_all},
        "/api/builds/{id}/steps": {"GET": builds.list_steps},
        "/api/builds/{id}/artifacts": {"GET": builds.list_artifacts},
        "/api/builds/{id}/cancel": {"POST": builds.cancel},
        "/api/builds/{id}/retry": {"POST": builds.retry},
        "/api/steps/{id}": {"GET": steps.get},
        "/api/steps/{id}/logs": {"GET": steps.get_log},
        "/api/artifacts/{id}": {"GET": builds.get_artifact},
        "/api/projects": {"GET": projects.list_projects, "POST": projects.create_project},
        "/api/projects/{id}/workflows": {"GET": projects.list_workflows, "POST": projects.create_workflow},
        "/api/projects/{id}/workflows/{workflowId}": {"GET": projects.get_workflow},
        "/api/projects/{id}/builds": {"GET": builds.list_of_project, "POST": builds.create},
        "/api/docker-images": {"GET": images.list_images, "POST": images.create_image},
        "/api/runner/claim": {"POST": runner.claim_next},
        "/api/runner/{stepId}": {"GET": runner.script},
        "/api/runner/{stepId}/claim": {"POST": runner.claim},
        "/api/runner/{stepId}/revision": {"POST": runner.pin},
        "/api/runner/{stepId}/complete": {"POST": runner.complete},
        "/api/runner/{stepId}/logs": {"POST": runner.add_log},
        "/api/runner/{stepId}/artifacts/{path:path}": {"PUT": runner.put_output},
        "/api/runner/{stepId}/inputs": {"GET": runner.get_inputs},
        "/api/runner/{stepId}/source": {"GET": runner.get_source},
        "/api/runner/{stepId}/caches": {"GET": runner.get_cache, "PUT": runner.put_cache},
        "/api/audit-logs": {"GET": audit.list_entries},
        "/api/openapi.json": {"GET": docs.document},
        "/docs/openapi.json": {"GET": docs.document},
        "/docs": {"GET": docs.page},
    }


def _route(path: str, handlers: dict[str, Handler]) -> Route:
    """One route for all methods of a path, so that 405 and OPTIONS name them all."""
    allowed = [*handlers, "OPTIONS"] + (["HEAD"] if "GET" in handlers else [])

    async def serve(request: Request) -> Response:
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            return Response(status_code=204, headers={"allow": ", ".join(sorted(allowed))})
        return await handler(request)

    return Route(path, serve, methods=allowed)


def build_server_app(engine: Engine, config: BuildServerConfig) -> Starlette:
    """The application; it also answers for what nobody owns below `/api`, which is all if it is switched off."""
    handlers = _handlers(Api(engine, config)) if config.enabled else {}
    app = Starlette(
        routes=[_route(path, methods) for path, methods in handlers.items()],
        middleware=[Middleware(Guard, config=config)],
        exception_handlers={
            EngineError: on_engine_error,
            HTTPException: on_http_error,
            Exception: on_unforeseen,
        },
    )
    app.router.redirect_slashes = False
    return app
