"""Routes for rules of telling and for the messages they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildyard.apis.native.auth import actor_of
from buildyard.apis.native.schemas import decoded, whole
from buildyard.client import messages
from buildyard.client.native import BASE
from buildyard.domain.access import Actor
from buildyard.domain.errors import Fault, Invalid, NotFound
from buildyard.domain.ids import Moment, iso
from buildyard.domain.notifications import (
    Condition,
    DeliveryState,
    EmailTarget,
    Forge,
    Rule,
    StatusTarget,
    Target,
    WebhookTarget,
    shown_target,
)
from buildyard.engine import notifications
from buildyard.engine.engine import Engine
from buildyard.engine.projects import find_project
from buildyard.engine.sign_in import PasswordGate

if TYPE_CHECKING:
    from buildyard.store.deliveries import Delivery, Try
    from buildyard.store.notifications import Notification

STATES = {state.word: state for state in DeliveryState}


class NotificationRoutes:
    """The handlers, with the engine they work on."""

    def __init__(self, engine: Engine, gate: PasswordGate, body_bytes: int) -> None:
        self._engine = engine
        self._gate = gate
        self._body_bytes = body_bytes

    async def _actor(self, request: Request) -> Actor:
        return await actor_of(request, self._engine, self._gate)

    async def _project(self, actor: Actor, slug: str) -> str:
        project = await self._engine.read(find_project, actor, slug)
        if project is None:
            raise NotFound(f"project {slug} not found")
        return project.uid

    async def list_rules(self, request: Request) -> Response:
        """The rules of a project."""
        actor = await self._actor(request)
        slug = request.query_params.get("project", "")
        found = await self._engine.read(notifications.list_notifications, actor, await self._project(actor, slug))
        return _answer(messages.Notifications(notifications=[rule_message(each, slug) for each in found]))

    async def add_rule(self, request: Request) -> Response:
        """Make a rule."""
        actor = await self._actor(request)
        wanted = await decoded(request, messages.NewNotification, limit=self._body_bytes)
        made = await self._engine.run(
            notifications.add_notification,
            actor,
            await self._project(actor, wanted.project),
            rule_of(wanted),
            notifications.means_of(self._engine),
            pipeline=wanted.pipeline,
            build=wanted.build,
        )
        return _answer(rule_message(made, wanted.project), 201)

    async def remove_rule(self, request: Request) -> Response:
        """Remove a rule."""
        actor = await self._actor(request)
        await self._engine.run(notifications.remove_notification, actor, request.path_params["reference"])
        return Response(status_code=204)

    async def list_deliveries(self, request: Request) -> Response:
        """Messages, newest first."""
        actor = await self._actor(request)
        slug, state = request.query_params.get("project", ""), request.query_params.get("state", "")
        if state and state not in STATES:
            raise Invalid(f"state must be one of {', '.join(STATES)}", (Fault("state", "unknown word", "state"),))
        found = await self._engine.read(
            notifications.list_deliveries,
            actor,
            await self._project(actor, slug) if slug else None,
            state=STATES[state] if state else None,
            below=whole(request, "below", 2**31 - 1, low=1, high=2**31 - 1),
            limit=whole(request, "limit", 50, low=1, high=1000),
        )
        return _answer(messages.Deliveries(deliveries=[delivery_message(each) for each in found]))

    async def get_delivery(self, request: Request) -> Response:
        """A message with its tries."""
        actor = await self._actor(request)
        found, tries = await self._engine.read(notifications.get_delivery, actor, request.path_params["reference"])
        return _answer(delivery_message(found, tries))

    async def resend_delivery(self, request: Request) -> Response:
        """Send a message once more."""
        actor = await self._actor(request)
        found = await self._engine.run(notifications.resend_delivery, actor, request.path_params["reference"])
        return _answer(delivery_message(found))

    async def webhook_key(self, _request: Request) -> Response:
        """What signatures of the webhooks of APIs are checked with; it is for everyone."""
        return _answer(messages.WebhookKey(public_key=self._engine.signing.public()))


def _answer(message: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(message), status, {"cache-control": "no-store"}, media_type="application/json")


def rule_of(wanted: messages.NewNotification) -> Rule:
    """A rule as it is asked for."""
    targets: list[Target] = []
    if wanted.email is not None:
        targets.append(EmailTarget(to=tuple(wanted.email)))
    if wanted.webhook is not None:
        hook = wanted.webhook
        targets.append(WebhookTarget(url=hook.url, secret=hook.secret, started=hook.started))
    if wanted.status is not None:
        status = wanted.status
        targets.append(
            StatusTarget(forge=Forge(status.forge), repository=status.repository, token=status.token, api=status.api)
        )
    if len(targets) != 1:
        message = "exactly one of email, webhook and status must be there"
        raise Invalid(message, (Fault("", message, "targets"),))
    usual = Condition.ALWAYS if wanted.status is not None else Condition.FAILURE
    return Rule(target=targets[0], condition=Condition(wanted.on) if wanted.on else usual)


def rule_message(found: Notification, project: str) -> messages.Notification:
    """A rule."""
    email, webhook, status = None, None, None
    match found.rule.target:
        case EmailTarget(to=to):
            email = list(to)
        case WebhookTarget() as hook:
            webhook = messages.Webhook(url=hook.url, secret=hook.secret, started=hook.started)
        case StatusTarget() as target:
            status = messages.CommitStatus(
                forge=target.forge.value, repository=target.repository, token=target.token, api=target.api
            )
    return messages.Notification(
        id=found.id,
        uid=found.uid,
        project=project,
        pipeline=found.pipeline_slug,
        build=found.build,
        on=found.rule.condition,
        email=email,
        webhook=webhook,
        status=status,
        defined_by=found.defined_by,
        created_by=found.created_by,
        created_at=iso(found.created_at),
    )


def delivery_message(found: Delivery, tries: list[Try] | None = None) -> messages.Delivery:
    """A message, with its tries where these are asked for."""
    waits = found.state is DeliveryState.WAITING
    target = shown_target(found.rule.target) if found.rule else "(removed)"
    return messages.Delivery(
        id=found.id,
        uid=found.uid,
        project=found.project_slug,
        build=found.build,
        build_uid=found.build_uid,
        event=found.event,
        kind=found.kind,
        target=found.address or target,
        state=found.state.word,
        attempts=found.attempts,
        error=found.error,
        created_at=iso(found.created_at),
        due_at=iso(found.due_at) if waits else None,
        finished_at=_time(found.finished_at),
        tries=None if tries is None else [_try(each) for each in tries],
    )


def _try(found: Try) -> messages.DeliveryTry:
    return messages.DeliveryTry(
        number=found.number,
        started_at=iso(found.started_at),
        finished_at=_time(found.finished_at),
        status=found.status,
        error=found.error,
        request=found.request,
        response_headers=found.headers,
        response=found.body,
    )


def _time(moment: Moment | None) -> str | None:
    return None if moment is None else iso(moment)


def notification_routes(engine: Engine, gate: PasswordGate, body_bytes: int) -> list[Route]:
    """The routes of this module."""
    routes = NotificationRoutes(engine, gate, body_bytes)
    return [
        Route(f"{BASE}/notifications", routes.list_rules, methods=["GET"]),
        Route(f"{BASE}/notifications", routes.add_rule, methods=["POST"]),
        Route(f"{BASE}/notifications/{{reference}}", routes.remove_rule, methods=["DELETE"]),
        Route(f"{BASE}/webhook-key", routes.webhook_key, methods=["GET"]),
        Route(f"{BASE}/deliveries", routes.list_deliveries, methods=["GET"]),
        Route(f"{BASE}/deliveries/{{reference}}", routes.get_delivery, methods=["GET"]),
        Route(f"{BASE}/deliveries/{{reference}}/resend", routes.resend_delivery, methods=["POST"]),
    ]
