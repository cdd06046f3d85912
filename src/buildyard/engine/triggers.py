"""Triggers as people see them: listed, looked at, fired by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildyard.domain.access import Actor, Permission, may, require
from buildyard.domain.errors import Conflict, Invalid, NotFound
from buildyard.domain.sources import check_branch, check_commit
from buildyard.domain.triggers import Cron, Manual, check_parameters
from buildyard.engine.firing import Firing, fire
from buildyard.engine.projects import is_listed
from buildyard.store import audit, builds, pipelines, projects, triggers
from buildyard.store.builds import BuildView
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction
from buildyard.store.triggers import Trigger, TriggerState


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerView:
    """A trigger with what is shown beside it."""

    trigger: Trigger
    state: TriggerState
    project: Project
    pipelines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person gives a trigger that they fire; `branch` and `commit` win over those of the pipelines' sources."""

    parameters: Mapping[str, object] = field(default_factory=dict)
    branch: str = ""
    commit: str = ""
    note: str = ""


async def list_triggers(tx: Transaction, actor: Actor, project_slug: str = "") -> list[TriggerView]:
    """The triggers that the actor may see, of one project or of all."""
    found = [
        one
        for one in await projects.search(tx, None)
        if may(actor, Permission.READ, one.owner)
        and (one.slug == project_slug if project_slug else is_listed(actor, one.owner))
    ]
    if project_slug and not found:
        raise NotFound(f"project {project_slug} not found")
    return [await _view(tx, one, project) for project in found for one in await triggers.of_project(tx, project.id)]


async def get_trigger(tx: Transaction, actor: Actor, name: str) -> TriggerView:
    """The trigger of this name."""
    trigger, project = await _visible(tx, actor, name)
    return await _view(tx, trigger, project)


async def _visible(tx: Transaction, actor: Actor, name: str) -> tuple[Trigger, Project]:
    trigger = await triggers.find_by_name(tx, name)
    if trigger is None:
        raise NotFound(f"trigger {name} not found")
    project = await projects.get(tx, trigger.project)
    require(actor, Permission.READ, project.owner, f"trigger {name}")
    return trigger, project


async def _view(tx: Transaction, trigger: Trigger, project: Project) -> TriggerView:
    keys = await triggers.pipelines_of(tx, trigger.id)
    return TriggerView(
        trigger=trigger,
        state=await triggers.state_of(tx, trigger.id),
        project=project,
        pipelines=tuple([(await pipelines.get(tx, key)).slug for key in keys]),
    )


async def fire_trigger(tx: Transaction, actor: Actor, name: str, wish: Wish, *, queue_limit: int) -> list[BuildView]:
    """Fire a trigger of kind manual or cron because a person wants it; Invalid says what is wrong with the wish."""
    found, project = await _visible(tx, actor, name)
    require(actor, Permission.RUN, project.owner, f"trigger {name}")
    trigger = await triggers.get(tx, found.id, lock=True)
    if not trigger.enabled:
        raise Conflict(f"the trigger {name} is disabled")
    match trigger.spec:
        case Manual(parameters=known):
            parameters = check_parameters(known, wish.parameters)
        case Cron(parameters=fixed):
            check_parameters((), wish.parameters)
            parameters = fixed
        case _:
            raise Conflict(f"a trigger of kind {trigger.kind} fires by itself")
    _check_wish(wish)
    firing = Firing(
        reason=f"{name} by {actor.name}",
        branch=wish.branch,
        commit=wish.commit,
        ref=f"branch {wish.branch}" if wish.branch else "",
        parameters=parameters,
        submitter=actor.name,
        user=actor.user,
        note=wish.note,
    )
    fired = await fire(tx, trigger, firing, queue_limit=queue_limit)
    if not fired.builds:
        raise Conflict(f"the trigger {name} has no pipeline to start")
    uids = [one.uid for one in fired.builds]
    await audit.add(tx, actor, "trigger.fire", name, project=project.id, details={"builds": uids})
    return [await builds.view(tx, one.id) for one in fired.builds]


def _check_wish(wish: Wish) -> None:
    """The branch and the commit must be such."""
    faults = check_branch(wish.branch, "branch") if wish.branch else []
    faults += check_commit(wish.commit, "commit") if wish.commit else []
    if faults:
        raise Invalid("the wish is not valid", tuple(faults))
