"""Projects: make, find, list."""

from buildyard.domain.access import Actor, Owner, Permission, Role, Visibility, may, require
from buildyard.domain.errors import Conflict, Forbidden, NotFound
from buildyard.domain.ids import AccountId
from buildyard.domain.workflow import free_slug, slug_of
from buildyard.store import audit, identity, projects
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction


async def create_project(
    tx: Transaction,
    actor: Actor,
    account_name: str,
    name: str,
    *,
    visibility: Visibility = Visibility.PRIVATE,
    make_account: bool = False,
    exact: bool = False,
) -> Project:
    """Make a project in an account; its slug is made from the name, with `-2` and so on after a clash.

    With `exact` a clash raises Conflict: for those who will look for the project by that slug again.
    """
    account = await identity.find_account(tx, account_name)
    if account is None and make_account and actor.administrator:
        account = await identity.find_or_add_account(tx, account_name)
    if account is None or not _may_create(actor, account.id):
        known = account is not None and account.id in actor.account_roles
        raise (Forbidden if known else NotFound)(f"account {account_name} not found or not yours")
    wanted = slug_of(name)
    taken = await projects.slugs_like(tx, wanted)
    if exact and wanted in taken:
        raise Conflict(f"the name {wanted} is taken: give the project another one")
    slug = free_slug(wanted, taken)
    project = await projects.add(tx, slug=slug, name=name, account=account.id, visibility=visibility)
    if project is None:
        raise Conflict(f"a project {slug} was made at the same moment")
    await audit.add(tx, actor, "project.create", project.uid, project=project.id, details={"name": name, "slug": slug})
    return project


def _may_create(actor: Actor, account: AccountId) -> bool:
    if Permission.CREATE_PROJECT not in actor.allowed or actor.only_project is not None:
        return False
    return actor.administrator or actor.account_roles.get(account, 0) >= Role.ADMIN


async def require_definer(tx: Transaction, actor: Actor, slug: str) -> None:
    """Raise unless the actor may define and run workflows in the project of this slug, or make it if there is none."""
    project = await projects.find_by_slug(tx, slug)
    if project is not None and may(actor, Permission.READ, project.owner):
        require(actor, Permission.CONFIGURE, project.owner, "project")
        require(actor, Permission.RUN, project.owner, "project")
    elif Permission.CREATE_PROJECT not in actor.allowed or actor.only_project is not None:
        raise NotFound(f"project {slug} not found")


async def list_projects(tx: Transaction, actor: Actor, account_name: str | None = None) -> list[Project]:
    """The projects of an account (or all) that the actor may see, newest first."""
    account = None
    if account_name is not None:
        found = await identity.find_account(tx, account_name)
        if found is None:
            raise NotFound(f"account {account_name} not found")
        account = found.id
    return [
        project
        for project in await projects.search(tx, account)
        if may(actor, Permission.READ, project.owner) and is_listed(actor, project.owner)
    ]


def is_listed(actor: Actor, owner: Owner) -> bool:
    """Unlisted projects show in lists to those only who would see them if they were private."""
    if owner.visibility is not Visibility.UNLISTED:
        return True
    return may(actor, Permission.READ, Owner(owner.project, owner.account, Visibility.PRIVATE))


async def get_project(tx: Transaction, actor: Actor, uid: str) -> Project:
    """The project with this uid."""
    project = await projects.get_by_uid(tx, uid)
    require(actor, Permission.READ, project.owner, "project")
    return project


async def find_project(tx: Transaction, actor: Actor, slug: str) -> Project | None:
    """The project with this slug, if the actor may see it."""
    project = await projects.find_by_slug(tx, slug)
    return project if project is not None and may(actor, Permission.READ, project.owner) else None
