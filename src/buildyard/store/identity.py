"""Users, accounts, memberships and tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.access import Role
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import AccountId, AttemptId, Moment, ProjectId, TokenId, Uid, UserId
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import accounts, memberships, tokens, users
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person; `password_hash` is argon2id, None means that no password opens the door."""

    id: UserId
    uid: Uid
    username: str
    email: str | None
    full_name: str
    password_hash: str | None
    administrator: bool
    created_at: Moment
    disabled_at: Moment | None
    updated_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who owns projects: a person's (then `user` is set) or a shared one."""

    id: AccountId
    uid: Uid
    name: str
    user: UserId | None
    created_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A credential; only its SHA-256 is stored. `labels` fixes what a worker using it offers.

    `defined_by` is the file that names it, if one does. One of an `attempt` counts while that runs.
    """

    id: TokenId
    user: UserId
    name: str
    scopes: tuple[str, ...]
    project: ProjectId | None
    labels: tuple[str, ...]
    defined_by: str
    attempt: AttemptId | None
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None


_USER = (
    users.c.id,
    users.c.uid,
    users.c.username,
    users.c.email,
    users.c.full_name,
    users.c.password_hash,
    users.c.administrator,
    users.c.created_at,
    users.c.disabled_at,
    users.c.updated_at,
)
_ACCOUNT = (accounts.c.id, accounts.c.uid, accounts.c.name, accounts.c.user, accounts.c.created_at)
_TOKEN = (
    tokens.c.id,
    tokens.c.user,
    tokens.c.name,
    tokens.c.scopes,
    tokens.c.project,
    tokens.c.labels,
    tokens.c.defined_by,
    tokens.c.attempt,
    tokens.c.created_at,
    tokens.c.expires_at,
    tokens.c.revoked_at,
)

USER_BY_NAME = Statement(select(*_USER).where(users.c.username == given("called")))
USER_BY_ID = Statement(select(*_USER).where(users.c.id == given("key")))
ALL_USERS = Statement(select(*_USER).order_by(users.c.id))
ADD_USER = Statement(
    insert(users)
    .values({c.name: given(c.name) for c in users.columns if c.name != "disabled_at"})
    .on_conflict_do_nothing()
)
ADMINISTRATORS = Statement(
    select(func.count()).select_from(users).where(users.c.administrator == 1, users.c.disabled_at.is_(None))
)
CLOSE = Statement(
    update(users)
    .where(users.c.id == given("key"))
    .values(password_hash=None, email=None, disabled_at=given("at"), updated_at=given("at"))
)
LEAVE = Statement(delete(memberships).where(memberships.c.user == given("key")))
SET_PASSWORD = Statement(
    update(users).where(users.c.id == given("key")).values(password_hash=given("password_hash"), updated_at=given("at"))
)
ACCOUNT_BY_NAME = Statement(select(*_ACCOUNT).where(accounts.c.name == given("called")))
ACCOUNT_BY_ID = Statement(select(*_ACCOUNT).where(accounts.c.id == given("key")))
ADD_ACCOUNT = Statement(
    insert(accounts).values({c.name: given(c.name) for c in accounts.columns}).on_conflict_do_nothing()
)
ADD_MEMBER = insertion(memberships)
ROLES = Statement(
    select(memberships.c.account, memberships.c.project, memberships.c.role).where(memberships.c.user == given("of"))
)
ADD_TOKEN = insertion(tokens)
TOKEN_BY_HASH = Statement(
    select(*_TOKEN, *_USER)
    .select_from(tokens.join(users, users.c.id == tokens.c.user))
    .where(tokens.c.hash == given("digest"))
)
TOKEN_BY_ID = Statement(select(*_TOKEN).where(tokens.c.id == given("key")))
TOKENS_OF = Statement(
    select(*_TOKEN).where(tokens.c.user == given("of"), tokens.c.attempt.is_(None)).order_by(tokens.c.id)
)
ALL_TOKENS = Statement(select(*_TOKEN).where(tokens.c.attempt.is_(None)).order_by(tokens.c.id))
TOKENS_DEFINED_BY = Statement(select(*_TOKEN).where(tokens.c.defined_by == given("file")).order_by(tokens.c.id))
CHANGE_TOKEN = Statement(
    update(tokens)
    .where(tokens.c.id == given("key"))
    .values(name=given("name"), labels=given("labels"), project=given("project"), revoked_at=None)
)
REVOKE = Statement(
    update(tokens).where(tokens.c.id == given("key"), tokens.c.revoked_at.is_(None)).values(revoked_at=given("at"))
)


def _user(row: Row) -> User:
    key, uid, username, email, full_name, password_hash, administrator, created_at, disabled_at, updated_at = row
    return User(
        id=key,
        uid=uid,
        username=username,
        email=email,
        full_name=full_name,
        password_hash=password_hash,
        administrator=bool(administrator),
        created_at=created_at,
        disabled_at=disabled_at,
        updated_at=updated_at,
    )


def _account(row: Row) -> Account:
    key, uid, name, user, created_at = row
    return Account(id=key, uid=uid, name=name, user=user, created_at=created_at)


def _token(row: Row) -> Token:
    key, user, name, scopes, project, labels, defined_by, attempt, created_at, expires_at, revoked_at = row
    return Token(
        id=key,
        user=user,
        name=name,
        scopes=tuple(scopes.split()),
        project=project,
        labels=tuple(labels.split()),
        defined_by=defined_by,
        attempt=attempt,
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )


async def find_user(tx: Transaction, username: str) -> User | None:
    """The user of this name."""
    row = await tx.fetch_one(USER_BY_NAME, called=username)
    return _user(row) if row else None


async def get_user(tx: Transaction, key: UserId) -> User:
    """The user with this id."""
    row = await tx.fetch_one(USER_BY_ID, key=key)
    if row is None:
        raise NotFound("user not found")
    return _user(row)


async def users_by_id(tx: Transaction, keys: Sequence[UserId]) -> list[User]:
    """The users with these ids, as far as there are any."""
    return [_user(row) for row in await tx.fetch_many(USER_BY_ID, [{"key": key} for key in keys])]


async def all_users(tx: Transaction) -> list[User]:
    """Everyone, oldest first."""
    return [_user(row) for row in await tx.fetch(ALL_USERS)]


async def add_user(
    tx: Transaction, username: str, *, email: str | None, full_name: str, password_hash: str | None, administrator: bool
) -> User | None:
    """Make a user, or None if the name or e-mail address is taken."""
    (key,) = await tx.allocate("users")
    made = await tx.execute(
        ADD_USER,
        id=key,
        uid=tx.fresh_uid(),
        username=username,
        email=email,
        full_name=full_name,
        password_hash=password_hash,
        administrator=int(administrator),
        created_at=tx.now,
        updated_at=tx.now,
    )
    return await get_user(tx, UserId(key)) if made else None


async def set_password(tx: Transaction, user: UserId, password_hash: str) -> None:
    """Replace a user's password."""
    await tx.execute(SET_PASSWORD, key=user, password_hash=password_hash, at=tx.now)


