"""Secrets as they are stored: encrypted, each belonging to an account, a project or a pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, literal, or_, select, union_all, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.access import Owner, Visibility
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import SECOND, AccountId, AttemptId, Moment, PipelineId, ProjectId, Uid, UserId
from buildyard.domain.secrets import SecretKind
from buildyard.store.statements import Row, Statement, Value, given
from buildyard.store.tables import accounts, pipelines, projects, secret_uses, secrets
from buildyard.store.transactions import Transaction

USED_EVERY = 60 * SECOND
"""When a secret was last used is written down no more often than this, lest all jobs that use it meet there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose a secret is: exactly one of these."""

    account: AccountId | None = None
    project: ProjectId | None = None
    pipeline: PipelineId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An encrypted value: with which key, and the bytes."""

    key: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret without its value. `from_user` gave it to the account; such a one may have no name (empty)."""

    id: int
    uid: Uid
    scope: Scope
    name: str
    kind: SecretKind
    path: str
    mode: int
    created_at: Moment
    updated_at: Moment
    used_at: Moment | None
    from_user: UserId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """A secret with the names of what it belongs to; `owner` is its project, None for an account's."""

    secret: Secret
    account_name: str
    project_slug: str
    pipeline_slug: str
    owner: Owner | None


_SECRET = (
    secrets.c.id,
    secrets.c.uid,
    secrets.c.account,
    secrets.c.project,
    secrets.c.pipeline,
    func.coalesce(secrets.c.name, literal("")),
    secrets.c.kind,
    secrets.c.path,
    secrets.c.mode,
    secrets.c.created_at,
    secrets.c.updated_at,
    secrets.c.used_at,
    secrets.c.from_user,
)
_OF = {
    "account": secrets.c.account == given("of"),
    "project": secrets.c.project == given("of"),
    "pipeline": secrets.c.pipeline == given("of"),
}
BY_NAME = {scope: Statement(select(*_SECRET).where(of, secrets.c.name == given("called"))) for scope, of in _OF.items()}
NEAREST = Statement(
    union_all(
        *(
            select(literal(rank), *_SECRET, secrets.c.key, secrets.c.data).where(
                secrets.c[scope] == given(f"of_{scope}"), secrets.c.name == given("called")
            )
            for rank, scope in enumerate(("pipeline", "project", "account"))
        )
    )
)
MEANT_BY_UID = Statement(
    select(*_SECRET, secrets.c.key, secrets.c.data).where(
        secrets.c.uid == given("of_uid"),
        or_(*(secrets.c[scope] == given(f"of_{scope}") for scope in ("pipeline", "project", "account"))),
    )
)
ALL = Statement(
    select(
        *_SECRET,
        func.coalesce(accounts.c.name, literal("")),
        func.coalesce(projects.c.slug, literal("")),
        func.coalesce(pipelines.c.slug, literal("")),
        projects.c.id,
        projects.c.account,
        projects.c.visibility,
    )
    .select_from(
        secrets.outerjoin(accounts, accounts.c.id == secrets.c.account)
        .outerjoin(pipelines, pipelines.c.id == secrets.c.pipeline)
        .outerjoin(projects, projects.c.id == func.coalesce(secrets.c.project, pipelines.c.project))
    )
    .order_by(secrets.c.id)
)
ADD = Statement(insert(secrets).values({c.name: given(c.name) for c in secrets.columns}).on_conflict_do_nothing())
CHANGE = Statement(
    update(secrets)
    .where(secrets.c.id == given("secret"))
    .values(
        kind=given("new_kind"),
        path=given("new_path"),
        mode=given("new_mode"),
        key=given("new_key"),
        data=given("new_data"),
        updated_at=given("at"),
    )
)
REMOVE = Statement(delete(secrets).where(secrets.c.id == given("secret")))
USED = Statement(
    update(secrets)
    .where(secrets.c.id == given("secret"), func.coalesce(secrets.c.used_at, 0) < given("before"))
    .values(used_at=given("at"))
)
ADD_USE = Statement(
    insert(secret_uses).values({c.name: given(c.name) for c in secret_uses.columns}).on_conflict_do_nothing()
)
OF_KEY = Statement(
    select(secrets.c.id, secrets.c.uid, secrets.c.data)
    .where(secrets.c.key == given("with_key"), secrets.c.id > given("after"))
    .order_by(secrets.c.id)
    .limit(given("most"))
    .with_for_update(key_share=True)
)
RESEAL = Statement(
    update(secrets).where(secrets.c.id == given("secret")).values(key=given("new_key"), data=given("new_data"))
)
PAGE_OF_ACCOUNT = Statement(
    select(*_SECRET)
    .where(secrets.c.account == given("of"), secrets.c.id <= given("start"))
    .order_by(secrets.c.id.desc())
    .limit(given("most"))
)
COUNT_OF_ACCOUNT = Statement(select(func.count()).select_from(secrets).where(secrets.c.account == given("of")))
BY_ID = Statement(select(*_SECRET).where(secrets.c.id == given("secret")))
BY_UID = Statement(select(*_SECRET, secrets.c.key, secrets.c.data).where(secrets.c.uid == given("of_uid")))
REMOVE_OF_ACCOUNT = Statement(delete(secrets).where(secrets.c.account == given("of")))
FIRST_OF_KEY = Statement(select(secrets.c.id).where(secrets.c.key == given("with_key")).limit(1))


