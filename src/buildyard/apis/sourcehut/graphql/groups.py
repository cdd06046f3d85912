"""Groups of jobs and who is told of their end."""

from typing import Any

from buildyard.apis.sourcehut.graphql.context import Info, Resolvers
from buildyard.apis.sourcehut.graphql.jobs import Source, entity, job, job_group
from buildyard.domain.errors import Fault, Forbidden, Invalid, NotFound
from buildyard.domain.ids import BuildId, GroupId
from buildyard.domain.manifests import ManifestTrigger
from buildyard.domain.notifications import Action, Condition, EmailTarget, Rule, WebhookTarget
from buildyard.engine.build_groups import NewGroup, create_group, start_group
from buildyard.engine.job_details import load_group_jobs, load_group_owners, load_group_rules, load_jobs

CONDITIONS = {
    Condition.SUCCESS: "SUCCESS",
    Condition.FAILURE: "FAILURE",
    Condition.UNSUCCESSFUL: "FAILURE",
    Condition.ALWAYS: "ALWAYS",
}
NOT_THESE = (
    "Invalid list of job IDs. All jobs must be owned by you, not assigned to another job group, and in the pending "
    "state."
)


async def owner(source: Source, info: Info) -> Source | None:
    """Who made a group."""
    found = await info.context.load(load_group_owners, source["id"])
    return await entity(info.context, found) if found else None


async def jobs(source: Source, info: Info) -> list[Source]:
    """Those of a group's jobs that the asker may read."""
    context = info.context
    members = await context.load(load_group_jobs, source["id"]) or ()
    context.spend(objects=len(members))
    return [job(view) for view in await context.load_many(load_jobs, members)]


async def triggers(source: Source, info: Info) -> list[Source]:
    """Who is told of a group's end."""
    found = await info.context.load(load_group_rules, source["id"]) or ()
    return [told for rule in found if (told := trigger(rule)) is not None]


def trigger(rule: Rule) -> Source | None:
    """A trigger as the schema has it; it knows mail and webhooks only."""
    condition = CONDITIONS.get(rule.condition, "ALWAYS")
    match rule.target:
        case EmailTarget(to=to, cc=cc, in_reply_to=in_reply_to):
            return {
                "__typename": "EmailTrigger",
                "condition": condition,
                "to": ", ".join(to),
                "cc": ", ".join(cc) or None,
                "inReplyTo": in_reply_to or None,
            }
        case WebhookTarget(url=url):
            return {"__typename": "WebhookTrigger", "condition": condition, "url": url}
        case _:
            return None


def read_triggers(given: list[dict[str, Any]]) -> tuple[ManifestTrigger, ...]:
    """Triggers as they are asked for; each needs the part that its type names."""
    faults = [
        Fault(f"triggers[{i}].{part}", f"a trigger of the type {each['type']} needs the field {part}", "required")
        for i, each in enumerate(given)
        if each.get(part := each["type"].lower()) is None
    ]
    if faults:
        raise Invalid(faults[0].message, tuple(faults))
    return tuple(_trigger(each) for each in given)


def _trigger(given: dict[str, Any]) -> ManifestTrigger:
    condition = Condition(given["condition"].lower())
    if given["type"] == "WEBHOOK":
        return ManifestTrigger(action=Action.WEBHOOK, condition=condition, url=given["webhook"]["url"])
    email = given["email"]
    return ManifestTrigger(
        action=Action.EMAIL,
        condition=condition,
        to=email["to"],
        cc=email.get("cc") or "",
        in_reply_to=email.get("inReplyTo") or "",
    )


async def create(
    _source: Any,
    info: Info,
    *,
    jobIds: list[int],  # noqa: N803 - the schema's name
    triggers: list[dict[str, Any]] | None = None,
    execute: bool | None = None,
    note: str | None = None,
) -> Source:
    """Collect jobs that wait for their start, and start them unless told otherwise."""
    context = info.context
    new = NewGroup(
        builds=tuple(BuildId(key) for key in jobIds),
        note=note or "",
        triggers=read_triggers(triggers or []),
        execute=execute is not False,
    )
    allow_local = context.engine.policy.allow_local_sources
    try:
        made = await context.engine.run(create_group, context.actor, new, allow_local=allow_local)
    except Invalid as exc:
        if all(fault.path == "jobs" for fault in exc.faults):
            raise Invalid(NOT_THESE, exc.faults) from exc
        raise
    return job_group(made.group)


async def start(_source: Any, info: Info, *, groupId: int) -> Source:  # noqa: N803 - the schema's name
    """Start the jobs of a group."""
    context = info.context
    try:
        return job_group((await context.engine.run(start_group, context.actor, GroupId(groupId))).group)
    except (NotFound, Forbidden) as exc:
        raise NotFound("Found no job group by this ID for your account") from exc


RESOLVERS: Resolvers = {
    "Mutation": {"createGroup": create, "startGroup": start},
    "JobGroup": {"owner": owner, "jobs": jobs, "triggers": triggers},
}
