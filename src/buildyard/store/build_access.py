"""Builds' own access lists, and totals of the builds that people see by them."""

from collections.abc import Iterable

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.access import EVERYONE, AccessList, Audience, Right
from buildyard.domain.builds import Build
from buildyard.domain.ids import BuildId, ProjectId, UserId
from buildyard.store import counters
from buildyard.store.statements import Statement, given
from buildyard.store.tables import build_access, builds
from buildyard.store.transactions import Transaction

_ROW = insert(build_access).values({c.name: given(c.name) for c in build_access.columns})
PUT = Statement(_ROW.on_conflict_do_update(index_elements=["build", "grantee"], set_={"right": _ROW.excluded.right}))
OF_BUILD = Statement(
    select(build_access.c.build, build_access.c.grantee, build_access.c.right)
    .where(build_access.c.build == given("of"))
    .order_by(build_access.c.grantee)
)
FORGET = Statement(delete(build_access).where(build_access.c.build == given("of")))
SET_AUDIENCE = Statement(update(builds).where(builds.c.id == given("key")).values(audience=given("audience")))


async def list_of(tx: Transaction, build: Build) -> AccessList | None:
    """A build's own list; None: its project's rule holds."""
    return (await lists_of(tx, [build]))[build.id]


async def lists_of(tx: Transaction, found: Iterable[Build]) -> dict[BuildId, AccessList | None]:
    """The own lists of many builds; None where the project's rule holds."""
    given_lists: dict[BuildId, AccessList | None] = {}
    own: dict[BuildId, list[tuple[str, Right]]] = {}
    submitters: dict[BuildId, UserId | None] = {}
    for build in found:
        given_lists[build.id] = None
        if build.audience is not Audience.PROJECT:
            own[build.id], submitters[build.id] = [], build.submitter
    for key, grantee, right in await tx.fetch_many(OF_BUILD, [{"of": key} for key in sorted(own)]):
        own[key].append((grantee, Right(right)))
    for key, grants in own.items():
        given_lists[key] = AccessList(submitter=submitters[key], grants=tuple(grants))
    return given_lists


async def put(tx: Transaction, build: Build, grants: Iterable[tuple[str, Right]]) -> None:
    """Write the list of a build just made, and count it for those who see it by its list."""
    wanted = sorted(grants)
    await tx.execute_many(PUT, [{"build": build.id, "grantee": name, "right": int(right)} for name, right in wanted])
    _count(tx, build, wanted, 1)


async def replace(tx: Transaction, before: Build, after: Build, grants: Iterable[tuple[str, Right]]) -> None:
    """Give a locked build another audience and list."""
    await forget(tx, before)
    await tx.execute(FORGET, of=before.id)
    await tx.execute(SET_AUDIENCE, key=before.id, audience=int(after.audience))
    await put(tx, after, grants)


async def forget(tx: Transaction, build: Build) -> None:
    """Count a build no more for those who saw it by its list; its rows go with it."""
    found = await list_of(tx, build)
    if found is not None:
        _count(tx, build, found.grants, -1)


def _count(tx: Transaction, build: Build, grants: Iterable[tuple[str, Right]], by: int) -> None:
    """Everyone's are counted by project and for the server; others for those whom the list names, by project."""
    if build.audience is Audience.PROJECT:
        return
    counters.bump(tx, "project", build.project, {"own_list": by})
    if build.audience is Audience.PUBLIC:
        counters.bump(tx, "project", build.project, {"published": by})
        counters.bump(tx, "server", 0, {"published": by})
        return
    if build.submitter is not None:
        counters.bump(tx, "reserved", build.submitter, {str(build.project): by})
    for name, right in grants:
        if name != EVERYONE and right & Right.LIST:
            counters.bump(tx, f"granted:{name}", 0, {str(build.project): by})


async def published(tx: Transaction, project: ProjectId | None) -> int:
    """How many builds everyone finds in lists by their own list: of a project, or of all."""
    kind, owner = ("server", 0) if project is None else ("project", project)
    return await counters.value(tx, kind, owner, "published")


async def own_lists(tx: Transaction, project: ProjectId) -> int:
    """How many builds of a project have a list of their own."""
    return await counters.value(tx, "project", project, "own_list")


async def reserved(tx: Transaction, submitter: UserId) -> dict[ProjectId, int]:
    """How many builds that not everyone finds in lists a user has submitted, by project."""
    found = await counters.all_of(tx, "reserved", submitter)
    return {ProjectId(int(name)): count for name, count in found.items() if count}


async def granted(tx: Transaction, name: str) -> dict[ProjectId, int]:
    """How many builds that not everyone finds in lists name a user in theirs, by project."""
    found = await counters.all_of(tx, f"granted:{name}", 0)
    return {ProjectId(int(project)): count for project, count in found.items() if count}
