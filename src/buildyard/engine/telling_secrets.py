"""Secrets that rules of telling name: there when a rule is made, and opened for each try of a message."""

from collections.abc import Sequence

from buildyard.domain.access import SYSTEM, Actor, Permission, require, require_of_account
from buildyard.domain.errors import Fault, Forbidden, Invalid, NotFound, Unavailable
from buildyard.domain.ids import PipelineId
from buildyard.domain.notifications import Rule, secret_of
from buildyard.engine.keyring import Keyring
from buildyard.store import audit, builds, deliveries, identity, pipelines, projects, secrets
from buildyard.store.deliveries import Delivery
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction


async def require_secret(
    tx: Transaction, actor: Actor, rule: Rule, project: Project, pipeline: PipelineId | None, *, at: str = ""
) -> None:
    """Raise unless there is the secret that a rule names, and the actor may decide where it is used.

    Without a `pipeline` the rule is for all of the project's: then a secret of one of them is not enough.
    """
    name = secret_of(rule.target)
    if not name:
        return
    require(actor, Permission.MANAGE_SECRETS, project.owner, f"project {project.slug}")
    found = await secrets.find_nearest(tx, name, account=project.account, project=project.id, pipeline=pipeline)
    if found is None:
        hint = f"set it with `buildyard secret set {name} --project {project.slug}`"
        raise _missing(name, f"the project {project.slug}", hint, at)


async def require_secrets_of_file(
    tx: Transaction, actor: Actor, rules: Sequence[Rule], *, project: str, pipeline: str, account: str
) -> None:
    """Raise what `require_secret` would for a file's rules; the project and the pipeline may not be there yet.

    A new project will belong to `account`.
    """
    found = await projects.find_by_slug(tx, project)
    for i, rule in enumerate(rules):
        at = f"notify[{i}]."
        if found is None:
            await _require_of_account(tx, actor, secret_of(rule.target), account, at)
            continue
        known = await pipelines.find_by_slug(tx, found.id, pipeline)
        await require_secret(tx, actor, rule, found, known.id if known else None, at=at)


async def _require_of_account(tx: Transaction, actor: Actor, name: str, account: str, at: str) -> None:
    if not name:
        return
    found = await identity.find_account(tx, account)
    if found is None:
        if Permission.MANAGE_SECRETS not in actor.allowed:
            raise Forbidden(f"{actor.name} may not {Permission.MANAGE_SECRETS} with this token")
    else:
        require_of_account(actor, Permission.MANAGE_SECRETS, found.id, f"account {account}")
    if found is None or not await secrets.find_nearest(tx, name, account=found.id, project=None, pipeline=None):
        raise _missing(
            name, f"the account {account}", f"set it with `buildyard secret set {name} --account {account}`", at
        )


def _missing(name: str, place: str, hint: str, at: str) -> Invalid:
    message = f"there is no secret {name} for {place}"
    return Invalid(f"{message}; {hint}", (Fault(f"{at}credential", message, "unknown_secret"),))


async def use_secret(tx: Transaction, _actor: Actor, message: Delivery, name: str, keys: Keyring) -> str:
    """The text of the secret of this name that is nearest to a message's build now.

    The audit log gets one entry for each message and secret, however often the message is tried.
    """
    project = await projects.get(tx, message.project)
    build = await builds.get(tx, message.build)
    nearest = await secrets.find_nearest(tx, name, account=project.account, project=project.id, pipeline=build.pipeline)
    if nearest is None:
        raise NotFound(f"there is no secret {name} for the project {project.slug}")
    secret, sealed = nearest
    try:
        text = keys.unseal(sealed.key, secret.uid, sealed.data).reveal().decode().strip()
    except Unavailable as exc:
        raise Unavailable(f"the secret {name} cannot be read: {exc}") from None
    except UnicodeDecodeError:
        raise Unavailable(f"the secret {name} is not text") from None
    if await deliveries.note_secret(tx, message.id, secret.id):
        await secrets.note_used(tx, secret.id)
        details = {"name": name, "build": message.build_uid, "delivery": message.uid}
        await audit.add(tx, SYSTEM, "secret.use", secret.uid, project=project.id, details=details)
    return text
