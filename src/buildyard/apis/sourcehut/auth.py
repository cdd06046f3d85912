"""Who asks: a token, with the scope that the address needs."""

from dataclasses import replace

from starlette.requests import Request

from buildyard.apis.http import client_of
from buildyard.apis.sourcehut.errors import Refused
from buildyard.domain.access import ANONYMOUS, Actor, Permission
from buildyard.domain.errors import Unauthenticated
from buildyard.engine import identity
from buildyard.engine.engine import Engine

SERVICE = "builds.sr.ht"
"""The client before the slash in the names of scopes."""

READ = "jobs:read"
WRITE = "jobs:write"
NEEDED: dict[str, frozenset[Permission]] = {
    READ: frozenset({Permission.READ}),
    WRITE: frozenset({Permission.READ, Permission.RUN, Permission.CANCEL}),
}
SCHEMES = ("token", "bearer")


async def actor_with(engine: Engine, request: Request, scope: str) -> Actor:
    """Who asks, if their token has the scope."""
    actor = await _actor(engine, request)
    if not NEEDED[scope] <= actor.allowed:
        reason = f"Your OAuth token is not permitted to use this endpoint (needs {SERVICE}/{scope})"
        raise Refused(403, reason)
    return actor


async def anyone(engine: Engine, request: Request) -> Actor:
    """Who asks, also without a token: then nobody, who sees what everybody sees."""
    if "authorization" in request.headers:
        return await _actor(engine, request)
    ip, agent = client_of(request)
    allowed = ANONYMOUS.allowed if engine.policy.anonymous_read else frozenset[Permission]()
    return replace(ANONYMOUS, allowed=allowed, ip=ip, agent=agent)


async def _actor(engine: Engine, request: Request) -> Actor:
    given = request.headers.get("authorization")
    if not given:
        raise Refused(401, "No authorization supplied (expected an OAuth token)")
    words = given.split(" ")
    if len(words) != 2 or words[0].lower() not in SCHEMES:
        raise Refused(401, "Invalid authorization supplied")
    try:
        actor = await engine.read(identity.actor_of_token, ANONYMOUS, words[1])
    except Unauthenticated:
        raise Refused(401, "Invalid or expired OAuth token") from None
    ip, agent = client_of(request)
    return replace(actor, ip=ip, agent=agent)
