"""Rules of telling and the messages they lead to: make, list, remove; look at, send again."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission, require, require_global
from buildyard.domain.errors import Conflict, Fault, Forbidden, Invalid, LimitReached, NotFound
from buildyard.domain.ids import PipelineId, ProjectId
from buildyard.domain.notifications import (
    SERVER,
    Action,
    DeliveryState,
    Rule,
    action_of,
    credential_of,
    rule_faults,
    shown_target,
)
from buildyard.domain.states import Phase
from buildyard.engine.engine import Engine
from buildyard.engine.telling_secrets import require_secret
from buildyard.store import audit, builds, deliveries, notifications, pipelines, projects
from buildyard.store.deliveries import Delivery, Try
from buildyard.store.notifications import Notification
from buildyard.store.pipelines import Pipeline
from buildyard.store.telling import TOPIC
from buildyard.store.transactions import Transaction

DEFINED_BY = "notify"
"""Who made the rules made here; those of files are changed in the files."""

MOST_RULES = 200
"""How many a project may have, with those of its pipelines and builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What this server can tell by: the actions it is set up for, the credentials its settings name."""

    actions: Collection[Action]
    credentials: Collection[str]
    allow_local: bool


def means_of(engine: Engine) -> Means:
    """Those of this server."""
    return Means(
        actions=tuple(engine.notifiers),
        credentials=tuple(engine.credentials),
        allow_local=engine.policy.allow_local_sources,
    )


async def add_notification(
    tx: Transaction, actor: Actor, project_uid: str, rule: Rule, means: Means, *, pipeline: str = "", build: str = ""
) -> Notification:
    """Make a rule for a project, or for one of its pipelines (by slug) or builds (by uid)."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    check_rule(actor, rule, means)
    if len(await notifications.of_project(tx, project.id, MOST_RULES)) >= MOST_RULES:
        raise LimitReached(f"the project has {MOST_RULES} notifications already: remove one first")
    narrowed = await _pipeline(tx, project.id, pipeline) if pipeline else None
    found = await builds.view_by_uid(tx, build) if build else None
    if found is not None and found.build.project != project.id:
        raise NotFound("build not found")
    if found is not None and found.build.state.phase is Phase.FINISHED:
        raise Conflict("the build has ended: nothing of it will be told any more")
    of_build = found.build.pipeline if found else None
    await require_secret(tx, actor, rule, project, narrowed or of_build)
    uid = await notifications.add(
        tx,
        rule,
        project=project.id,
        pipeline=narrowed,
        build=found.build.id if found else None,
        defined_by=DEFINED_BY,
        created_by=actor.name,
    )
    details = {"action": str(action_of(rule.target)), "on": str(rule.condition), "target": shown_target(rule.target)}
    await audit.add(tx, actor, "notification.create", uid, project=project.id, details=details)
    return await notifications.get(tx, uid)


async def _pipeline(tx: Transaction, project: ProjectId, slug: str) -> PipelineId:
    found = await pipelines.find_by_slug(tx, project, slug)
    if found is None:
        raise NotFound(f"pipeline {slug} not found")
    return found.id


def check_rules(actor: Actor, rules: Iterable[Rule], means: Means) -> None:
    """Raise unless a file's rules are right, this server can follow them, and the actor may use its credentials.

    Secrets that the rules name are for `require_secrets_of_file`.
    """
    found = [
        Fault(f"notify[{i}].{fault.path}", fault.message, fault.code)
        for i, rule in enumerate(rules)
        for fault in _faults(actor, rule, means)
    ]
    if found:
        raise Invalid("the workflow has faults", tuple(found))


def check_rule(actor: Actor, rule: Rule, means: Means) -> None:
    """Raise unless the rule is right, this server can follow it, and the actor may use the server's credential."""
    if faults := _faults(actor, rule, means):
        raise Invalid("the notification is not valid", tuple(faults))


def _faults(actor: Actor, rule: Rule, means: Means) -> list[Fault]:
    faults = rule_faults(rule, allow_local=means.allow_local)
    action = action_of(rule.target)
    if action not in means.actions:
        faults.append(Fault("action", f"this server is not set up to send by {action}", "not_set_up"))
    name = credential_of(rule.target)
    if name.startswith(SERVER):
        require_global(actor, Permission.MANAGE_SERVER, f"use the credential {name} of the server")
        if name.removeprefix(SERVER) not in means.credentials:
            faults.append(Fault("credential", f"there is no credential {name!r}", "unknown_credential"))
    return faults


