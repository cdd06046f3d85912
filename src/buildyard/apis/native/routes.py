"""Routes of `/-/api/v1`: builds, logs, artifacts and uploads."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.http import stream_of
from buildyard.apis.native import (
    access,
    mapping,
    notifications,
    overview,
    queue,
    reports,
    retention,
    secrets,
    terminals,
    triggers,
    workers,
    yard,
)
from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.errors import on_engine_error, on_http_error
from buildyard.apis.native.schemas import MOST_BODY, M, decoded, number, whole
from buildyard.apis.terminals import Switchboard
from buildyard.apis.user_bytes import USER_BYTES, Stored, serve_bytes
from buildyard.client import messages
from buildyard.client.native import BASE, SEALED_HEADER
from buildyard.domain.access import Actor, require_runner
from buildyard.domain.errors import EngineError, NotFound
from buildyard.domain.ids import LogId, Sha256
from buildyard.engine import build_lists, builds, watching, workflows
from buildyard.engine.engine import Engine
from buildyard.engine.projects import find_project
from buildyard.engine.sign_in import PasswordGate
from buildyard.engine.uploads import store_upload
from buildyard.engine.yard_book import YardBook

if TYPE_CHECKING:
    from buildyard.store.builds import BuildView

MOST_ARTIFACTS = 10_000


def answer(message: msgspec.Struct, status: int = 200) -> Response:
    """A message as JSON, not to be kept by anybody."""
    return Response(msgspec.json.encode(message), status, {"cache-control": "no-store"}, media_type="application/json")


class BuildRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes
        self._readers = asyncio.Semaphore(workflows.READERS)

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def _decoded(self, request: Request, kind: type[M]) -> M:
        return await decoded(request, kind, limit=self._body_bytes)

    async def put_upload(self, request: Request) -> Response:
        """Keep a packed folder for the submission that follows."""
        actor = await self._actor(request)
        return answer(mapping.uploaded(await store_upload(self._engine, actor, stream_of(request))), 201)

    async def post_build(self, request: Request) -> Response:
        """Build a workflow."""
        actor = await self._actor(request)
        require_runner(actor)
        submission = await self._decoded(request, messages.Submission)
        view = await workflows.submit_workflow(self._engine, actor, mapping.handed_in(submission), self._readers)
        return answer(mapping.build(view), 201)

    async def list_builds(self, request: Request) -> Response:
        """The newest builds, of a project or of all."""
        actor = await self._actor(request)
        limit = whole(request, "limit", 20, low=1, high=1000)
        offset = whole(request, "offset", 0, low=0, high=2**31 - 1)
        slug = request.query_params.get("project", "")
        if not slug:
            views, _ = await self._engine.read(build_lists.list_visible_builds, actor, limit=limit, offset=offset)
        else:
            views = await self._builds_of(actor, slug, limit, offset)
        return answer(messages.Builds(builds=[mapping.build(view) for view in views]))

    async def _builds_of(self, actor: Actor, slug: str, limit: int, offset: int) -> "list[BuildView]":
        project = await self._engine.read(find_project, actor, slug)
        if project is None:
            raise NotFound(f"project {slug} not found")
        views, _ = await self._engine.read(builds.list_builds, actor, project.uid, limit=limit, offset=offset)
        return views

    async def get_build(self, request: Request) -> Response:
        """A build with its jobs; with `seen` and `wait`, once it is another than the one seen."""
        actor = await self._actor(request)
        seen = request.query_params.get("seen", "")
        wait = number(request, "wait", 0, low=0, high=3600)
        found = await watching.watch_tree(
            self._engine, actor, request.path_params["build"], lambda tree: mapping.tree(tree).seen != seen, wait
        )
        return answer(mapping.tree(found))

    async def cancel_build(self, request: Request) -> Response:
        """Ask for a stop."""
        actor = await self._actor(request)
        reason = (await self._decoded(request, messages.Reason)).reason
        found = await watching.find_build(self._engine, actor, request.path_params["build"])
        view = await self._engine.run(builds.cancel_build, actor, found.build.uid, reason=reason)
        return answer(mapping.build(view))

    async def retry_build(self, request: Request) -> Response:
        """Build the same once more."""
        actor = await self._actor(request)
        reason = (await self._decoded(request, messages.Reason)).reason
        found = await watching.find_build(self._engine, actor, request.path_params["build"])
        self._engine.require_space()
        view = await self._engine.run(
            builds.rebuild_build, actor, found.build.uid, reason=reason, queue_limit=self._engine.policy.queue_limit
        )
        return answer(mapping.build(view), 201)

    async def list_artifacts(self, request: Request) -> Response:
        """What a build kept."""
        actor = await self._actor(request)
        found = await watching.find_build(self._engine, actor, request.path_params["build"])
        pairs = await self._engine.read(builds.list_artifacts, actor, found.build.uid, limit=MOST_ARTIFACTS)
        return answer(messages.Artifacts(artifacts=[mapping.artifact(artifact, job) for artifact, job in pairs]))

    async def get_artifact(self, request: Request) -> Response:
        """A kept file's bytes."""
        actor = await self._actor(request)
        artifact = await self._engine.read(builds.get_artifact, actor, request.path_params["artifact"])
        stored = Stored(
            size=artifact.size,
            read=partial(self._engine.blobs.read, Sha256(artifact.sha256)),
            key=artifact.sha256,
            filename=artifact.path.rpartition("/")[2],
        )
        return serve_bytes(request, stored)

    async def get_log(self, request: Request) -> Response:
        """A part of a log."""
        actor = await self._actor(request)
        part = await watching.read_log_part(
            self._engine,
            actor,
            LogId(request.path_params["log"]),
            whole(request, "start", 0, low=0, high=2**53),
            number(request, "wait", 0, low=0, high=3600),
        )
        headers = {**USER_BYTES, SEALED_HEADER: "true" if part.sealed else "false", "cache-control": "no-store"}
        return Response(part.data, 200, headers, media_type="application/octet-stream")


