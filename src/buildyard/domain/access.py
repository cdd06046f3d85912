"""Who may do what: actors, permissions, roles and token scopes."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag, StrEnum

from buildyard.domain.errors import Forbidden, NotFound, Unauthenticated
from buildyard.domain.ids import AccountId, ProjectId, UserId


class Permission(StrEnum):
    """One kind of act."""

    READ = "read"
    RUN = "run"
    CANCEL = "cancel"
    APPROVE = "approve"
    CONFIGURE = "configure"
    CREATE_PROJECT = "create_project"
    CREATE_IMAGE = "create_image"
    MANAGE_SECRETS = "manage_secrets"
    READ_AUDIT = "read_audit"
    REPORT = "report"
    MANAGE_SELF = "manage_self"
    MANAGE_USERS = "manage_users"
    MANAGE_SERVER = "manage_server"


class Role(IntEnum):
    """A person's part in a project or account; each includes the ones before."""

    VIEWER = 1
    DEVELOPER = 2
    ADMIN = 3
    OWNER = 4


P = Permission
ROLE_MAY: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({P.READ, P.APPROVE}),
    Role.DEVELOPER: frozenset({P.READ, P.APPROVE, P.RUN, P.CANCEL, P.REPORT}),
    Role.ADMIN: frozenset({P.READ, P.APPROVE, P.RUN, P.CANCEL, P.REPORT, P.CONFIGURE, P.MANAGE_SECRETS, P.READ_AUDIT}),
    Role.OWNER: frozenset(
        {
            P.READ,
            P.APPROVE,
            P.RUN,
            P.CANCEL,
            P.REPORT,
            P.CONFIGURE,
            P.MANAGE_SECRETS,
            P.READ_AUDIT,
            P.CREATE_PROJECT,
        }
    ),
}
"""APPROVE lets a member answer where an approval names them or their role; see `domain.blocking.may_approve`."""

ALL = frozenset(Permission)

SCOPE_MAY: dict[str, frozenset[Permission]] = {
    "jobs:read": frozenset({P.READ}),
    "jobs:write": frozenset({P.READ, P.RUN, P.CANCEL}),
    "approvals:write": frozenset({P.READ, P.APPROVE}),
    "secrets:write": frozenset({P.MANAGE_SECRETS}),
    "runner": frozenset({P.READ, P.REPORT}),
    "projects:write": frozenset({P.READ, P.CONFIGURE, P.CREATE_PROJECT, P.CREATE_IMAGE, P.READ_AUDIT}),
    "admin": ALL - {P.REPORT},
    "*": ALL,
}
"""What a token with a scope may be used for, as far as its user may do it.

Only the last two hold MANAGE_SELF: who may set a password or make tokens can become all that the user is.
"""


class Visibility(IntEnum):
    """Who sees a project without being a member of it."""

    PRIVATE = 0
    UNLISTED = 1
    PUBLIC = 2