async def keep_rules(
    tx: Transaction, pipeline: Pipeline, rules: Iterable[Rule], *, defined_by: str, created_by: str
) -> bool:
    """Make these be the rules of a pipeline that a file defines, in the caller's transaction; True if that changed any.

    Rules that stay are the same ones as before. The caller has checked them with `check_rule`.
    """
    known = {found.rule: found for found in await notifications.of_file(tx, pipeline.id, defined_by, lock=True)}
    wanted = dict.fromkeys(rules)
    for rule, found in known.items():
        if rule not in wanted:
            await notifications.remove(tx, found.id)
    new = [rule for rule in wanted if rule not in known]
    for rule in new:
        await notifications.add(
            tx,
            rule,
            project=pipeline.project,
            pipeline=pipeline.id,
            build=None,
            defined_by=defined_by,
            created_by=created_by,
        )
    return bool(new) or not known.keys() <= wanted.keys()


async def define_notifications(
    tx: Transaction, actor: Actor, pipeline_uid: str, rules: tuple[Rule, ...], means: Means, *, defined_by: str
) -> None:
    """Make these be the rules of a pipeline that its file defines."""
    pipeline = await pipelines.get_by_uid(tx, pipeline_uid)
    project = await projects.get(tx, pipeline.project)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    for i, rule in enumerate(rules):
        check_rule(actor, rule, means)
        await require_secret(tx, actor, rule, project, pipeline.id, at=f"notify[{i}].")
    if await keep_rules(tx, pipeline, rules, defined_by=defined_by, created_by=actor.name):
        told = [f"{rule.condition}: {shown_target(rule.target)}" for rule in rules]
        await audit.add(tx, actor, "notification.define", pipeline.uid, project=project.id, details={"rules": told})


async def has_other_rules(
    tx: Transaction, _actor: Actor, pipeline: PipelineId, rules: tuple[Rule, ...], *, defined_by: str
) -> bool:
    """Whether a pipeline's rules differ from those that its file names now."""
    return {found.rule for found in await notifications.of_file(tx, pipeline, defined_by)} != set(rules)


async def list_notifications(tx: Transaction, actor: Actor, project_uid: str) -> list[Notification]:
    """A project's rules with those of its pipelines and builds; where they lead is for who may configure."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    return await notifications.of_project(tx, project.id, MOST_RULES)


async def remove_notification(tx: Transaction, actor: Actor, reference: str) -> None:
    """Remove the rule with this id or uid; what waits to be sent for it is dropped."""
    found = await notifications.get(tx, reference)
    project = await projects.get(tx, found.project)
    require(actor, Permission.CONFIGURE, project.owner, "notification")
    if found.defined_by != DEFINED_BY:
        raise Forbidden(f"the notification was defined by {found.defined_by}; change it there")
    await notifications.remove(tx, found.id)
    await audit.add(tx, actor, "notification.remove", found.uid, project=project.id)
    tx.wake(TOPIC)


async def list_deliveries(
    tx: Transaction,
    actor: Actor,
    project_uid: str | None,
    *,
    state: DeliveryState | None,
    below: int,
    limit: int,
) -> list[Delivery]:
    """Messages of a project, or of all, newest first, with ids below `below`."""
    if project_uid is None:
        require_global(actor, Permission.MANAGE_SERVER, "see the deliveries of all projects")
        return await deliveries.page(tx, None, state, below=below, limit=limit)
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    return await deliveries.page(tx, project.id, state, below=below, limit=limit)


async def get_delivery(tx: Transaction, actor: Actor, reference: str) -> tuple[Delivery, list[Try]]:
    """The message with this id or uid, and how its tries went."""
    found = await _delivery(tx, actor, reference)
    return found, await deliveries.tries_of(tx, found.id)


async def resend_delivery(tx: Transaction, actor: Actor, reference: str) -> Delivery:
    """Send a message once more, with as many tries as a new one; one that still waits is left as it is."""
    found = await _delivery(tx, actor, reference)
    if await deliveries.send_again(tx, found):
        await audit.add(tx, actor, "delivery.resend", found.uid, project=found.project)
        tx.wake(TOPIC)
    return await deliveries.get_referred(tx, found.uid)


async def _delivery(tx: Transaction, actor: Actor, reference: str) -> Delivery:
    found = await deliveries.get_referred(tx, reference)
    if found.subscription is not None:
        require_global(actor, Permission.MANAGE_SERVER, "see the deliveries of a user's webhook")
    project = await projects.get(tx, found.project)
    require(actor, Permission.CONFIGURE, project.owner, "delivery")
    return found
