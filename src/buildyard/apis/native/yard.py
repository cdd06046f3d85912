"""Routes for the yard file: what taking it into force would change, and doing so."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import MOST_BODY, decoded
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.ids import iso
from buildyard.domain.yard import Change
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate
from buildyard.engine.yard_book import YardBook, YardStatus, look_at_yard, take_yard


def status(found: YardStatus) -> messages.Yard:
    """Where the yard file stands, as its wire type."""
    return messages.Yard(
        file=found.path,
        taken_at=None if found.taken_at is None else iso(found.taken_at),
        problem=found.problem,
        faults=[messages.Fault(path=one.path, message=one.message, code=one.code) for one in found.faults],
        changes=[change(one) for one in found.changes],
    )


def change(one: Change) -> messages.YardChange:
    """One change, as its wire type."""
    return messages.YardChange(act=one.act, kind=one.kind, name=one.name, detail=one.detail)


def answer(message: msgspec.Struct) -> Response:
    """A message as JSON, not to be kept by anybody."""
    return Response(msgspec.json.encode(message), 200, {"cache-control": "no-store"}, media_type="application/json")


class YardRoutes:
    """The handlers, with the engine and the book they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, book: YardBook) -> None:
        self._engine = engine
        self._gate = gate
        self._book = book

    async def look(self, request: Request) -> Response:
        """What taking the file into force would change."""
        actor = await actor_of(request, self._engine, self._gate)
        return answer(status(await look_at_yard(self._engine, actor, self._book)))

    async def take(self, request: Request) -> Response:
        """Take the file into force."""
        actor = await actor_of(request, self._engine, self._gate)
        await decoded(request, messages.Reason, limit=MOST_BODY)
        changes = await take_yard(self._engine, actor, self._book)
        taken = YardStatus(path=self._book.path, taken_at=self._book.taken_at, problem="", faults=(), changes=changes)
        return answer(status(taken))


def yard_routes(engine: Engine, gate: PasswordGate, book: YardBook) -> list[Route]:
    """The routes of this module."""
    routes = YardRoutes(engine, gate, book)
    return [
        Route(f"{BASE}/yard", routes.look, methods=["GET"]),
        Route(f"{BASE}/yard/reload", routes.take, methods=["POST"]),
    ]
