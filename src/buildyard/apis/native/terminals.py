"""The WebSocket of a person's terminal in the workspace of a job."""

import asyncio
import secrets

from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from buildyard.apis.http import client_of
from buildyard.apis.native.errors import on_engine_error
from buildyard.apis.terminals import Call, Switchboard, pass_on
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.errors import Conflict, EngineError, Fault, Invalid, Unavailable
from buildyard.engine import terminals, watching
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate, authenticate


class TerminalRoutes:
    """The handler, with the engine it works on and where workers are waited for."""

    def __init__(self, engine: Engine, gate: PasswordGate, switchboard: Switchboard) -> None:
        self._engine = engine
        self._gate = gate
        self._switchboard = switchboard

    async def _actor(self, connection: HTTPConnection) -> Actor:
        ip, agent = client_of(connection)
        return await authenticate(self._engine, self._gate, connection.headers.get("authorization"), ip=ip, agent=agent)

    async def attach(self, socket: WebSocket) -> None:
        """Join a person with a shell. What stands against it is an answer of HTTP, for the socket is not open yet."""
        key = secrets.token_urlsafe(24)
        with self._switchboard.expecting(key) as arriving:
            try:
                actor, uid = await self._wish(socket, key)
                call = await self._answer(arriving, actor, key)
            except EngineError as exc:
                await socket.send_denial_response(on_engine_error(socket, exc))
                return
            await socket.accept()
            check_s = self._switchboard.check_s
            await pass_on(socket, call.socket, lambda: self._check(socket, uid), check_s=check_s)

    async def _wish(self, socket: WebSocket, key: str) -> tuple[Actor, str]:
        actor = await self._actor(socket)
        found = await watching.find_build(self._engine, actor, socket.path_params["build"])
        await self._engine.run(
            terminals.wish_terminal,
            actor,
            found.build.uid,
            socket.query_params.get("job", ""),
            _window(socket),
            key=key,
            lease=self._engine.policy.lease_seconds,
        )
        return actor, found.build.uid

    async def _answer(self, arriving: "asyncio.Future[Call]", actor: Actor, key: str) -> Call:
        """The worker, once it has opened a terminal; Conflict with its reason if it could not."""
        await asyncio.wait({arriving}, timeout=terminals.ANSWER_S)
        if not arriving.done():
            await self._engine.run(terminals.withdraw_terminal, actor, key)
            raise Unavailable(f"the worker did not open a terminal within {terminals.ANSWER_S:g} s")
        call = arriving.result()
        if call.opened.refused:
            raise Conflict(call.opened.refused)
        return call

    async def _check(self, socket: WebSocket, uid: str) -> None:
        actor = await self._actor(socket)
        await self._engine.read(terminals.require_attachable, actor, uid)


def _window(socket: WebSocket) -> terminals.Window:
    """The window as the request describes it."""
    sizes = {"rows": 24, "columns": 80}
    for name in sizes:
        text = socket.query_params.get(name, "")
        if text.isascii() and text.isdecimal() and len(text) < 6:
            sizes[name] = int(text)
        elif text:
            raise Invalid(f"{name} is a number", (Fault(name, f"not a number: {text[:20]!r}", "integer"),))
    return terminals.Window(**sizes, term=socket.query_params.get("term", ""))


def terminal_routes(engine: Engine, gate: PasswordGate, switchboard: Switchboard) -> list[WebSocketRoute]:
    """The routes of this module."""
    routes = TerminalRoutes(engine, gate, switchboard)
    return [WebSocketRoute(f"{BASE}/builds/{{build}}/attach", routes.attach)]
