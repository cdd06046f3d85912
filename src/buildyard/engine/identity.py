"""Who is who: users, sign-in, tokens, and the actors they become."""

import hashlib
import re
import secrets
from dataclasses import dataclass, replace

import argon2

from buildyard.domain.access import (
    ALL,
    SCOPE_MAY,
    Actor,
    ActorKind,
    Permission,
    Role,
    require,
    require_global,
    require_self,
)
from buildyard.domain.errors import Conflict, Fault, Forbidden, Invalid, NotFound, Unauthenticated
from buildyard.domain.ids import AccountId, Moment, TokenId
from buildyard.domain.states import Phase
from buildyard.store import attempts, audit, identity, projects
from buildyard.store.identity import Account, Token, User
from buildyard.store.transactions import Transaction

USERNAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
PASSWORD_LENGTH = 8


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; `secret` is shown this once."""

    token: Token
    secret: str


def token_digest(secret: str) -> bytes:
    """What is stored of a token. Tokens are random, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def hash_password(password: str) -> str:
    """Argon2id, RFC 9106's second recommended parameters; takes tens of milliseconds: call it in a thread."""
    return argon2.PasswordHasher().hash(password)


def password_fits(password_hash: str | None, password: str) -> bool:
    """Whether this is the password; as slow for an unknown user as for a known one. Call it in a thread."""
    if password_hash is None:
        argon2.PasswordHasher().hash(password)
        return False
    try:
        return argon2.PasswordHasher().verify(password_hash, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


async def ensure_administrator(tx: Transaction, _actor: Actor, password_hash: str) -> bool:
    """Make the built-in administrator `admin`, if there is none yet; True if it was made now."""
    user = await identity.add_user(
        tx, "admin", email=None, full_name="Administrator", password_hash=password_hash, administrator=True
    )
    if user is None:
        return False
    account = await identity.find_or_add_account(tx, "admin", user=user.id)
    await identity.add_member(tx, user.id, Role.OWNER, account=account.id)
    return True


async def find_password_hash(tx: Transaction, _actor: Actor, username: str) -> str | None:
    """What is stored of a user's password, None for unknown and disabled ones."""
    user = await identity.find_user(tx, username)
    return user.password_hash if user is not None and user.disabled_at is None else None


async def actor_of_user(tx: Transaction, _actor: Actor, username: str) -> Actor:
    """The actor that a user is when signed in with the password."""
    user = await identity.find_user(tx, username)
    if user is None or user.disabled_at is not None:
        raise Unauthenticated("unknown user or wrong password")
    return await _actor_for(tx, user, ALL)


async def actor_of_token(tx: Transaction, _anyone: Actor, secret: str) -> Actor:
    """The actor that a token stands for; raises Unauthenticated for an unknown, expired or revoked one."""
    found = await identity.find_token(tx, token_digest(secret))
    if found is None:
        raise Unauthenticated("invalid or expired token")
    token, user = found
    ended = token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= tx.now)
    if ended or user.disabled_at is not None or not await _attempt_runs(tx, token):
        raise Unauthenticated("invalid or expired token")
    allowed = frozenset[Permission]().union(*(SCOPE_MAY.get(scope, frozenset()) for scope in token.scopes))
    actor = await _actor_for(tx, user, allowed)
    return replace(actor, only_project=token.project)


async def _attempt_runs(tx: Transaction, token: Token) -> bool:
    """Whether the attempt that a token was made for has not ended; true of other tokens."""
    if token.attempt is None:
        return True
    return (await attempts.get(tx, token.attempt)).state.phase is not Phase.FINISHED


async def _actor_for(tx: Transaction, user: User, allowed: frozenset[Permission]) -> Actor:
    in_accounts, in_projects = await identity.roles_of(tx, user.id)
    account = await identity.find_account(tx, user.username)
    return Actor(
        kind=ActorKind.USER,
        name=user.username,
        user=user.id,
        account=account.id if account else None,
        administrator=user.administrator,
        allowed=allowed,
        account_roles=in_accounts,
        project_roles=in_projects,
    )


async def create_user(
    tx: Transaction,
    actor: Actor,
    username: str,
    *,
    password_hash: str | None,
    email: str | None = None,
    full_name: str = "",
    administrator: bool = False,
) -> User:
    """Make a user with a personal account of the same name."""
    require_global(actor, Permission.MANAGE_USERS, "manage users")
    if not USERNAME.fullmatch(username):
        message = "a username begins with a letter or _ and has at most 64 letters, digits, _ and -"
        raise Invalid(message, (Fault("username", message, "pattern"),))
    if await projects.find_by_slug(tx, username):
        raise Conflict(f"the name {username} is a project's")
    user = await identity.add_user(
        tx, username, email=email, full_name=full_name, password_hash=password_hash, administrator=administrator
    )
    if user is None:
        raise Conflict(f"there is a user {username}, or one with that e-mail address, already")
    account = await identity.find_or_add_account(tx, username, user=user.id)
    await identity.add_member(tx, user.id, Role.OWNER, account=account.id)
    await audit.add(tx, actor, "user.create", username)
    return user


