"""What every handler of this API works with: the engine, the configuration, who asks, bodies in and out."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.build_server import auth, bodies
from buildyard.apis.build_server.auth import BuildServerConfig
from buildyard.domain.access import Actor
from buildyard.engine.engine import Engine

T = TypeVar("T")


class Api:
    """The engine and the configuration, and the ways in and out."""

    def __init__(self, engine: Engine, config: BuildServerConfig) -> None:
        self.engine = engine
        self.config = config

    async def actor(self, request: Request) -> Actor:
        """Who asks."""
        return await auth.actor_of(request, self.engine, self.config)

    async def json(self, request: Request, read: Callable[[object], T]) -> T:
        """The body as what `read` makes of it."""
        require_type(request, auth.JSON)
        return await bodies.json_of(request, self.config.body_bytes, read)


def require_type(request: Request, kind: str) -> None:
    """Refuse a body of another type."""
    if not auth.has_type(request, kind):
        raise HTTPException(415, f"the body must be {kind}")


def answer(body: object, status: int = 200) -> Response:
    """A body as JSON, not to be kept by anybody."""
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, media_type=auth.JSON)