def native_app(
    engine: Engine,
    gate: PasswordGate,
    book: YardBook | None = None,
    switchboard: Switchboard | None = None,
    *,
    body_bytes: int = MOST_BODY,
) -> Starlette:
    """The sub-application for `/-/api/v1`; a body may have `body_bytes`, and MOST_BODY at most."""
    limit = min(body_bytes, MOST_BODY)
    routes = BuildRoutes(engine, gate, limit)
    return Starlette(
        routes=[
            Route(f"{BASE}/uploads", routes.put_upload, methods=["PUT"]),
            Route(f"{BASE}/builds", routes.post_build, methods=["POST"]),
            Route(f"{BASE}/builds", routes.list_builds, methods=["GET"]),
            Route(f"{BASE}/builds/{{build}}", routes.get_build, methods=["GET"]),
            Route(f"{BASE}/builds/{{build}}/cancel", routes.cancel_build, methods=["POST"]),
            Route(f"{BASE}/builds/{{build}}/retry", routes.retry_build, methods=["POST"]),
            Route(f"{BASE}/builds/{{build}}/artifacts", routes.list_artifacts, methods=["GET"]),
            Route(f"{BASE}/artifacts/{{artifact}}", routes.get_artifact, methods=["GET"]),
            Route(f"{BASE}/logs/{{log:int}}", routes.get_log, methods=["GET"]),
            *access.access_routes(engine, gate, limit),
            *workers.worker_routes(engine, gate, limit),
            *overview.overview_routes(engine, gate),
            *reports.report_routes(engine, gate),
            *retention.retention_routes(engine, gate, limit),
            *notifications.notification_routes(engine, gate, limit),
            *queue.queue_routes(engine, gate, limit),
            *triggers.trigger_routes(engine, gate, limit),
            *yard.yard_routes(engine, gate, book or YardBook()),
            *secrets.secret_routes(engine, gate, limit),
            *terminals.terminal_routes(engine, gate, switchboard or Switchboard()),
        ],
        exception_handlers={EngineError: on_engine_error, HTTPException: on_http_error},
    )
