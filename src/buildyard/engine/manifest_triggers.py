"""Triggers of manifests, of single jobs and of groups, kept as rules of telling."""

from collections.abc import Sequence

from buildyard.domain.builds import Build
from buildyard.domain.errors import Fault
from buildyard.domain.ids import GroupId, ProjectId
from buildyard.domain.manifests import ManifestTrigger, mailboxes, trigger_faults
from buildyard.domain.notifications import Action, Condition, EmailTarget, Rule, StatusTarget, Target, WebhookTarget
from buildyard.store import notifications
from buildyard.store.transactions import Transaction

DEFINED_BY = notifications.OF_MANIFESTS
"""Who makes these rules, and the dialect of their messages: those are worded by the API that speaks of manifests."""


MOST_TRIGGERS = 50
"""How many one job, or one group, may have."""


def triggers_faults(triggers: Sequence[ManifestTrigger], *, allow_local: bool) -> list[Fault]:
    """Everything wrong with triggers that were given beside a manifest."""
    if len(triggers) > MOST_TRIGGERS:
        return [Fault("triggers", f"must not be more than {MOST_TRIGGERS}", "count")]
    return [
        fault
        for i, trigger in enumerate(triggers)
        for fault in trigger_faults(trigger, f"triggers[{i}]", allow_local=allow_local)
    ]


def rule_of_trigger(trigger: ManifestTrigger) -> Rule:
    """The rule that a trigger without faults stands for. A trigger's failure is every end but success."""
    on = Condition.UNSUCCESSFUL if trigger.condition is Condition.FAILURE else trigger.condition
    return Rule(target=_target(trigger), condition=on)


def _target(trigger: ManifestTrigger) -> Target:
    if trigger.action is Action.WEBHOOK:
        return WebhookTarget(url=trigger.url, dialect=DEFINED_BY)
    to = dict.fromkeys(mailboxes(trigger.to))
    cc = (address for address in dict.fromkeys(mailboxes(trigger.cc)) if address not in to)
    return EmailTarget(to=tuple(to), cc=tuple(cc), in_reply_to=trigger.in_reply_to.strip(), dialect=DEFINED_BY)


def trigger_of_rule(rule: Rule) -> ManifestTrigger:
    """What was asked for, as far as it was kept: addresses without the names beside them."""
    on = Condition.FAILURE if rule.condition is Condition.UNSUCCESSFUL else rule.condition
    match rule.target:
        case EmailTarget(to=to, cc=cc, in_reply_to=reference):
            return ManifestTrigger(
                action=Action.EMAIL, condition=on, to=", ".join(to), cc=", ".join(cc), in_reply_to=reference
            )
        case WebhookTarget(url=url):
            return ManifestTrigger(action=Action.WEBHOOK, condition=on, url=url)
        case StatusTarget():
            raise ValueError("no trigger shows statuses")


async def keep_triggers(tx: Transaction, build: Build, triggers: Sequence[ManifestTrigger], *, by: str) -> None:
    """Keep the triggers of one build: whoever they name is told of its end."""
    for trigger in triggers:
        await notifications.add(
            tx,
            rule_of_trigger(trigger),
            project=build.project,
            pipeline=None,
            build=build.id,
            defined_by=DEFINED_BY,
            created_by=by,
        )


async def keep_group_triggers(
    tx: Transaction, project: ProjectId, group: GroupId, triggers: Sequence[ManifestTrigger], *, by: str
) -> None:
    """Keep the triggers of a group: whoever they name is told when the last of its builds has ended."""
    for trigger in triggers:
        await notifications.add(
            tx,
            rule_of_trigger(trigger),
            project=project,
            pipeline=None,
            build=None,
            group=group,
            defined_by=DEFINED_BY,
            created_by=by,
        )