async def list_users(tx: Transaction, actor: Actor) -> list[User]:
    """Everyone."""
    require_global(actor, Permission.MANAGE_USERS, "manage users")
    return await identity.all_users(tx)


async def check_may_change(tx: Transaction, actor: Actor, username: str) -> None:
    """Raise unless the actor may change this user's password."""
    user = await identity.find_user(tx, username)
    require_self(actor, user.id if user else None, "set this password")


async def change_password(tx: Transaction, actor: Actor, username: str, password_hash: str) -> None:
    """Set a user's password; people may set their own."""
    user = await identity.find_user(tx, username)
    require_self(actor, user.id if user else None, "set this password")
    if user is None:
        raise NotFound(f"user {username} not found")
    await identity.set_password(tx, user.id, password_hash)
    await audit.add(tx, actor, "user.password", username)


async def create_token(
    tx: Transaction,
    actor: Actor,
    username: str,
    scopes: tuple[str, ...],
    *,
    name: str = "",
    project_uid: str | None = None,
    labels: tuple[str, ...] = (),
    expires_at: Moment | None = None,
) -> NewToken:
    """Make a token for a user; people may make their own, within what they may do now. See `require_self`."""
    unknown = [scope for scope in scopes if scope not in SCOPE_MAY]
    if unknown or not scopes:
        words = ", ".join(sorted(SCOPE_MAY))
        message = f"unknown scope {unknown[0]!r}; there are {words}" if unknown else f"name a scope: {words}"
        raise Invalid(message, (Fault("scopes", message, "unknown_scope"),))
    user = await identity.find_user(tx, username)
    require_self(actor, user.id if user else None, "make such tokens")
    if user is None:
        raise NotFound(f"user {username} not found")
    wanted = frozenset[Permission]().union(*(SCOPE_MAY[scope] for scope in scopes))
    if not wanted <= actor.allowed:
        raise Forbidden("a token cannot be allowed more than the one that makes it")
    project = await projects.get_by_uid(tx, project_uid) if project_uid else None
    if project is not None:
        require(actor, Permission.READ, project.owner, "project")
    secret = f"by_{secrets.token_urlsafe(32)}"
    token = await identity.add_token(
        tx,
        token_digest(secret),
        user.id,
        name=name,
        scopes=scopes,
        project=project.id if project else None,
        labels=labels,
        expires_at=expires_at,
    )
    await audit.add(tx, actor, "token.create", token.id, details={"user": username, "scopes": list(scopes)})
    return NewToken(token, secret)


async def list_tokens(tx: Transaction, actor: Actor, username: str | None) -> list[Token]:
    """A user's tokens, or everyone's."""
    user = await identity.find_user(tx, username) if username is not None else None
    require_self(actor, user.id if user else None, "see these tokens")
    if username is not None and user is None:
        raise NotFound(f"user {username} not found")
    return await identity.tokens_of(tx, user.id if user else None)


async def revoke_token(tx: Transaction, actor: Actor, token: TokenId) -> None:
    """End a token; one that has ended stays as it is."""
    found = await identity.get_token(tx, token)
    require_self(actor, found.user, "revoke this token")
    if await identity.revoke_token(tx, token):
        await audit.add(tx, actor, "token.revoke", token)


async def ensure_account(tx: Transaction, _actor: Actor, name: str) -> Account:
    """The account of this name, made if there is none."""
    return await identity.find_or_add_account(tx, name)


async def account_id(tx: Transaction, _actor: Actor, name: str) -> AccountId | None:
    """The id of the account of this name."""
    account = await identity.find_account(tx, name)
    return account.id if account else None


async def fixed_labels(tx: Transaction, _actor: Actor, authorization: str) -> tuple[str, ...]:
    """The labels that a worker's token fixes; none if the worker may choose them."""
    found = await identity.find_token(tx, token_digest(authorization.partition(" ")[2].strip()))
    return found[0].labels if found else ()


async def is_valid_token(tx: Transaction, actor: Actor, secret: str) -> bool:
    """Whether a token still stands for somebody."""
    try:
        await actor_of_token(tx, actor, secret)
    except Unauthenticated:
        return False
    return True
