"""Lists of builds and of the audit log, of what the actor may see, with exact totals.

A build shows by its project's rule or by a list of its own, never by both: so pages of each kind can be merged.
"""

import heapq
from collections.abc import Sequence
from itertools import islice

from buildyard.domain.access import Actor, Permission, may
from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.ids import ProjectId
from buildyard.engine.projects import is_listed
from buildyard.store import audit, build_access, builds, counters, projects
from buildyard.store.audit import Entry
from buildyard.store.builds import BuildView
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction

DEEPEST = 10_000
"""How far members of some projects only may page: their pages are merged from those of each project."""


async def list_visible_builds(tx: Transaction, actor: Actor, *, limit: int, offset: int) -> tuple[list[BuildView], int]:
    """A page of the builds of all projects that the actor sees, newest first, and the number of all."""
    if actor.administrator and Permission.READ in actor.allowed and actor.only_project is None:
        return await builds.page(tx, None, limit=limit, offset=offset)
    if Permission.READ not in actor.allowed:
        return [], 0
    most = _deepest(limit, offset)
    pages = [await _as_project(tx, one, most) for one in await _projects(tx, actor, Permission.READ)]
    return _merged([*pages, *await _by_own_lists(tx, actor, actor.only_project, most)], limit, offset)


async def page_of_project(
    tx: Transaction, actor: Actor, project: Project, *, limit: int, offset: int
) -> tuple[list[BuildView], int]:
    """A page of those builds that the actor sees of a project that they may read, newest first, and their number."""
    if actor.administrator or not await build_access.own_lists(tx, project.id):
        return await builds.page(tx, project.id, limit=limit, offset=offset)
    most = _deepest(limit, offset)
    pages = [await _as_project(tx, project, most), *await _by_own_lists(tx, actor, project.id, most)]
    return _merged(pages, limit, offset)


async def newest_of_projects(tx: Transaction, actor: Actor, of: Sequence[Project], count: int) -> list[BuildView]:
    """The newest builds that the actor finds in these projects, also in one that only lists of builds open to them."""
    if Permission.READ not in actor.allowed:
        return []
    pages: list[_Page] = []
    for project in of:
        if actor.only_project not in (None, project.id):
            continue
        if may(actor, Permission.READ, project.owner) and is_listed(actor, project.owner):
            pages.append(await page_of_project(tx, actor, project, limit=count, offset=0))
        else:
            pages += await _by_own_lists(tx, actor, project.id, count)
    return _merged(pages, count, 0)[0]


_Page = tuple[list[BuildView], int]


def _merged(pages: Sequence[_Page], limit: int, offset: int) -> _Page:
    merged = heapq.merge(*(views for views, _ in pages), key=lambda view: -view.build.id)
    return list(islice(merged, offset, offset + limit)), sum(total for _, total in pages)


async def _as_project(tx: Transaction, project: Project, most: int) -> _Page:
    """The builds for which the project's rule holds."""
    if not await build_access.own_lists(tx, project.id):
        return await builds.page(tx, project.id, limit=most, offset=0)
    total = (await counters.value(tx, "project", project.id, "builds")) - await build_access.own_lists(tx, project.id)
    return await builds.page_as_project(tx, project.id, most), total


async def _by_own_lists(tx: Transaction, actor: Actor, project: ProjectId | None, most: int) -> list[_Page]:
    """The builds, of a project or of all, that the actor finds by their own lists: each in one of the pages."""
    pages = [(await builds.page_published(tx, project, most), await build_access.published(tx, project))]
    if actor.user is not None:
        mine = await build_access.reserved(tx, actor.user)
        if mine:
            pages.append((await builds.page_reserved(tx, actor.user, project, most), _in(mine, project)))
        named = await build_access.granted(tx, actor.name)
        if named:
            pages.append((await builds.page_granted(tx, actor.name, project, most), _in(named, project)))
    return pages


def _in(totals: dict[ProjectId, int], project: ProjectId | None) -> int:
    return sum(totals.values()) if project is None else totals.get(project, 0)


async def list_visible_audit(
    tx: Transaction, actor: Actor, *, action: str | None, limit: int, offset: int
) -> tuple[list[Entry], int]:
    """A page of the audit log of the server, or of all projects whose audit log the actor may read."""
    if actor.administrator and Permission.READ_AUDIT in actor.allowed and actor.only_project is None:
        return await audit.search(tx, project=None, action=action, limit=limit, offset=offset)
    most = _deepest(limit, offset)
    pages = [
        await audit.search(tx, project=project.id, action=action, limit=most, offset=0)
        for project in await _projects(tx, actor, Permission.READ_AUDIT)
    ]
    merged = heapq.merge(*(entries for entries, _ in pages), key=lambda entry: entry.uid, reverse=True)
    return list(islice(merged, offset, offset + limit)), sum(total for _, total in pages)


def _deepest(limit: int, offset: int) -> int:
    if offset + limit > DEEPEST:
        message = f"offset and limit may reach {DEEPEST} at most; ask for one project instead"
        raise Invalid(message, (Fault("offset", message, "too_deep"),))
    return offset + limit


async def _projects(tx: Transaction, actor: Actor, permission: Permission) -> Sequence[Project]:
    return [
        project
        for project in await projects.search(tx, None)
        if may(actor, permission, project.owner) and is_listed(actor, project.owner)
    ]
