"""Routes for results of tests and metrics."""

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import whole
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.errors import NotFound
from buildyard.engine import reports, watching
from buildyard.engine.engine import Engine
from buildyard.engine.projects import find_project
from buildyard.engine.sign_in import PasswordGate

if TYPE_CHECKING:
    from buildyard.store.reports import Metric

MOST = 1000


class ReportRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate) -> None:
        self._engine = engine
        self._gate = gate

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def list_tests(self, request: Request) -> Response:
        """How a build's tests went."""
        actor = await self._actor(request)
        view = await watching.find_build(self._engine, actor, request.path_params["build"])
        found = await self._engine.read(
            reports.list_tests,
            actor,
            view.build.uid,
            status=request.query_params.get("status", ""),
            cursor=request.query_params.get("cursor", ""),
            limit=whole(request, "limit", 100, low=1, high=MOST),
        )
        return _answer(_tests(found))

    async def list_metrics(self, request: Request) -> Response:
        """What a build measured."""
        actor = await self._actor(request)
        view = await watching.find_build(self._engine, actor, request.path_params["build"])
        return _answer(_metrics(await self._engine.read(reports.list_metrics, actor, view.build.uid)))

    async def read_history(self, request: Request) -> Response:
        """One metric over a pipeline's builds."""
        actor = await self._actor(request)
        query = request.query_params
        slug = query.get("project", "")
        project = await self._engine.read(find_project, actor, slug)
        if project is None:
            raise NotFound(f"project {slug} not found")
        found = await self._engine.read(
            reports.read_history,
            actor,
            project.uid,
            query.get("pipeline", ""),
            query.get("name", ""),
            before=whole(request, "before", 0, low=0, high=2**31 - 1),
            limit=whole(request, "limit", 100, low=1, high=MOST),
        )
        return _answer(_metrics(found))


def _answer(message: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(message), 200, {"cache-control": "no-store"}, media_type="application/json")


def _tests(found: reports.Tests) -> messages.TestResults:
    return messages.TestResults(
        sets=[
            messages.TestSet(
                id=one.id,
                job=one.job,
                description=one.description,
                passed=one.passed,
                failed=one.failed,
                skipped=one.skipped,
            )
            for one in found.sets
        ],
        tests=[
            messages.TestResult(
                id=one.id,
                set=one.result_set,
                name=one.name,
                suite=one.suite,
                path=one.path,
                line=one.line,
                seconds=one.duration_ns / 1e9,
                status=one.value,
                message=one.message,
            )
            for one in found.results
        ],
        cursor=found.next,
    )


def _metrics(found: "list[Metric]") -> messages.Metrics:
    return messages.Metrics(
        metrics=[
            messages.Metric(
                id=one.id,
                build=one.build,
                number=one.number,
                job=one.job,
                name=one.name,
                value=one.value,
                unit=one.unit,
            )
            for one in found
        ]
    )


def report_routes(engine: Engine, gate: PasswordGate) -> list[Route]:
    """The routes of this module."""
    routes = ReportRoutes(engine, gate)
    return [
        Route(f"{BASE}/builds/{{build}}/tests", routes.list_tests, methods=["GET"]),
        Route(f"{BASE}/builds/{{build}}/metrics", routes.list_metrics, methods=["GET"]),
        Route(f"{BASE}/metrics", routes.read_history, methods=["GET"]),
    ]