def _secret(row: Row) -> Secret:
    key, uid, account, project, pipeline, name, kind, path, mode, created_at, updated_at, used_at, giver = row
    return Secret(
        id=key,
        uid=uid,
        scope=Scope(account=account, project=project, pipeline=pipeline),
        name=name,
        kind=SecretKind(kind),
        path=path,
        mode=mode,
        created_at=created_at,
        updated_at=updated_at,
        used_at=used_at,
        from_user=giver,
    )


def _view(row: Row) -> SecretView:
    account_name, project_slug, pipeline_slug, project, account, visibility = row[len(_SECRET) :]
    return SecretView(
        secret=_secret(row[: len(_SECRET)]),
        account_name=account_name,
        project_slug=project_slug,
        pipeline_slug=pipeline_slug,
        owner=None if project is None else Owner(project, account, Visibility(visibility)),
    )


async def find(tx: Transaction, scope: Scope, name: str) -> Secret | None:
    """The secret of this name in exactly this scope."""
    ((kind, of),) = [(kind, of) for kind in _OF if (of := getattr(scope, kind)) is not None]
    row = await tx.fetch_one(BY_NAME[kind], of=of, called=name)
    return _secret(row) if row else None


async def find_nearest(
    tx: Transaction, name: str, *, account: AccountId, project: ProjectId | None, pipeline: PipelineId | None
) -> tuple[Secret, Sealed] | None:
    """The secret that a job of the pipeline means: its pipeline's, else its project's, else its account's."""
    rows = await tx.fetch(NEAREST, called=name, of_account=account, of_project=project or 0, of_pipeline=pipeline or 0)
    if not rows:
        return None
    _, *row, key, data = min(rows, key=lambda row: int(row[0]))
    return _secret(row), Sealed(key=key, data=data)


async def page_of_account(tx: Transaction, account: AccountId, *, start: int, limit: int) -> list[Secret]:
    """Secrets of an account with ids up to `start`, newest first."""
    return [_secret(row) for row in await tx.fetch(PAGE_OF_ACCOUNT, of=account, start=start, most=limit)]


async def count_of_account(tx: Transaction, account: AccountId) -> int:
    """How many secrets an account holds."""
    row = await tx.fetch_one(COUNT_OF_ACCOUNT, of=account)
    return int(row[0]) if row else 0


async def by_ids(tx: Transaction, keys: Sequence[int]) -> list[Secret]:
    """The secrets with these ids, as far as there are any."""
    return [_secret(row) for row in await tx.fetch_many(BY_ID, [{"secret": key} for key in keys])]


async def find_by_uid(tx: Transaction, uid: str) -> tuple[Secret, Sealed] | None:
    """The secret with this uid, wherever it belongs."""
    row = await tx.fetch_one(BY_UID, of_uid=uid)
    if row is None:
        return None
    *columns, key, data = row
    return _secret(columns), Sealed(key=key, data=data)


