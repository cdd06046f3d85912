"""Steps and their logs."""

import codecs
from collections.abc import AsyncIterator
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from buildyard.apis.build_server import mapping, requests
from buildyard.apis.build_server.bodies import refuse
from buildyard.apis.build_server.routes.api import Api, answer
from buildyard.apis.user_bytes import TEXT, USER_BYTES, Beyond, Stored, serve_bytes
from buildyard.domain.access import Actor
from buildyard.domain.errors import Fault
from buildyard.engine import builds, log_reading
from buildyard.engine.log_reading import JobLog

_LINES = "application/x-ndjson"
_EVENTS = "text/event-stream"
MOST_TAIL = 10_000


class StepRoutes:
    """The handlers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._engine = api.engine

    async def get(self, request: Request) -> Response:
        """`GET /api/steps/{id}`."""
        actor = await self._api.actor(request)
        view, job = await self._engine.read(builds.get_job, actor, requests.uid(request.path_params["id"], "step"))
        return answer(mapping.step(job, view.build.uid))

    async def get_log(self, request: Request) -> Response:
        """`GET /api/steps/{id}/logs`: text (with ranges), lines of JSON, the tail, or live."""
        actor = await self._api.actor(request)
        uid = requests.uid(request.path_params["id"], "step")
        found = await self._engine.read(log_reading.get_job_log, actor, uid)
        accept = request.headers.get("accept", "")
        if _EVENTS in accept:
            return _stream(self._events(actor, uid, _position(request)), _EVENTS)
        if request.query_params.get("follow") in ("1", "true") and request.method == "GET":
            return _stream(self._live(actor, uid), TEXT)
        if "tail" in request.query_params:
            return await self._tail(request, found)
        if _LINES in accept or request.query_params.get("format") == "jsonl":
            return _stream(self._lines(found), _LINES)
        return await self._text(request, found)

    async def _text(self, request: Request, found: JobLog) -> Response:
        sections = await log_reading.measure(self._engine, found)
        stored = Stored(
            size=sections[-1].stop if sections else 0,
            read=partial(log_reading.read_sections, self._engine, sections),
            media=TEXT,
            growing=not found.over,
        )
        return serve_bytes(request, stored, beyond=Beyond.WHOLE, cache="no-store")

    async def _tail(self, request: Request, found: JobLog) -> Response:
        faults: list[Fault] = []
        count = requests.whole(request.query_params, "tail", 0, faults)
        refuse(faults)
        lines = await log_reading.last_lines(self._engine, found, min(count, MOST_TAIL))
        text = b"".join(line.data + b"\n" for _, line in lines)
        return Response(text, headers=_headers(), media_type=TEXT)

    async def _lines(self, found: JobLog) -> AsyncIterator[bytes]:
        async for part, line in log_reading.read_lines(self._engine, found):
            yield msgspec.json.encode(mapping.log_line(part, line)) + b"\n"

    async def _live(self, actor: Actor, uid: str) -> AsyncIterator[bytes]:
        async for piece in log_reading.follow_job(self._engine, actor, uid):
            if piece is not None:
                yield piece.data

    async def _events(self, actor: Actor, uid: str, start: int) -> AsyncIterator[bytes]:
        """Server-sent events; the id of each is the position from which to go on after it."""
        decoder, of = codecs.getincrementaldecoder("utf-8")("replace"), None
        async for piece in log_reading.follow_job(self._engine, actor, uid, start):
            if piece is None:
                yield b": still there\n\n"
                continue
            if of != (piece.part.log, piece.stream):
                decoder.reset()
                of = (piece.part.log, piece.stream)
            text = decoder.decode(piece.data)
            position = piece.stop - len(decoder.getstate()[0])
            news = msgspec.json.encode(mapping.log_news(piece, text))
            yield b"event: log\nid: %d\ndata: %s\n\n" % (position, news)
        found = await self._engine.read(log_reading.get_job_log, actor, uid)
        yield b"event: end\ndata: %s\n\n" % msgspec.json.encode(mapping.log_end(found))


def _position(request: Request) -> int:
    """Where a reader who comes back goes on."""
    given = request.headers.get("last-event-id", "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 19 else 0


def _headers() -> dict[str, str]:
    return {**USER_BYTES, "cache-control": "no-store"}


def _stream(pieces: AsyncIterator[bytes], media: str) -> Response:
    return StreamingResponse(pieces, headers=_headers(), media_type=media)
