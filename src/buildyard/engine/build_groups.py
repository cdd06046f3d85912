"""Groups: builds that wait for their start, collected so that they are started, stopped and told of together."""

from collections.abc import Sequence
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission, may, may_of_account
from buildyard.domain.builds import Build
from buildyard.domain.errors import EngineError, Fault, Forbidden, Invalid, NotFound
from buildyard.domain.ids import AccountId, BuildId, GroupId
from buildyard.domain.manifests import ManifestTrigger
from buildyard.domain.states import Phase
from buildyard.engine.build_access import owner_of, require_build
from buildyard.engine.manifest_jobs import start_build
from buildyard.engine.manifest_triggers import keep_group_triggers, triggers_faults
from buildyard.engine.settling import locked_build
from buildyard.engine.stopping import stop_build
from buildyard.store import audit, builds, groups, identity
from buildyard.store.builds import BuildView
from buildyard.store.groups import Group
from buildyard.store.transactions import Transaction

MOST_BUILDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGroup:
    """Builds to collect; with `execute` they are started at once."""

    builds: tuple[BuildId, ...]
    note: str = ""
    triggers: tuple[ManifestTrigger, ...] = ()
    execute: bool = False


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group and those of its builds that the reader may see, oldest first."""

    group: Group
    builds: tuple[BuildView, ...]


async def create_group(tx: Transaction, actor: Actor, new: NewGroup, *, allow_local: bool) -> GroupView:
    """Collect builds that wait for their start and that the actor may start; each is in one group at most."""
    account = await _own_account(tx, actor)
    faults = triggers_faults(new.triggers, allow_local=allow_local)
    wanted = sorted(set(new.builds))
    if not 1 <= len(wanted) <= MOST_BUILDS:
        faults.append(Fault("jobs", f"must name 1 to {MOST_BUILDS} jobs", "count"))
    found = [await _member(tx, actor, key, faults) for key in wanted] if not faults else []
    if faults:
        raise Invalid("the group is not valid", tuple(faults))
    members = [one for one in found if one is not None]
    key = await groups.add(tx, account, new.note, [one.id for one in members])
    await keep_group_triggers(tx, members[0].project, key, new.triggers, by=actor.name)
    if new.execute:
        for build in members:
            await start_build(tx, build)
    details = {"builds": [one.uid for one in members]}
    await audit.add(tx, actor, "group.create", key, project=members[0].project, details=details)
    return await _view(tx, actor, await groups.get(tx, key))


async def _own_account(tx: Transaction, actor: Actor) -> AccountId:
    account = await identity.find_account(tx, actor.name) if actor.user is not None else None
    if account is None or account.user != actor.user or not may_of_account(actor, Permission.RUN, account.id):
        raise Forbidden(f"{actor.name} may not make groups with this token")
    return account.id


async def _member(tx: Transaction, actor: Actor, key: BuildId, faults: list[Fault]) -> Build | None:
    """A build that may join a new group, locked; else a fault says why not."""
    try:
        await require_build(tx, actor, Permission.RUN, await builds.get(tx, key), "job")
    except EngineError:
        faults.append(Fault("jobs", f"there is no job {key} of yours", "unknown_job"))
        return None
    build = await locked_build(tx, key)
    if await groups.of_build(tx, key) is not None:
        faults.append(Fault("jobs", f"job {key} is in a group already", "grouped"))
    elif build.state.phase is not Phase.WAITING:
        faults.append(Fault("jobs", f"job {key} has been started already", "started"))
    return build


async def get_group(tx: Transaction, actor: Actor, key: GroupId) -> GroupView:
    """The group with this id, for whoever made it and those of their account."""
    return await _view(tx, actor, await _found(tx, actor, key, Permission.READ))


async def _found(tx: Transaction, actor: Actor, key: GroupId, permission: Permission) -> Group:
    group = await groups.get(tx, key)
    if not may_of_account(actor, Permission.READ, group.account):
        raise NotFound("group not found")
    if not may_of_account(actor, permission, group.account):
        raise Forbidden(f"{actor.name} may not {permission} group {key}")
    return group


async def _view(tx: Transaction, actor: Actor, group: Group) -> GroupView:
    views = [await builds.view(tx, key) for key in await groups.builds_of(tx, group.id)]
    seen = [view for view in views if may(actor, Permission.READ, await owner_of(tx, view.build))]
    return GroupView(group, tuple(seen))


async def start_group(tx: Transaction, actor: Actor, key: GroupId) -> GroupView:
    """Start all builds of a group that wait for it."""
    group = await _found(tx, actor, key, Permission.RUN)
    for build in await _members(tx, actor, key, Permission.RUN):
        await start_build(tx, await locked_build(tx, build))
    await audit.add(tx, actor, "group.start", key)
    return await _view(tx, actor, group)


async def cancel_group(tx: Transaction, actor: Actor, key: GroupId) -> GroupView:
    """Stop all builds of a group."""
    group = await _found(tx, actor, key, Permission.CANCEL)
    for build in await _members(tx, actor, key, Permission.CANCEL):
        await stop_build(tx, build, detail=f"cancelled with its group by {actor.name}")
    await audit.add(tx, actor, "group.cancel", key)
    return await _view(tx, actor, group)


async def _members(tx: Transaction, actor: Actor, key: GroupId, permission: Permission) -> Sequence[BuildId]:
    """Those builds of a group that the actor may still act on."""
    found = [await builds.get(tx, one) for one in await groups.builds_of(tx, key)]
    return [one.id for one in found if may(actor, permission, await owner_of(tx, one))]