async def find_meant(
    tx: Transaction, name: str, *, account: AccountId, project: ProjectId | None, pipeline: PipelineId | None
) -> tuple[Secret, Sealed] | None:
    """The secret that a job of the pipeline means by a name (see `find_nearest`), or by the uid of one of these."""
    nearest = await find_nearest(tx, name, account=account, project=project, pipeline=pipeline)
    if nearest is not None:
        return nearest
    row = await tx.fetch_one(
        MEANT_BY_UID, of_uid=name, of_account=account, of_project=project or 0, of_pipeline=pipeline or 0
    )
    if row is None:
        return None
    *found, key, data = row
    return _secret(found), Sealed(key=key, data=data)


async def search(tx: Transaction) -> list[SecretView]:
    """All secrets, the oldest first."""
    return [_view(row) for row in await tx.fetch(ALL)]


async def add(
    tx: Transaction, uid: Uid, scope: Scope, name: str, *, kind: SecretKind, path: str, mode: int, sealed: Sealed
) -> Secret:
    """Make a secret; raises Conflict if another was made under the name meanwhile."""
    (key,) = await tx.allocate("secrets")
    made = await tx.execute(
        ADD,
        id=key,
        uid=uid,
        account=scope.account,
        project=scope.project,
        pipeline=scope.pipeline,
        name=name,
        kind=kind,
        path=path,
        mode=mode,
        key=sealed.key,
        data=sealed.data,
        from_user=None,
        created_at=tx.now,
        updated_at=tx.now,
        used_at=None,
    )
    found = await find(tx, scope, name)
    if not made or found is None:
        raise Conflict(f"a secret {name} was made at the same moment")
    return found


async def add_copy(
    tx: Transaction, uid: Uid, account: AccountId, original: Secret, *, sealed: Sealed, giver: UserId | None
) -> Secret:
    """Copy a secret to an account; without its name if another one there bears it."""
    (key,) = await tx.allocate("secrets")
    row: dict[str, Value] = {
        "id": key,
        "uid": uid,
        "account": account,
        "project": None,
        "pipeline": None,
        "kind": original.kind,
        "path": original.path,
        "mode": original.mode,
        "key": sealed.key,
        "data": sealed.data,
        "from_user": giver,
        "created_at": tx.now,
        "updated_at": tx.now,
        "used_at": None,
    }
    if not original.name or not await tx.execute(ADD, **row, name=original.name):
        await tx.execute(ADD, **row, name=None)
    (copy,) = await by_ids(tx, [key])
    return copy


async def change(tx: Transaction, secret: Secret, *, kind: SecretKind, path: str, mode: int, sealed: Sealed) -> None:
    """Give a secret another value."""
    await tx.execute(
        CHANGE,
        secret=secret.id,
        new_kind=kind,
        new_path=path,
        new_mode=mode,
        new_key=sealed.key,
        new_data=sealed.data,
        at=tx.now,
    )


async def remove(tx: Transaction, secret: Secret) -> None:
    """Delete a secret."""
    await tx.execute(REMOVE, secret=secret.id)


async def remove_of_account(tx: Transaction, account: AccountId) -> None:
    """Delete all secrets of an account."""
    await tx.execute(REMOVE_OF_ACCOUNT, of=account)


async def add_use(tx: Transaction, secret: int, attempt: AttemptId) -> bool:
    """Note that an attempt is given a secret; False if it was given it before."""
    if not await tx.execute(ADD_USE, attempt=attempt, secret=secret, at=tx.now):
        return False
    await note_used(tx, secret)
    return True


async def note_used(tx: Transaction, secret: int) -> None:
    """Note when a secret was used last."""
    await tx.execute(USED, secret=secret, at=tx.now, before=tx.now - USED_EVERY)


async def of_key(tx: Transaction, key: str, *, after: int, count: int) -> list[tuple[int, Uid, bytes]]:
    """The first secrets beyond `after` that are encrypted with a key: id, uid, bytes. They are locked."""
    return [(row[0], row[1], row[2]) for row in await tx.fetch(OF_KEY, with_key=key, after=after, most=count)]


async def reseal(tx: Transaction, sealed: Mapping[int, Sealed]) -> None:
    """Replace encrypted bytes by others of the same value."""
    for secret, new in sealed.items():
        await tx.execute(RESEAL, secret=secret, new_key=new.key, new_data=new.data)


async def is_key_used(tx: Transaction, key: str) -> bool:
    """Whether any secret is encrypted with a key."""
    return await tx.fetch_one(FIRST_OF_KEY, with_key=key) is not None
