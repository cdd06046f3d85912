"""What belongs to many builds at once: for readers who ask for several with all around them.

Each function takes the keys that are wanted and answers for those that the actor may read, in as many statements for a
hundred as for one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from buildyard.domain.access import Actor, Owner, Permission, Visibility, may, may_of_account
from buildyard.domain.build_access import visibility_of
from buildyard.domain.builds import Build
from buildyard.domain.ids import AccountId, BuildId, GroupId, Moment, UserId
from buildyard.domain.notifications import Rule
from buildyard.engine.own_secrets import load_own_secrets
from buildyard.store import build_access, build_tags, builds, groups, identity, kept, notifications, projects
from buildyard.store.builds import BuildView
from buildyard.store.groups import Group
from buildyard.store.secrets import Secret
from buildyard.store.transactions import Transaction

MOST_ARTIFACTS = 100
"""So many artifacts of a build are told here; there are pages of all elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOwner:
    """Whose builds they are: of a person's account their user, else the account itself, without a `user`."""

    account: AccountId
    name: str
    user: UserId | None
    created_at: Moment


async def _owners(tx: Transaction, found: Iterable[Build]) -> dict[BuildId, Owner]:
    """What access decisions need to know of many builds."""
    all_of_them = list(found)
    own = await build_access.lists_of(tx, all_of_them)
    of_projects = await projects.get_many(tx, sorted({build.project for build in all_of_them}))
    return {build.id: replace(of_projects[build.project].owner, own=own[build.id]) for build in all_of_them}


async def _readable(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> dict[BuildId, Build]:
    found = await builds.get_many(tx, keys)
    owners = await _owners(tx, found.values())
    return {key: build for key, build in found.items() if may(actor, Permission.READ, owners[key])}


async def load_jobs(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, BuildView]:
    """The builds with these ids."""
    found = await builds.views(tx, keys)
    owners = await _owners(tx, [view.build for view in found])
    return {view.build.id: view for view in found if may(actor, Permission.READ, owners[view.build.id])}


async def load_visibilities(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, Visibility]:
    """Who else sees these builds."""
    found = await _readable(tx, actor, keys)
    of_projects = await projects.get_many(tx, sorted({build.project for build in found.values()}))
    return {
        key: visibility_of(build.audience, of_projects[build.project].owner.visibility) for key, build in found.items()
    }


async def load_owners(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, JobOwner]:
    """Whose these builds are."""
    found = await _readable(tx, actor, keys)
    of_projects = await projects.get_many(tx, sorted({build.project for build in found.values()}))
    accounts = {build.id: of_projects[build.project].owner.account for build in found.values()}
    owners = await _job_owners(tx, accounts.values())
    return {key: owners[account] for key, account in accounts.items()}


async def _job_owners(tx: Transaction, keys: Iterable[AccountId]) -> dict[AccountId, JobOwner]:
    found = await identity.accounts_by_id(tx, sorted(set(keys)))
    return {one.id: JobOwner(account=one.id, name=one.name, user=one.user, created_at=one.created_at) for one in found}


async def load_artifacts(
    tx: Transaction, actor: Actor, keys: Sequence[BuildId]
) -> Mapping[BuildId, Sequence[kept.Artifact]]:
    """The artifacts of these builds, the oldest MOST_ARTIFACTS of each."""
    found: dict[BuildId, list[kept.Artifact]] = {}
    for artifact in await kept.artifacts_of_many(tx, await _readable(tx, actor, keys), limit=MOST_ARTIFACTS):
        found.setdefault(artifact.build, []).append(artifact)
    return found


async def load_job_secrets(
    tx: Transaction, actor: Actor, keys: Sequence[BuildId]
) -> Mapping[BuildId, Sequence[Secret]]:
    """Which of the actor's own secrets these builds may have; builds from which they are withheld are left out."""
    found = {key: build for key, build in (await _readable(tx, actor, keys)).items() if build.secrets_enabled}
    of_builds = await build_tags.secrets_of_builds(tx, found)
    own = await load_own_secrets(tx, actor, sorted({key for some in of_builds.values() for key in some}))
    return {key: [own[one] for one in of_builds.get(key, ()) if one in own] for key in found}


# --- groups -------------------------------------------------------------------------------------


async def load_groups_of(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, Group]:
    """The groups that these builds are in, as far as they are the actor's; other builds are left out."""
    of_builds = await groups.of_builds(tx, await _readable(tx, actor, keys))
    found = await _groups(tx, actor, of_builds.values())
    return {key: found[group] for key, group in of_builds.items() if group in found}


async def _groups(tx: Transaction, actor: Actor, keys: Iterable[GroupId]) -> dict[GroupId, Group]:
    found = await groups.get_many(tx, sorted(set(keys)))
    return {one.id: one for one in found if may_of_account(actor, Permission.READ, one.account)}


async def load_group_jobs(
    tx: Transaction, actor: Actor, keys: Sequence[GroupId]
) -> Mapping[GroupId, Sequence[BuildId]]:
    """The builds of these groups, oldest first; whether the actor may read them is asked when they are loaded."""
    return await groups.builds_of_many(tx, await _groups(tx, actor, keys))


async def load_group_owners(tx: Transaction, actor: Actor, keys: Sequence[GroupId]) -> Mapping[GroupId, JobOwner]:
    """Who made these groups."""
    found = await _groups(tx, actor, keys)
    owners = await _job_owners(tx, [group.account for group in found.values()])
    return {key: owners[group.account] for key, group in found.items()}


async def load_group_rules(tx: Transaction, actor: Actor, keys: Sequence[GroupId]) -> Mapping[GroupId, Sequence[Rule]]:
    """Who is told of the ends of these groups."""
    found: dict[GroupId, list[Rule]] = {}
    for key, rule in await notifications.of_groups(tx, await _groups(tx, actor, keys)):
        found.setdefault(key, []).append(rule)
    return found
