"""From credentials to an actor; slow on purpose for passwords, quick for tokens."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from buildyard.domain.access import ANONYMOUS, Actor, Permission, require_global
from buildyard.domain.errors import Fault, Invalid, LimitReached, Unauthenticated
from buildyard.engine import identity
from buildyard.engine.brake import Brake
from buildyard.engine.engine import Engine
from buildyard.store.identity import User

PASSWORD_CHECKS = 2
"""How many passwords are checked or hashed at once; more wait, so that guessing cannot take the machine."""
WAITING_CHECKS = 50
LONGEST_PASSWORD = 1000


class PasswordGate:
    """Bounds the work with passwords of one server, and slows those who fail often."""

    def __init__(self, brake: Brake | None = None) -> None:
        self.brake = brake or Brake()
        self._slots = asyncio.Semaphore(PASSWORD_CHECKS)
        self._waiting = 0

    async def fits(self, password_hash: str | None, password: str) -> bool:
        """Check a password in a thread; raises LimitReached if too many wait already."""
        async with self._turn():
            return await asyncio.to_thread(identity.password_fits, password_hash, password)

    async def hash(self, password: str) -> str:
        """What to store of a new password; raises Invalid for one too short or too long."""
        if not identity.PASSWORD_LENGTH <= len(password) <= LONGEST_PASSWORD:
            text = f"a password has at least {identity.PASSWORD_LENGTH} characters, and at most {LONGEST_PASSWORD}"
            raise Invalid(text, (Fault("password", text, "length"),))
        async with self._turn():
            return await asyncio.to_thread(identity.hash_password, password)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING_CHECKS:
            raise LimitReached("too many sign-ins at once: try again later", retry_after=5)
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1


async def sign_in(engine: Engine, gate: PasswordGate, username: str, password: str, *, ip: str = "") -> Actor:
    """The actor of a user with this password.

    Raises Unauthenticated if they do not fit, LimitReached if the user or the address failed too often of late.
    """
    user = f"user {username}" if identity.USERNAME.fullmatch(username) else "no user's name"
    address = (f"address {ip}",) if ip else ()
    gate.brake.check(user, *address)
    stored = await engine.read(identity.find_password_hash, ANONYMOUS, username)
    if not await gate.fits(stored, password):
        gate.brake.fail(user, *address)
        raise Unauthenticated("unknown user or wrong password")
    gate.brake.succeed(user)
    return await engine.read(identity.actor_of_user, ANONYMOUS, username)


async def make_user(
    engine: Engine,
    gate: PasswordGate,
    actor: Actor,
    username: str,
    password: str,
    *,
    email: str | None = None,
    full_name: str = "",
    administrator: bool = False,
) -> User:
    """Make a user who may sign in with a password."""
    require_global(actor, Permission.MANAGE_USERS, "manage users")
    return await engine.run(
        identity.create_user,
        actor,
        username,
        password_hash=await gate.hash(password),
        email=email,
        full_name=full_name,
        administrator=administrator,
    )


async def set_password(engine: Engine, gate: PasswordGate, actor: Actor, username: str, password: str) -> None:
    """Change a user's password."""
    await engine.read(identity.check_may_change, actor, username)
    await engine.run(identity.change_password, actor, username, await gate.hash(password))


async def authenticate(
    engine: Engine, gate: PasswordGate, authorization: str | None, *, ip: str = "", agent: str = ""
) -> Actor:
    """The actor of an `Authorization` header; anonymous without one.

    Taken are `Bearer TOKEN`, `token TOKEN`, and Basic with a password.
    """
    if authorization is None:
        allowed = ANONYMOUS.allowed if engine.policy.anonymous_read else frozenset[Permission]()
        return replace(ANONYMOUS, allowed=allowed, ip=ip, agent=agent)
    scheme, _, rest = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer" | "token":
            actor = await engine.read(identity.actor_of_token, ANONYMOUS, rest.strip())
        case "basic":
            actor = await sign_in(engine, gate, *_basic(rest), ip=ip)
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
