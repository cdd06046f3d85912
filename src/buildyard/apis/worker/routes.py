"""Routes of the worker protocol; `buildyard.protocol` describes them."""

import asyncio
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from buildyard.apis.http import MIB, body_of, client_of, stream_of
from buildyard.apis.terminals import Switchboard
from buildyard.apis.user_bytes import range_of
from buildyard.apis.worker.errors import on_engine_error, on_http_error
from buildyard.apis.worker.terminals import terminal_routes
from buildyard.domain.access import SYSTEM, Actor, require_worker
from buildyard.domain.errors import EngineError, Invalid, NotFound
from buildyard.domain.ids import Sha256
from buildyard.engine import claiming, files, identity, progress, receipts, revisions
from buildyard.engine.engine import Engine, system_clock
from buildyard.engine.sign_in import PasswordGate, authenticate
from buildyard.protocol import BlobStored, Claim, FindCache, Heartbeat, Hello, PinRevision, Report

M = TypeVar("M")
BODY_LIMIT = 32 * MIB


async def _decoded(request: Request, kind: type[M]) -> M:
    try:
        return msgspec.msgpack.decode(await body_of(request, BODY_LIMIT), type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as exc:
        raise Invalid(f"not a {kind.__name__}: {exc}") from exc


async def _hung_up(request: Request) -> None:
    """Wait until the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(message: msgspec.Struct) -> Response:
    return Response(msgspec.msgpack.encode(message), media_type="application/msgpack")


class WorkerRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate) -> None:
        self._engine = engine
        self._gate = gate

    async def _actor(self, request: Request) -> Actor:
        """The worker that asks; nobody else's body is read."""
        ip, agent = client_of(request)
        header = request.headers.get("authorization")
        actor = await authenticate(self._engine, self._gate, header, ip=ip, agent=agent)
        require_worker(actor)
        return actor

    async def hello(self, request: Request) -> Response:
        """A worker (re)connects."""
        actor = await self._actor(request)
        message = await _decoded(request, Hello)
        labels = await self._engine.read(identity.fixed_labels, actor, request.headers.get("authorization", ""))
        return _answer(
            await claiming.hello(self._engine, actor, message, address=actor.ip, now=system_clock(), labels=labels)
        )

    async def claim(self, request: Request) -> Response:
        """Long poll for jobs; a worker that hangs up is not given any."""
        actor = await self._actor(request)
        message = await _decoded(request, Claim)
        work = asyncio.ensure_future(claiming.claim(self._engine, actor, message))
        gone = asyncio.ensure_future(_hung_up(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            return _answer(work.result()) if work.done() else Response(status_code=499)
        finally:
            gone.cancel()
            work.cancel()

    async def heartbeat(self, request: Request) -> Response:
        """Renew leases."""
        actor = await self._actor(request)
        return _answer(await claiming.heartbeat(self._engine, actor, await _decoded(request, Heartbeat)))

    async def report(self, request: Request) -> Response:
        """Progress of attempts."""
        actor = await self._actor(request)
        return _answer(await progress.report(self._engine, actor, await _decoded(request, Report)))

    async def pin_revision(self, request: Request) -> Response:
        """Which commit a build's jobs check out."""
        actor = await self._actor(request)
        return _answer(await self._engine.run(revisions.pin_revision, actor, await _decoded(request, PinRevision)))

    async def find_cache(self, request: Request) -> Response:
        """Which blob to restore."""
        actor = await self._actor(request)
        return _answer(await self._engine.run(files.find_cache, actor, await _decoded(request, FindCache)))

    async def get_blob(self, request: Request) -> Response:
        """The bytes of a blob, or only its length."""
        actor = await self._actor(request)
        sha256 = Sha256(request.path_params["sha256"])
        if not await self._engine.read(files.knows_blob, actor, sha256):
            raise NotFound("blob not found")
        size = await self._engine.blobs.size(sha256)
        if request.method == "HEAD":
            half = self._engine.policy.blob_grace_seconds / 2
            if not await self._engine.read(files.will_stay, actor, sha256, seconds=half):
                raise NotFound("blob not found")
            return Response(headers={"content-length": str(size)}, media_type="application/octet-stream")
        part = range_of(request.headers.get("range"), size)
        start, stop = (part.start, part.stop) if part else (0, size)
        headers = {"content-length": str(stop - start)}
        if part:
            headers["content-range"] = part.content_range()
        return StreamingResponse(
            self._engine.blobs.read(sha256, start, stop),
            206 if part else 200,
            headers,
            media_type="application/octet-stream",
        )

    async def put_blob(self, request: Request) -> Response:
        """Store bytes."""
        actor = await self._actor(request)
        await self._engine.read(files.knows_blob, actor, Sha256(""))
        info = await files.store_blob(self._engine, SYSTEM, stream_of(request))
        receipt = ""
        if actor.only_project is not None:
            receipt = await self._engine.run(receipts.write_receipt, actor, info.sha256, info.size)
        return _answer(BlobStored(sha256=info.sha256, size=info.size, receipt=receipt))


def worker_app(engine: Engine, gate: PasswordGate, switchboard: Switchboard | None = None) -> Starlette:
    """The sub-application for `/worker/v1`."""
    routes = WorkerRoutes(engine, gate)
    return Starlette(
        routes=[
            Route("/worker/v1/hello", routes.hello, methods=["POST"]),
            Route("/worker/v1/claim", routes.claim, methods=["POST"]),
            Route("/worker/v1/heartbeat", routes.heartbeat, methods=["POST"]),
            Route("/worker/v1/report", routes.report, methods=["POST"]),
            Route("/worker/v1/revisions/pin", routes.pin_revision, methods=["POST"]),
            Route("/worker/v1/caches/find", routes.find_cache, methods=["POST"]),
            Route("/worker/v1/blobs/{sha256:str}", routes.get_blob, methods=["GET"]),
            Route("/worker/v1/blobs", routes.put_blob, methods=["PUT"]),
            *terminal_routes(engine, gate, switchboard or Switchboard()),
        ],
        exception_handlers={EngineError: on_engine_error, HTTPException: on_http_error},
    )
