"""From a request to an actor: a token or a password; no cookies, so no page can act for whoever looks at it."""

from starlette.requests import Request

from buildyard.apis.http import client_of
from buildyard.domain.access import Actor
from buildyard.engine.engine import Engine
from buildyard.engine.sign_in import PasswordGate, authenticate


async def actor_of(request: Request, engine: Engine, gate: PasswordGate) -> Actor:
    """Who asks."""
    ip, agent = client_of(request)
    return await authenticate(engine, gate, request.headers.get("authorization"), ip=ip, agent=agent)
