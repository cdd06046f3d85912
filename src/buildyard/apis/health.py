"""`/health`, `/ready`, `/live` and `/metrics`."""

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.domain.access import SYSTEM
from buildyard.engine.engine import Engine
from buildyard.engine.health import Numbers, Told, check_health, read_numbers, read_told
from buildyard.engine.yard_book import YardBook
from buildyard.version import VERSION


class HealthRoutes:
    """The handlers, with the engine they ask."""

    def __init__(self, engine: Engine, registry: CollectorRegistry, yard: YardBook) -> None:
        self._engine = engine
        self._yard = yard
        self._registry = registry
        self._queued = Gauge("buildyard_queued_jobs", "Jobs that wait for a worker", registry=registry)
        self._workers = Gauge("buildyard_workers_connected", "Workers heard of lately", registry=registry)
        self._slots = Gauge("buildyard_worker_slots", "Places of connected workers", registry=registry)
        self._builds = Gauge("buildyard_builds", "Builds that there are, by state", ("state",), registry=registry)
        self._free = Gauge("buildyard_disk_free_bytes", "Room on the data folder's disk", registry=registry)
        self._level = Gauge("buildyard_disk_level", "0: enough room, 1: low, 2: critical", registry=registry)
        self._removed = Gauge("buildyard_removed", "What retention took away so far", ("what",), registry=registry)
        self._freed = Gauge(
            "buildyard_removed_bytes", "The bytes of what retention took away so far", ("what",), registry=registry
        )
        self._yard_refused = Gauge(
            "buildyard_yard_file_refused", "1: the newest text of the yard file is not in force", registry=registry
        )
        self._deliveries = Gauge(
            "buildyard_deliveries", "Messages that wait, or were given up (to 100000)", ("state",), registry=registry
        )
        self._ended = Gauge(
            "buildyard_deliveries_ended", "Messages that ended so far", ("kind", "outcome"), registry=registry
        )

    async def health(self, _request: Request) -> Response:
        """Whether the server and its parts are well: 200, or 503 with what is wrong.

        A refused yard file is told, and the answer stays 200: what was in force before still is.
        """
        found = await check_health(self._engine, SYSTEM)
        body = {
            "status": "ok" if found.ok else "degraded",
            "service": "buildyard",
            "version": VERSION,
            "checks": found.parts,
            "disk": {"level": found.disk.name.lower(), "free_bytes": found.free_bytes},
            "yard_file": self._yard.word,
        }
        return _json(body, 200 if found.ok else 503)

    async def live(self, _request: Request) -> Response:
        """That the process answers at all."""
        return _json({"status": "ok"}, 200)

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text format."""
        self._take(await self._engine.read(read_numbers, SYSTEM))
        self._take_told(await self._engine.read(read_told, SYSTEM))
        self._yard_refused.set(bool(self._yard.problem))
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    def _take(self, numbers: Numbers) -> None:
        self._queued.set(numbers.queued)
        self._workers.set(numbers.workers_connected)
        self._slots.set(numbers.slots)
        for state, count in numbers.builds.items():
            self._builds.labels(state).set(count)
        for what, count in numbers.taken.items():
            (self._freed if what.endswith("_bytes") else self._removed).labels(what.removesuffix("_bytes")).set(count)
        self._free.set(self._engine.free_bytes() or 0)
        self._level.set(self._engine.disk_level())

    def _take_told(self, told: Told) -> None:
        self._deliveries.labels("waiting").set(told.waiting)
        self._deliveries.labels("dead").set(told.dead)
        for (kind, outcome), count in told.ended.items():
            self._ended.labels(kind, outcome).set(count)


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def health_app(engine: Engine, registry: CollectorRegistry, yard: YardBook | None = None) -> Starlette:
    """The sub-application for these four paths. `yard` is the server's yard file, if it has one."""
    routes = HealthRoutes(engine, registry, yard or YardBook())
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/ready", routes.health),
            Route("/live", routes.live),
            Route("/metrics", routes.metrics),
        ]
    )
