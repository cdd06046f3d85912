"""From credentials to an actor; slow on purpose for passwords, quick for tokens."""

import asyncio
import base64
import binascii
from dataclasses import replace

from buildyard.domain.access import ANONYMOUS, Actor
from buildyard.domain.errors import LimitReached, Unauthenticated
from buildyard.engine import identity
from buildyard.engine.engine import Engine

PASSWORD_CHECKS = 2
"""How many passwords are checked at once; more wait, so that guessing cannot take the machine."""
WAITING_CHECKS = 50


class PasswordGate:
    """Bounds the password checks of one server."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(PASSWORD_CHECKS)
        self._waiting = 0

    async def fits(self, password_hash: str | None, password: str) -> bool:
        """Check a password in a thread; raises LimitReached if too many wait already."""
        if self._waiting >= WAITING_CHECKS:
            raise LimitReached("too many sign-ins at once: try again later")
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(identity.password_fits, password_hash, password)
        finally:
            self._waiting -= 1


async def sign_in(engine: Engine, gate: PasswordGate, username: str, password: str) -> Actor:
    """The actor of a user with this password; Unauthenticated if they do not fit."""
    stored = await engine.read(identity.find_password_hash, ANONYMOUS, username)
    if not await gate.fits(stored, password):
        raise Unauthenticated("unknown user or wrong password")
    return await engine.read(identity.actor_of_user, ANONYMOUS, username)


async def authenticate(
    engine: Engine, gate: PasswordGate, authorization: str | None, *, ip: str = "", agent: str = ""
) -> Actor:
    """The actor of an `Authorization` header; anonymous without one.

    Taken are `Bearer TOKEN`, `token TOKEN`, and Basic with a password.
    """
    if authorization is None:
        return replace(ANONYMOUS, ip=ip, agent=agent)
    scheme, _, rest = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer" | "token":
            actor = await engine.read(identity.actor_of_token, ANONYMOUS, rest.strip())
        case "basic":
            actor = await sign_in(engine, gate, *_basic(rest))
        case _:
            raise Unauthenticated("unknown kind of authorization: use Bearer or Basic")
    return replace(actor, ip=ip, agent=agent)


def _basic(rest: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("malformed Basic authorization") from None
    if not colon:
        raise Unauthenticated("malformed Basic authorization")
    return username, password
