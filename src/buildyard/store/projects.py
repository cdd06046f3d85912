"""Projects: what is built."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select, union_all, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.access import Owner, Visibility
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import AccountId, Moment, ProjectId, Uid
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import accounts, projects, users
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What is built, and to which account it belongs; `defined_by` is the file that made it, if one did."""

    id: ProjectId
    uid: Uid
    slug: str
    name: str
    account: AccountId
    account_name: str
    visibility: Visibility
    defined_by: str
    created_at: Moment
    updated_at: Moment

    @property
    def owner(self) -> Owner:
        """What access decisions need to know."""
        return Owner(self.id, self.account, self.visibility)


_QUERY = select(
    projects.c.id,
    projects.c.uid,
    projects.c.slug,
    projects.c.name,
    projects.c.account,
    accounts.c.name,
    projects.c.visibility,
    projects.c.defined_by,
    projects.c.created_at,
    projects.c.updated_at,
).select_from(projects.join(accounts, accounts.c.id == projects.c.account))

BY_ID = Statement(_QUERY.where(projects.c.id == given("key")))
BY_UID = Statement(_QUERY.where(projects.c.uid == given("of_uid")))
BY_SLUG = Statement(_QUERY.where(projects.c.slug == given("called")))
OF_ACCOUNT = Statement(_QUERY.where(projects.c.account == given("of")).order_by(projects.c.id.desc()))
ALL = Statement(_QUERY.order_by(projects.c.id.desc()))
ADD = Statement(insert(projects).values({c.name: given(c.name) for c in projects.columns}).on_conflict_do_nothing())
CHANGE = Statement(
    update(projects)
    .where(projects.c.id == given("key"))
    .values(name=given("name"), visibility=given("visibility"), updated_at=given("at"))
)
LIKE = Statement(
    union_all(
        select(projects.c.slug).where(projects.c.slug >= given("low"), projects.c.slug < given("high")),
        select(users.c.username).where(users.c.username >= given("low"), users.c.username < given("high")),
    )
)


def _project(row: Row) -> Project:
    key, uid, slug, name, account, account_name, visibility, defined_by, created_at, updated_at = row
    return Project(
        id=key,
        uid=uid,
        slug=slug,
        name=name,
        account=account,
        account_name=account_name,
        visibility=Visibility(visibility),
        defined_by=defined_by,
        created_at=created_at,
        updated_at=updated_at,
    )


async def get(tx: Transaction, key: ProjectId) -> Project:
    """The project with this id."""
    row = await tx.fetch_one(BY_ID, key=key)
    if row is None:
        raise NotFound("project not found")
    return _project(row)


async def get_many(tx: Transaction, keys: Iterable[ProjectId]) -> dict[ProjectId, Project]:
    """Those of these projects that there are."""
    found = [_project(row) for row in await tx.fetch_many(BY_ID, [{"key": key} for key in keys])]
    return {project.id: project for project in found}


async def find(tx: Transaction, key: ProjectId) -> Project | None:
    """The project with this id, if there is one."""
    row = await tx.fetch_one(BY_ID, key=key)
    return _project(row) if row else None


async def get_by_uid(tx: Transaction, uid: str) -> Project:
    """The project with this uid."""
    row = await tx.fetch_one(BY_UID, of_uid=uid)
    if row is None:
        raise NotFound("project not found")
    return _project(row)


async def find_by_slug(tx: Transaction, slug: str) -> Project | None:
    """The project with this slug."""
    row = await tx.fetch_one(BY_SLUG, called=slug)
    return _project(row) if row else None


async def search(tx: Transaction, account: AccountId | None) -> list[Project]:
    """The projects of one account, or all, newest first."""
    rows = await tx.fetch(OF_ACCOUNT, of=account) if account is not None else await tx.fetch(ALL)
    return [_project(row) for row in rows]


async def slugs_like(tx: Transaction, slug: str) -> list[str]:
    """Slugs of projects and users (they share one name space) that begin with `slug`."""
    return [row[0] for row in await tx.fetch(LIKE, low=slug, high=f"{slug}\uffff")]


async def change(tx: Transaction, key: ProjectId, *, name: str, visibility: Visibility) -> None:
    """Call a project so, and let it be seen by these, from now on."""
    await tx.execute(CHANGE, key=key, name=name, visibility=int(visibility), at=tx.now)


async def add(
    tx: Transaction, *, slug: str, name: str, account: AccountId, visibility: Visibility, defined_by: str = ""
) -> Project | None:
    """Make a project, or None if the slug is taken."""
    (key,) = await tx.allocate("projects")
    made = await tx.execute(
        ADD,
        id=key,
        uid=tx.fresh_uid(),
        slug=slug,
        name=name,
        account=account,
        description="",
        visibility=int(visibility),
        shares=1,
        public_logs=1,
        defined_by=defined_by,
        created_at=tx.now,
        updated_at=tx.now,
    )
    return await get(tx, ProjectId(key)) if made else None
