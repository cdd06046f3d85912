"""Secrets as people deal with them: set, list, delete. Nobody is ever shown a value."""

from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission, may, may_of_account, require, require_of_account
from buildyard.domain.errors import Fault, Invalid, NotFound
from buildyard.domain.ids import ProjectId, Uid
from buildyard.domain.secrets import FILE_MODE, SecretKind, SecretValue, home_path, name_fault, path_faults, value_fault
from buildyard.engine.keyring import Keyring
from buildyard.engine.secret_keys import KEY
from buildyard.store import audit, identity, pipelines, projects, secrets, settings
from buildyard.store.secrets import Scope, Sealed, Secret, SecretView
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a secret belongs, by name: an account, or a project, or a pipeline of the project."""

    account: str = ""
    project: str = ""
    pipeline: str = ""

    def __str__(self) -> str:
        if self.account:
            return f"account {self.account}"
        return f"pipeline {self.project}:{self.pipeline}" if self.pipeline else f"project {self.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret as it is to be. `path` and `mode` are for when a job gets it as a file."""

    name: str
    value: SecretValue
    kind: SecretKind = SecretKind.VARIABLE
    path: str = ""
    mode: int = FILE_MODE


@dataclass(frozen=True, slots=True)
class _Found:
    """A place that was found; `project` is that of its audit entries."""

    scope: Scope
    project: ProjectId | None


async def _find_place(tx: Transaction, actor: Actor, place: Place) -> _Found:
    """Look a place up, for those who may manage its secrets."""
    if bool(place.account) == bool(place.project) or (place.pipeline and not place.project):
        message = "name either an account, or a project and, if you like, one of its pipelines"
        raise Invalid(message, (Fault("project", message, "place"),))
    if place.account:
        account = await identity.find_account(tx, place.account)
        if account is None:
            raise NotFound(f"account {place.account} not found")
        require_of_account(actor, Permission.MANAGE_SECRETS, account.id, f"account {place.account}")
        return _Found(Scope(account=account.id), None)
    project = await projects.find_by_slug(tx, place.project)
    if project is None:
        raise NotFound(f"project {place.project} not found")
    require(actor, Permission.MANAGE_SECRETS, project.owner, f"project {place.project}")
    if not place.pipeline:
        return _Found(Scope(project=project.id), project.id)
    pipeline = await pipelines.find_by_slug(tx, project.id, place.pipeline)
    if pipeline is None:
        raise NotFound(f"project {place.project} has no pipeline {place.pipeline}")
    return _Found(Scope(pipeline=pipeline.id), project.id)


def _check(wanted: NewSecret) -> None:
    faults = [Fault("name", text, "name")] if (text := name_fault(wanted.name)) else []
    if text := value_fault(wanted.kind, wanted.value.reveal()):
        faults.append(Fault("value", text, "value"))
    if wanted.path:
        faults += path_faults(wanted.path, "path")
    if not 0 <= wanted.mode <= 0o777:
        faults.append(Fault("mode", "must be permission bits, from 0 to 0777", "mode"))
    if faults:
        raise Invalid(f"the secret cannot be kept: its {faults[0].path} {faults[0].message}", tuple(faults))


async def set_secret(tx: Transaction, actor: Actor, place: Place, wanted: NewSecret, keys: Keyring) -> SecretView:
    """Make a secret, or give the one of this name another value, kind, path and mode."""
    found = await _find_place(tx, actor, place)
    _check(wanted)
    key = await settings.find(tx, KEY, hold=True)
    keys.require(key or "(none)")
    assert key is not None
    existing = await secrets.find(tx, found.scope, wanted.name)
    uid = existing.uid if existing else Uid(tx.fresh_uid())
    sealed = Sealed(key=key, data=keys.seal(key, uid, wanted.value))
    path = home_path(wanted.path) if wanted.path else ""
    if existing is None:
        await secrets.add(
            tx, uid, found.scope, wanted.name, kind=wanted.kind, path=path, mode=wanted.mode, sealed=sealed
        )
    else:
        await secrets.change(tx, existing, kind=wanted.kind, path=path, mode=wanted.mode, sealed=sealed)
    details = {"name": wanted.name, "kind": wanted.kind.value, "of": str(place)}
    action = "secret.update" if existing else "secret.create"
    await audit.add(tx, actor, action, uid, project=found.project, details=details)
    (view,) = [view for view in await secrets.search(tx) if view.secret.uid == uid]
    return view


async def list_secrets(tx: Transaction, actor: Actor, place: Place | None = None) -> list[SecretView]:
    """The secrets of a place, or all that the actor may manage."""
    if place is None:
        return [view for view in await secrets.search(tx) if _may_manage(actor, view)]
    scope = (await _find_place(tx, actor, place)).scope
    return [view for view in await secrets.search(tx) if view.secret.scope == scope]


def _may_manage(actor: Actor, view: SecretView) -> bool:
    if view.owner is not None:
        return may(actor, Permission.MANAGE_SECRETS, view.owner)
    account = view.secret.scope.account
    return account is not None and may_of_account(actor, Permission.MANAGE_SECRETS, account)


async def remove_secret(tx: Transaction, actor: Actor, place: Place, name: str) -> None:
    """Delete a secret, by its name or its uid; jobs that name it fail from now on."""
    found = await _find_place(tx, actor, place)
    secret = await secrets.find(tx, found.scope, name) or await _nameless(tx, found.scope, name)
    if secret is None:
        raise NotFound(f"{place} has no secret {name}")
    await secrets.remove(tx, secret)
    details = {"name": secret.name, "kind": secret.kind.value, "of": str(place)}
    await audit.add(tx, actor, "secret.delete", secret.uid, project=found.project, details=details)


async def _nameless(tx: Transaction, scope: Scope, uid: str) -> Secret | None:
    found = await secrets.find_by_uid(tx, uid)
    return found[0] if found and found[0].scope == scope else None