class ActorKind(Enum):
    """What stands behind an act."""

    ANONYMOUS = "anonymous"
    USER = "user"
    WORKER = "worker"
    OPERATOR = "operator"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, and what they may do at most.

    `allowed` bounds every permission (the token's scopes); `roles` are those in accounts and
    projects; an `administrator` may do everything within `allowed`. `only_project` is set for
    tokens of one project.
    """

    kind: ActorKind
    name: str
    user: UserId | None = None
    account: AccountId | None = None
    administrator: bool = False
    allowed: frozenset[Permission] = frozenset()
    account_roles: dict[AccountId, Role] = field(default_factory=dict)
    project_roles: dict[ProjectId, Role] = field(default_factory=dict)
    only_project: ProjectId | None = None
    ip: str = ""
    agent: str = ""


ANONYMOUS = Actor(kind=ActorKind.ANONYMOUS, name="anonymous", allowed=frozenset({Permission.READ}))
SYSTEM = Actor(kind=ActorKind.SYSTEM, name="system", administrator=True, allowed=ALL)


class Right(IntFlag):
    """What a build's own access list lets somebody do: find it in lists, see it by its id, act on it."""

    LIST = 1
    LOOK_UP = 2
    WRITE = 4


class Audience(IntEnum):
    """Who sees a build at all: as its project says, or by a list of its own: those named, everyone by id, everyone."""

    PROJECT = 0
    NAMED = 1
    UNLISTED = 2
    PUBLIC = 3


EVERYONE = "*"
"""The grantee that stands for everybody, known or not."""

RIGHT_FOR: dict[Permission, Right] = {
    P.READ: Right.LOOK_UP,
    P.RUN: Right.WRITE,
    P.CANCEL: Right.WRITE,
    P.APPROVE: Right.WRITE,
    P.REPORT: Right.WRITE,
}
"""What a build's own list decides; all else is the project's matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessList:
    """A build's own list: who has which rights. Whoever submitted the build has all."""

    submitter: UserId | None
    grants: tuple[tuple[str, Right], ...] = ()

    def rights_of(self, actor: Actor) -> Right:
        """What the list lets the actor do; names count for users only."""
        if actor.user is not None and actor.user == self.submitter:
            return Right.LIST | Right.LOOK_UP | Right.WRITE
        names = {EVERYONE} if actor.user is None else {EVERYONE, actor.name}
        rights = Right(0)
        for name, right in self.grants:
            if name in names:
                rights |= right
        return rights | Right.LOOK_UP if rights & Right.WRITE else rights


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom a project belongs and who else may see it: what access decisions need to know of it.

    A build with an access list of its own has `own`, which replaces the project's rule for it.
    """

    project: ProjectId
    account: AccountId
    visibility: Visibility
    own: AccessList | None = None


def may(actor: Actor, permission: Permission, owner: Owner) -> bool:
    """Whether `actor` may do this to the project or to what lies in it."""
    if permission not in actor.allowed or actor.only_project not in (None, owner.project):
        return False
    if actor.administrator:
        return True
    if owner.own is not None and permission in RIGHT_FOR:
        return bool(owner.own.rights_of(actor) & RIGHT_FOR[permission])
    role = role_of(actor, owner)
    if role is not None and permission in ROLE_MAY[role]:
        return True
    return permission is Permission.READ and owner.visibility is not Visibility.PRIVATE


def role_of(actor: Actor, owner: Owner) -> Role | None:
    """The actor's role in a project; an administrator counts as its owner."""
    if actor.administrator:
        return Role.OWNER
    role = max(actor.account_roles.get(owner.account, 0), actor.project_roles.get(owner.project, 0))
    return Role(role) if role else None


def require(actor: Actor, permission: Permission, owner: Owner, what: str) -> None:
    """Raise NotFound if `actor` may not even see `what`, Forbidden if it may see but not do this."""
    if may(actor, permission, owner):
        return
    if not may(actor, Permission.READ, owner):
        raise NotFound(f"{what} not found")
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated(f"sign in to {permission} {what}")
    raise Forbidden(f"{actor.name} may not {permission} {what}")


def may_of_account(actor: Actor, permission: Permission, account: AccountId) -> bool:
    """Whether `actor` may do this to what belongs to an account as a whole; a token of one project never may."""
    if permission not in actor.allowed or actor.only_project is not None:
        return False
    role = actor.account_roles.get(account)
    return actor.administrator or (role is not None and permission in ROLE_MAY[role])


def require_of_account(actor: Actor, permission: Permission, account: AccountId, what: str) -> None:
    """Raise NotFound for those whom the account does not know, Forbidden for those who may not do this."""
    if may_of_account(actor, permission, account):
        return
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated(f"sign in to {permission} {what}")
    if account not in actor.account_roles and not actor.administrator:
        raise NotFound(f"{what} not found")
    raise Forbidden(f"{actor.name} may not {permission} {what}")


def may_on_server(actor: Actor, permission: Permission) -> bool:
    """Whether `actor` may do this to the server as a whole; a token of one project never may."""
    if permission not in actor.allowed or actor.only_project is not None:
        return False
    return actor.administrator or permission is Permission.CREATE_IMAGE


def require_global(actor: Actor, permission: Permission, what: str) -> None:
    """Raise unless `actor` may do this to the server as a whole."""
    if may_on_server(actor, permission):
        return
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated(f"sign in to {what}")
    raise Forbidden(f"{actor.name} may not {what}")


def require_runner(actor: Actor, *further: Permission) -> None:
    """Raise unless `actor` may run something somewhere, and do `further` with it: to be asked before costly work."""
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated("sign in to run anything")
    missing = {Permission.RUN, *further} - actor.allowed
    if missing:
        raise Forbidden(f"{actor.name} may not {min(missing)} with this token")


def require_worker(actor: Actor) -> None:
    """Raise unless `actor` may take jobs and report on them, be it for one project only (see `serves`)."""
    if Permission.REPORT in actor.allowed and actor.administrator:
        return
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated("sign in to work for this server")
    raise Forbidden(f"{actor.name} may not work for this server")


def serves(actor: Actor, project: ProjectId) -> bool:
    """Whether a worker may have the jobs, caches and files of a project."""
    return actor.only_project in (None, project)


def require_self(actor: Actor, user: UserId | None, what: str) -> None:
    """Raise unless `actor` may change this user's password or tokens: their own, or anybody's who manages users.

    A token that may do less than its user must not get at what the user may do.
    """
    own = user is not None and user == actor.user
    if not (own and Permission.MANAGE_SELF in actor.allowed and actor.only_project is None):
        require_global(actor, Permission.MANAGE_USERS, what)


def may_use_of(actor: Actor, account: AccountId | None, *, public: bool) -> bool:
    """Whether `actor` may use what an account (None: the server) offers, such as an image."""
    if public or account is None or account in actor.account_roles:
        return True
    return actor.administrator and actor.only_project is None