async def count_administrators(tx: Transaction) -> int:
    """How many administrators can sign in."""
    row = await tx.fetch_one(ADMINISTRATORS)
    return int(row[0]) if row else 0


async def close(tx: Transaction, user: UserId) -> None:
    """Disable a user for good: without password, address and roles; the name stays taken."""
    await tx.execute(CLOSE, key=user, at=tx.now)
    await tx.execute(LEAVE, key=user)


async def find_account(tx: Transaction, name: str) -> Account | None:
    """The account of this name."""
    row = await tx.fetch_one(ACCOUNT_BY_NAME, called=name)
    return _account(row) if row else None


async def accounts_by_id(tx: Transaction, keys: Sequence[AccountId]) -> list[Account]:
    """The accounts with these ids, as far as there are any."""
    return [_account(row) for row in await tx.fetch_many(ACCOUNT_BY_ID, [{"key": key} for key in keys])]


async def get_account(tx: Transaction, key: AccountId) -> Account:
    """The account with this id."""
    row = await tx.fetch_one(ACCOUNT_BY_ID, key=key)
    if row is None:
        raise NotFound("account not found")
    return _account(row)


async def find_or_add_account(tx: Transaction, name: str, *, user: UserId | None = None) -> Account:
    """The account of this name, made if there is none; safe against a second maker."""
    (key,) = await tx.allocate("accounts")
    await tx.execute(ADD_ACCOUNT, id=key, uid=tx.fresh_uid(), name=name, user=user, shares=1, created_at=tx.now)
    account = await find_account(tx, name)
    assert account is not None
    return account


