"""`buildyard notify …` and `buildyard deliveries …`."""

from dataclasses import dataclass
from typing import Literal

from buildyard.cli.connection import connected
from buildyard.cli.output import console, harmless, print_json, print_table
from buildyard.client.messages import CommitStatus, Delivery, DeliveryTry, NewNotification, Notification, Webhook
from buildyard.domain.errors import Invalid

MOST_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `notify add` was given."""

    project: str
    email: tuple[str, ...]
    webhook: str
    status: Literal["", "github", "gitlab", "gitea", "bitbucket", "bitbucket-server"]
    on: Literal["", "success", "failure", "unsuccessful", "always", "changed", "fixed"]
    pipeline: str
    build: str
    secret: str
    started: bool
    repository: str
    token: str
    api: str


async def add(wanted: Wanted, *, as_json: bool) -> None:
    """Make a rule."""
    if sum(map(bool, (wanted.email, wanted.webhook, wanted.status))) != 1:
        raise Invalid("give one of --email, --webhook and --status")
    hook = Webhook(url=wanted.webhook, secret=wanted.secret, started=wanted.started) if wanted.webhook else None
    status = None
    if wanted.status:
        status = CommitStatus(forge=wanted.status, repository=wanted.repository, token=wanted.token, api=wanted.api)
    message = NewNotification(
        project=wanted.project,
        pipeline=wanted.pipeline,
        build=wanted.build,
        on=wanted.on,
        email=list(wanted.email) or None,
        webhook=hook,
        status=status,
    )
    async with connected() as client:
        made = await client.add_notification(message)
    if as_json:
        print_json(made)
    else:
        console().print(f"notification {made.id}: {_target(made)}, on {made.on}")


async def list_all(project: str, *, as_json: bool) -> None:
    """The rules of a project."""
    async with connected() as client:
        found = (await client.notifications(project)).notifications
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(each.id),
            each.pipeline or (f"build {each.build}" if each.build else ""),
            each.on,
            _target(each),
            each.defined_by,
        )
        for each in found
    ]
    print_table(("id", "only", "on", "tells", "defined by"), rows)


async def remove(reference: str, *, as_json: bool) -> None:
    """Remove a rule."""
    async with connected() as client:
        await client.remove_notification(reference)
    if as_json:
        print_json({"removed": reference})
    else:
        console().print(f"notification {reference} is removed")


def _target(found: Notification) -> str:
    if found.email is not None:
        return f"mail to {', '.join(found.email)}"
    if found.webhook is not None:
        return f"webhook {found.webhook.url}" + ("" if found.webhook.secret else " (not signed)")
    return f"status at {found.status.forge} {found.status.repository}" if found.status else ""


async def list_deliveries(project: str, state: str, limit: int, *, as_json: bool) -> None:
    """Messages, newest first."""
    async with connected() as client:
        found = (await client.deliveries(project=project, state=state, limit=limit)).deliveries
    if as_json:
        print_json(found)
        return
    rows = [
        (str(each.id), each.state, str(each.build), each.event, each.target, str(each.attempts), each.error)
        for each in found
    ]
    print_table(("id", "state", "build", "event", "to", "tries", "error"), rows)


async def show_delivery(reference: str, *, as_json: bool) -> None:
    """A message and its tries."""
    async with connected() as client:
        found = await client.delivery(reference)
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(f"{found.kind} to {found.target}: build {found.build} of {found.project} {found.event}", markup=False)
    out.print(_state(found), markup=False)
    for each in found.tries or []:
        out.print(f"\ntry {each.number}, {each.started_at}: {_end_of(each)}", markup=False)
        for heading, text in (("sent", each.request), ("got", f"{each.response_headers}\n\n{each.response}".strip())):
            if text:
                out.print(f"  {heading}:", markup=False)
                out.print("\n".join(f"    {harmless(line.encode())}" for line in text.splitlines()), markup=False)


async def show_webhook_key(*, as_json: bool) -> None:
    """The public key of the webhooks of APIs."""
    async with connected() as client:
        found = await client.webhook_key()
    if as_json:
        print_json(found)
    else:
        console().print(found.public_key, markup=False, soft_wrap=True)


def _state(found: Delivery) -> str:
    error = f": {found.error}" if found.error else ""
    due = f", next try not before {found.due_at}" if found.due_at else ""
    return f"{found.state} after {found.attempts} tries{error}{due}"


def _end_of(tried: DeliveryTry) -> str:
    if tried.finished_at is None:
        return "runs, or its server ended meanwhile"
    return tried.error or f"delivered ({tried.status})"


async def resend(references: tuple[str, ...], project: str, *, dead: bool, as_json: bool) -> None:
    """Send messages once more."""
    if bool(references) == dead:
        raise Invalid("name the messages, or give --dead")
    async with connected() as client:
        if dead:
            found = (await client.deliveries(project=project, state="dead", limit=MOST_AT_ONCE)).deliveries
            references = tuple(each.uid for each in found)
        sent = [await client.resend_delivery(each) for each in references]
    if as_json:
        print_json(sent)
    else:
        console().print(f"{len(sent)} messages are on their way again")
