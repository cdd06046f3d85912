"""The WebSocket by which a worker dials in with a terminal that somebody wishes for."""

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from buildyard.apis.http import client_of
from buildyard.apis.terminals import Call, Switchboard, first_word
from buildyard.apis.worker.errors import on_engine_error
from buildyard.domain.errors import Conflict, EngineError
from buildyard.engine import terminals
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate, authenticate


class TerminalRoutes:
    """The handler, with the engine it works on and who waits for workers."""

    def __init__(self, engine: Engine, gate: PasswordGate, switchboard: Switchboard) -> None:
        self._engine = engine
        self._gate = gate
        self._switchboard = switchboard

    async def dial(self, socket: WebSocket) -> None:
        """Put a worker through to the person who waits, and stay until that is over.

        409 says that the person is connected to another server of this installation: another try may reach it.
        """
        key = socket.path_params["key"]
        try:
            ip, agent = client_of(socket)
            header = socket.headers.get("authorization")
            actor = await authenticate(self._engine, self._gate, header, ip=ip, agent=agent)
            await self._engine.read(terminals.find_terminal, actor, key)
            if not self._switchboard.expects(key):
                raise Conflict("whoever waits for this terminal is connected to another server")
            await self._engine.run(terminals.answer_terminal, actor, key)
        except EngineError as exc:
            await socket.send_denial_response(on_engine_error(socket, exc))
            return
        await socket.accept()
        await self._put_through(key, socket)

    async def _put_through(self, key: str, socket: WebSocket) -> None:
        try:
            call = Call(socket, await first_word(socket))
        except EngineError as exc:
            await socket.close(1007, str(exc)[:100])
            return
        if self._switchboard.put_through(key, call):
            await call.over.wait()


def terminal_routes(engine: Engine, gate: PasswordGate, switchboard: Switchboard) -> list[WebSocketRoute]:
    """The routes of this module."""
    routes = TerminalRoutes(engine, gate, switchboard)
    return [WebSocketRoute("/worker/v1/terminals/{key}", routes.dial)]