async def add_member(
    tx: Transaction, user: UserId, role: Role, *, account: AccountId | None = None, project: ProjectId | None = None
) -> None:
    """Give a user a role in an account or a project."""
    (key,) = await tx.allocate("memberships")
    await tx.execute(ADD_MEMBER, id=key, user=user, account=account, project=project, role=int(role), created_at=tx.now)


async def roles_of(tx: Transaction, user: UserId) -> tuple[dict[AccountId, Role], dict[ProjectId, Role]]:
    """A user's roles, by account and by project."""
    in_accounts: dict[AccountId, Role] = {}
    in_projects: dict[ProjectId, Role] = {}
    for account, project, role in await tx.fetch(ROLES, of=user):
        if account is not None:
            in_accounts[account] = Role(role)
        if project is not None:
            in_projects[project] = Role(role)
    return in_accounts, in_projects


async def add_token(
    tx: Transaction,
    digest: bytes,
    user: UserId,
    *,
    name: str,
    scopes: tuple[str, ...],
    project: ProjectId | None,
    labels: tuple[str, ...],
    expires_at: Moment | None,
    defined_by: str = "",
    attempt: AttemptId | None = None,
) -> Token:
    """Keep a token by its SHA-256."""
    (key,) = await tx.allocate("tokens")
    await tx.execute(
        ADD_TOKEN,
        id=key,
        hash=digest,
        user=user,
        name=name,
        scopes=" ".join(scopes),
        project=project,
        labels=" ".join(labels),
        defined_by=defined_by,
        attempt=attempt,
        created_at=tx.now,
        expires_at=expires_at,
        revoked_at=None,
    )
    return await get_token(tx, TokenId(key))


async def change_token(
    tx: Transaction, key: TokenId, *, name: str, labels: tuple[str, ...], project: ProjectId | None
) -> None:
    """Make a token count, again if it was revoked, for this from now on."""
    await tx.execute(CHANGE_TOKEN, key=key, name=name, labels=" ".join(labels), project=project)


async def tokens_defined_by(tx: Transaction, file: str) -> list[Token]:
    """The tokens that a file defined, revoked ones too."""
    return [_token(row) for row in await tx.fetch(TOKENS_DEFINED_BY, file=file)]


async def get_token(tx: Transaction, key: TokenId) -> Token:
    """The token with this id."""
    row = await tx.fetch_one(TOKEN_BY_ID, key=key)
    if row is None:
        raise NotFound("token not found")
    return _token(row)


async def find_token(tx: Transaction, digest: bytes) -> tuple[Token, User] | None:
    """The token with this SHA-256, and its user; it may be expired or revoked."""
    row = await tx.fetch_one(TOKEN_BY_HASH, digest=digest)
    return (_token(row[: len(_TOKEN)]), _user(row[len(_TOKEN) :])) if row else None


async def tokens_of(tx: Transaction, user: UserId | None) -> list[Token]:
    """The tokens of one user, or of all, without those of attempts."""
    rows = await tx.fetch(TOKENS_OF, of=user) if user is not None else await tx.fetch(ALL_TOKENS)
    return [_token(row) for row in rows]


async def revoke_token(tx: Transaction, key: TokenId) -> bool:
    """End a token's life; False if it had ended already."""
    return await tx.execute(REVOKE, key=key, at=tx.now) == 1
