"""Groups: builds collected after they were submitted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from buildyard.domain.errors import NotFound
from buildyard.domain.ids import AccountId, BuildId, GroupId, Moment
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import accounts, group_builds, groups
from buildyard.store.transactions import Transaction

_GROUP = select(groups.c.id, groups.c.account, accounts.c.name, groups.c.note, groups.c.created_at).select_from(
    groups.join(accounts, accounts.c.id == groups.c.account)
)
ADD = insertion(groups)
ADD_BUILD = insertion(group_builds)
BY_ID = Statement(_GROUP.where(groups.c.id == given("key")))
BUILDS_OF = Statement(
    select(group_builds.c.build).where(group_builds.c.group == given("of")).order_by(group_builds.c.build)
)
OF_BUILD = Statement(select(group_builds.c.group).where(group_builds.c.build == given("of")))
BUILDS_OF_MANY = Statement(
    select(group_builds.c.group, group_builds.c.build)
    .where(group_builds.c.group == given("of"))
    .order_by(group_builds.c.build)
)
OF_BUILDS = Statement(select(group_builds.c.build, group_builds.c.group).where(group_builds.c.build == given("of")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Builds that belong together for whoever made the group."""

    id: GroupId
    account: AccountId
    account_name: str
    note: str
    created_at: Moment


def _group(row: Row) -> Group:
    group, account, name, note, created_at = row
    return Group(id=group, account=account, account_name=name, note=note, created_at=created_at)


async def add(tx: Transaction, account: AccountId, note: str, members: Sequence[BuildId]) -> GroupId:
    """Make a group of these builds."""
    (key,) = await tx.allocate("groups")
    await tx.execute(ADD, id=key, account=account, note=note, created_at=tx.now)
    await tx.execute_many(ADD_BUILD, [{"group": key, "build": build} for build in members])
    return GroupId(key)


async def get(tx: Transaction, key: GroupId) -> Group:
    """The group with this id. Its row is locked only after those of builds, by what tells its end."""
    row = await tx.fetch_one(BY_ID, key=key)
    if row is None:
        raise NotFound("group not found")
    return _group(row)


async def get_many(tx: Transaction, keys: Iterable[GroupId]) -> list[Group]:
    """The groups with these ids, as far as there are any."""
    return [_group(row) for row in await tx.fetch_many(BY_ID, [{"key": key} for key in keys])]


async def builds_of_many(tx: Transaction, keys: Iterable[GroupId]) -> dict[GroupId, list[BuildId]]:
    """The builds of these groups, oldest first."""
    found: dict[GroupId, list[BuildId]] = {}
    for group, build in await tx.fetch_many(BUILDS_OF_MANY, [{"of": key} for key in keys]):
        found.setdefault(group, []).append(build)
    return found


async def of_builds(tx: Transaction, keys: Iterable[BuildId]) -> dict[BuildId, GroupId]:
    """The groups that these builds are in; other builds are left out."""
    return {row[0]: row[1] for row in await tx.fetch_many(OF_BUILDS, [{"of": key} for key in keys])}


async def builds_of(tx: Transaction, key: GroupId) -> list[BuildId]:
    """The builds of a group, oldest first."""
    return [BuildId(row[0]) for row in await tx.fetch(BUILDS_OF, of=key)]


async def of_build(tx: Transaction, build: BuildId) -> GroupId | None:
    """The group that a build is in."""
    row = await tx.fetch_one(OF_BUILD, of=build)
    return GroupId(row[0]) if row else None
