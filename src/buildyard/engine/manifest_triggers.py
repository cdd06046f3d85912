"""Triggers of manifests, of single jobs and of groups, kept as rules of telling."""

from collections.abc import Sequence

from buildyard.domain.builds import Build
from buildyard.domain.ids import GroupId, ProjectId
from buildyard.domain.manifests import ManifestTrigger, mailboxes
from buildyard.domain.notifications import Action, Condition, EmailTarget, Rule, Target, WebhookTarget
from buildyard.store import notifications
from buildyard.store.transactions import Transaction

DEFINED_BY = "manifest"

DIALECT = "sourcehut"
"""In whose words the messages are written."""


def rule_of_trigger(trigger: ManifestTrigger) -> Rule:
    """The rule that a trigger without faults stands for; its `failure` is every end but success."""
    target: Target
    if trigger.action is Action.WEBHOOK:
        target = WebhookTarget(url=trigger.url, dialect=DIALECT)
    else:
        target = EmailTarget(
            to=mailboxes(trigger.to), cc=mailboxes(trigger.cc), in_reply_to=trigger.in_reply_to, dialect=DIALECT
        )
    failed = trigger.condition is Condition.FAILURE
    return Rule(target=target, condition=Condition.UNSUCCESSFUL if failed else trigger.condition)


async def keep_triggers(tx: Transaction, build: Build, triggers: Sequence[ManifestTrigger], *, by: str) -> None:
    """Keep the triggers of one build: whoever they name is told of its end."""
    for trigger in triggers:
        await notifications.add(
            tx,
            rule_of_trigger(trigger),
            project=build.project,
            pipeline=build.pipeline,
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
