"""Who may see and do what with a build: its project's rule, or its own list in place of it."""

from collections.abc import Iterable
from dataclasses import replace

from buildyard.domain.access import Actor, Audience, Owner, Permission, may, require
from buildyard.domain.build_access import BuildAccess, is_listed, kept_for
from buildyard.domain.builds import Build
from buildyard.domain.ids import BuildId
from buildyard.engine import projects as project_rules
from buildyard.store import build_access, builds, identity, projects
from buildyard.store.transactions import Transaction


async def owner_of(tx: Transaction, build: Build) -> Owner:
    """What access decisions need to know of a build."""
    owner = (await projects.get(tx, build.project)).owner
    if build.audience is Audience.PROJECT:
        return owner
    return replace(owner, own=await build_access.list_of(tx, build))


async def require_build(tx: Transaction, actor: Actor, permission: Permission, build: Build, what: str) -> None:
    """Raise unless `actor` may do this to the build, or to what of it is called `what`."""
    require(actor, permission, await owner_of(tx, build), what)


async def listed_builds(tx: Transaction, actor: Actor, keys: Iterable[BuildId]) -> set[BuildId]:
    """Those of these builds that show in lists that the actor reads."""
    found = await builds.get_many(tx, sorted(set(keys)))
    owners = {key: (await projects.get(tx, key)).owner for key in sorted({one.project for one in found.values()})}
    own = await build_access.lists_of(tx, found.values())
    return {key for key, build in found.items() if _shows(actor, replace(owners[build.project], own=own[key]))}


def _shows(actor: Actor, owner: Owner) -> bool:
    if not may(actor, Permission.READ, owner):
        return False
    return project_rules.is_listed(actor, owner) if owner.own is None else is_listed(actor, owner)


async def access_again(tx: Transaction, actor: Actor, build: Build) -> BuildAccess:
    """The access of a build that `actor` makes once more; whoever submitted it keeps every right."""
    submitter = await identity.get_user(tx, build.submitter) if build.submitter is not None else None
    return kept_for(await owner_of(tx, build), build.audience, actor.user, submitter.username if submitter else "")


async def change_access(tx: Transaction, build: Build, access: BuildAccess) -> None:
    """Give a locked build, whose list somebody may change, another audience and list."""
    await build_access.replace(tx, build, replace(build, audience=access.audience), access.grants)
