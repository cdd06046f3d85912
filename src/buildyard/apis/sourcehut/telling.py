"""What this API tells of jobs: mail, and webhooks that are signed as receivers of builds.sr.ht expect it."""

from typing import TYPE_CHECKING, Final

import msgspec

from buildyard.apis.sourcehut import mapping
from buildyard.apis.sourcehut.addresses import job_url
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig, execute_query
from buildyard.apis.sourcehut.letters import JobLine, group_mail, job_mail
from buildyard.apis.sourcehut.schemas import encode
from buildyard.domain.ids import SECOND
from buildyard.domain.notifications import Action, Event
from buildyard.domain.user_webhooks import JobEvent, Occasion
from buildyard.engine.engine import Engine
from buildyard.engine.job_sheets import JobSheet
from buildyard.engine.manifest_triggers import DEFINED_BY
from buildyard.engine.told_jobs import Told, read_told
from buildyard.engine.user_webhooks import read_subscriber
from buildyard.ports import Document, Letter

if TYPE_CHECKING:
    from buildyard.store.deliveries import Delivery

DIALECT: Final = "sourcehut"
"""Who words the messages of subscriptions made here."""

TRIGGERS: Final = DEFINED_BY
"""Who words the messages of triggers: it is this API that knows manifests."""

JOB_EVENTS: Final = {Event.CREATED: JobEvent.CREATED, Event.UPDATED: JobEvent.UPDATED}
EVENTS: Final = {word: event for event, word in JOB_EVENTS.items()}


async def answer_subscription(engine: Engine, message: "Delivery", config: GraphqlConfig) -> Document:
    """What a user's webhook is posted: the answer to its query, as its user may see it now.

    Raises NotFound for a webhook that was deleted, Unauthenticated for one of a user who may not sign in any more.
    """
    assert message.subscription is not None
    subscription, actor = await read_subscriber(engine, message.subscription)
    event = JOB_EVENTS[message.event]
    occasion = Occasion(uid=message.uid, event=event, at=message.created_at, build=message.build)
    answer = await execute_query(engine, actor, subscription.query, webhook=occasion, config=config)
    headers = {"X-Webhook-Event": str(event), "X-Webhook-Delivery": message.uid}
    return signed(engine, msgspec.json.encode(answer), headers)


async def write_trigger(engine: Engine, message: "Delivery") -> Letter | Document:
    """What a trigger of a job or of a group sends; raises NotFound once that was deleted."""
    told = await read_told(engine, message)
    base = engine.policy.public_url
    if message.kind == Action.EMAIL:
        return _letter(told, base, f"{message.rule_uid}.{message.build}.{message.restarts}")
    ((first, _), *_) = told.jobs
    body = mapping.job(first, base) if told.group is None else mapping.group(told.group)
    return signed(engine, encode(body), {"X-Buildyard-Delivery": message.uid})


def _letter(told: Told, base: str, thread: str) -> Letter:
    lines = [_line(sheet, image, base) for sheet, image in told.jobs]
    if told.group is None:
        text = job_mail(lines[0])
    else:
        group = told.group.group
        ends = [view.build.finished_at or group.created_at for view in told.group.builds]
        text = group_mail(lines, note=group.note, seconds=(max(ends) - group.created_at) // SECOND)
    return Letter(subject=text.subject, text=text.body, thread=thread)


def _line(sheet: JobSheet, image: str, base: str) -> JobLine:
    build = sheet.view.build
    return JobLine(
        id=build.id,
        status=mapping.status(sheet.view),
        tags="/".join(mapping.tags_of(sheet)),
        note=mapping.note_of(sheet.view),
        image=image,
        url=job_url(base, sheet.owner, build.id),
        seconds=((build.finished_at or build.created_at) - build.created_at) // SECOND,
        tasks=[(task.name, mapping.task_status(task)) for task in sheet.tasks],
    )


def signed(engine: Engine, body: bytes, headers: dict[str, str]) -> Document:
    """A body with its headers and those that prove where it comes from."""
    made = engine.signing.sign(body)
    proof = {"X-Payload-Nonce": made.nonce, "X-Payload-Signature": made.signature}
    return Document(body=body, headers={**headers, **proof})
