"""What this API tells of jobs: triggers' mail and webhooks, users' webhooks with the answers to their queries."""

import base64
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buildyard.adapters.notifiers.mail import MailNotifier, MailServer
from buildyard.adapters.notifiers.webhooks import WebhookNotifier
from buildyard.apis.sourcehut import telling
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.bootstrap.notifiers import writers_of
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.manifests import ManifestTrigger
from buildyard.domain.notifications import Action, Condition, Event
from buildyard.domain.states import Result
from buildyard.engine import delivering, identity, manifest_jobs, user_webhooks
from buildyard.engine.build_groups import NewGroup, create_group
from buildyard.engine.delivering import Queues
from buildyard.engine.engine import Engine
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.engine.signing import SigningKey
from buildyard.engine.user_webhooks import NewUserWebhook, WebhookDelivery
from buildyard.ports import Outcome
from buildyard.store.builds import BuildView
from buildyard.store.subscriptions import Subscription
from receiving import Received, Receiver, mail_server, receiving
from world import Clock, World, job, settle_in

WHO = "query { me { username } }"


def mail_server_of(port: int) -> MailServer:
    """The mail server of these tests."""
    return MailServer(host="127.0.0.1", port=port, security="none", sender="yard@example.org")


@pytest.fixture
def mail_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
async def world(engine: Engine, clock: Clock, tmp_path: Path, mail_port: int) -> World:
    """A world that can post, sign, and answer queries."""
    signing = SigningKey(tmp_path / "webhooks.key")
    signing.prepare()
    able = replace(
        engine,
        policy=replace(engine.policy, allow_local_sources=True),
        notifiers={
            Action.WEBHOOK: WebhookNotifier(allow_local=True, timeout_s=30),
            Action.EMAIL: MailNotifier(mail_server_of(mail_port), timeout_s=30),
        },
        signing=signing,
        writers=writers_of(GraphqlConfig()),
    )
    return await settle_in(able, clock)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that remembers."""
    async with receiving() as made:
        yield made


async def subscribe(world: World, receiver: Receiver, query: str = WHO, *, by: Actor | None = None) -> Subscription:
    new = NewUserWebhook(url=f"{receiver.url}/hook", events=(Event.CREATED,), query=query, defined_by=telling.DIALECT)
    made: Subscription = await world.engine.run(
        user_webhooks.create_user_webhook, by or world.administrator, new, allow_local=True
    )
    return made


async def send(world: World) -> list[Outcome]:
    """Try whatever is due."""
    taken = await delivering.take_some(world.engine, Queues())
    outcomes = [await delivering.try_delivery(world.engine, message) for message in taken.messages]
    for message, outcome in zip(taken.messages, outcomes, strict=True):
        await world.engine.run(delivering.record_try, SYSTEM, message, outcome, 1.0, tries=3)
    return outcomes


async def told(world: World, webhook: Subscription, by: Actor | None = None) -> list[WebhookDelivery]:
    found: list[WebhookDelivery] = await world.engine.read(
        user_webhooks.list_webhook_deliveries, by or world.administrator, webhook.id
    )
    return found


def require_genuine(world: World, got: Received) -> None:
    """Raise unless the signature is that of this server, over the body and then the nonce."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(world.engine.signing.public()))
    signature = base64.b64decode(got.headers["X-Payload-Signature"], validate=True)
    key.verify(signature, got.body + got.headers["X-Payload-Nonce"].encode())


@pytest.mark.covers("user_webhooks.queries", "webhooks.signature")
async def test_a_webhook_is_posted_the_signed_answer_to_its_query(world: World, receiver: Receiver) -> None:
    receiver.always(200, "thanks")
    webhook = await subscribe(world, receiver)
    await world.submit(job("a"))
    (outcome,) = await send(world)
    assert outcome.delivered, outcome
    (got,) = await receiver.has(1)
    (kept,) = await told(world, webhook)

    assert json.loads(got.body) == {"data": {"me": {"username": "admin"}}}
    require_genuine(world, got)
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["X-Webhook-Event"] == "JOB_CREATED"
    assert got.headers["X-Webhook-Delivery"] == kept.delivery.uid
    assert kept.last_try is not None
    assert (kept.last_try.request, kept.last_try.status, kept.answer) == (got.body.decode(), 200, "thanks")


@pytest.mark.covers("user_webhooks.queries")
async def test_a_repeated_message_has_the_same_uid_and_another_nonce(world: World, receiver: Receiver) -> None:
    receiver.always(503)
    await subscribe(world, receiver)
    await world.submit(job("a"))
    await send(world)
    world.clock.advance(60)
    receiver.always(204)
    await send(world)
    first, second = await receiver.has(2)

    assert first.headers["X-Webhook-Delivery"] == second.headers["X-Webhook-Delivery"]
    assert first.headers["X-Payload-Nonce"] != second.headers["X-Payload-Nonce"]
    require_genuine(world, second)


@pytest.mark.covers("user_webhooks.rights")
async def test_who_may_not_sign_in_any_more_is_told_nothing(world: World, receiver: Receiver) -> None:
    webhook = await subscribe(world, receiver)
    await world.submit(job("a"))
    blind = replace(world.engine, signing=SigningKey())
    (unsigned,) = await send(replace(world, engine=blind))
    assert not unsigned.delivered
    assert "no key file" in unsigned.error
    world.clock.advance(60)
    await world.engine.run(user_webhooks.delete_user_webhook, world.administrator, webhook.id)

    assert await send(world) == []
    assert receiver.got == []


@pytest.mark.covers("user_webhooks.rights")
async def test_a_query_is_answered_within_the_bounds_of_the_token(world: World, receiver: Receiver) -> None:
    made = await world.engine.run(identity.create_token, SYSTEM, "admin", ("jobs:read",))
    reading = await world.engine.read(identity.actor_of_token, SYSTEM, made.secret)
    await subscribe(world, receiver, "query { secrets { results { name } } }", by=reading)
    await world.submit(job("a"))
    await send(world)
    (got,) = await receiver.has(1)

    assert json.loads(got.body)["data"] is None
    assert json.loads(got.body)["errors"]


# --- triggers -----------------------------------------------------------------------------------

MANIFEST = "image: debian\ntasks:\n  - build: make\n  - test: make check\n  - ship: make ship\n"


def hook(receiver: Receiver) -> ManifestTrigger:
    return ManifestTrigger(action=Action.WEBHOOK, condition=Condition.ALWAYS, url=f"{receiver.url}/job")


MAIL = ManifestTrigger(
    action=Action.EMAIL, condition=Condition.FAILURE, to="Dev <dev@example.org>, list@example.org",
    cc="boss@example.org", in_reply_to="<1@example.org>",
)  # fmt: skip


async def submit(world: World, *triggers: ManifestTrigger, **more: object) -> BuildView:
    wanted = NewManifestJob(text=MANIFEST, triggers=triggers, **more)  # type: ignore[arg-type]  # its fields
    return await manifest_jobs.submit_manifest(world.engine, world.owner, wanted)


async def fail_second_task(world: World) -> None:
    """Take the oldest job; its first task succeeds, its second one fails after 72 seconds."""
    hand = world.hands.get("w1") or await world.hand()
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 0), hand.step_finished(grant, 0))
    await hand.report(hand.step_started(grant, 1), hand.step_finished(grant, 1), hand.step_started(grant, 2))
    world.clock.advance(72)
    await hand.report(hand.step_finished(grant, 2, Result.FAILURE, exit_status=1), hand.finished(grant, Result.FAILURE))
    hand.held.clear()


@pytest.mark.covers("triggers.webhooks")
async def test_a_trigger_posts_the_signed_job(world: World, receiver: Receiver) -> None:
    view = await submit(world, hook(receiver), note="a note", tags=("lib", "linux"))
    await fail_second_task(world)
    (outcome,) = await send(world)
    assert outcome.delivered, outcome
    (got,) = await receiver.has(1)
    job = view.build.id

    require_genuine(world, got)
    assert got.headers["Content-Type"] == "application/json"
    assert json.loads(got.body) == {
        "id": job,
        "status": "failed",
        "setup_log": f"http://127.0.0.1:8010/logs/{job}/log",
        "tasks": [
            {"name": name, "status": status, "log": f"http://127.0.0.1:8010/logs/{job}/{name}/log"}
            for name, status in (("build", "success"), ("test", "failed"), ("ship", "pending"))
        ],
        "note": "a note",
        "runner": "w1",
        "tags": "lib/linux",
        "owner": {"canonical_name": "~bob", "name": "bob"},
    }


@pytest.mark.covers("triggers.mail")
async def test_mail_goes_to_everyone_named_with_the_same_headers(world: World, mail_port: int) -> None:
    view = await submit(world, MAIL, note="Größer\x1b[31m\nBcc: eve@example.org", tags=("lib",))
    await fail_second_task(world)
    with mail_server(mail_port) as box:
        outcomes = await send(world)
    assert [each.delivered for each in outcomes] == [True] * 3

    assert sorted(address for address, _, _ in box.mails) == ["boss@example.org", "dev@example.org", "list@example.org"]
    (_, mail, _), *others = box.mails
    for name, value in (
        ("Subject", "[lib] build failed"),
        ("To", "dev@example.org, list@example.org"),
        ("Cc", "boss@example.org"),
        ("In-Reply-To", "<1@example.org>"),
        ("Bcc", None),
        ("Message-ID", mail["Message-ID"]),
    ):
        assert [each[name] for each in (mail, *(other for _, other, _ in others))] == [value] * 3, name
    assert mail.get_content().splitlines() == [
        f"lib #{view.build.id}: FAILED in 1m12s",
        "",
        "Größer",
        "Bcc: eve@example.org",
        "",
        f"http://127.0.0.1:8010/~bob/job/{view.build.id}",
        "",
        "✓ build ✗ test - ship",
    ]


@pytest.mark.covers("triggers.groups", "triggers.mail", "triggers.webhooks")
async def test_a_group_is_told_by_mail_and_webhook(world: World, receiver: Receiver, mail_port: int) -> None:
    views = [await submit(world, execute=False, tags=("lib", name)) for name in ("arm", "x86")]
    new = NewGroup(
        builds=tuple(view.build.id for view in views), note="both", triggers=(hook(receiver), MAIL), execute=True
    )
    group = await world.engine.run(create_group, world.owner, new, allow_local=True)
    await fail_second_task(world)
    assert await send(world) == []
    await (await world.hand()).run_all()
    with mail_server(mail_port) as box:
        outcomes = await send(world)
    assert [each.delivered for each in outcomes] == [True] * 4
    (got,) = await receiver.has(1)
    first, second = (view.build.id for view in views)

    require_genuine(world, got)
    assert json.loads(got.body) == {
        "id": group.group.id,
        "note": "both",
        "owner": {"canonical_name": "~bob", "name": "bob"},
        "jobs": [{"id": first, "status": "failed"}, {"id": second, "status": "success"}],
    }
    assert len(box.mails) == 3
    assert box.mails[0][1]["Subject"] == "[lib] build failed"
    assert box.mails[0][1].get_content().splitlines() == [
        "lib: FAILED in 1m12s",
        "",
        "both",
        "",
        f"✗ #{first} FAILED  lib/arm http://127.0.0.1:8010/~bob/job/{first}",
        f"✓ #{second} SUCCESS lib/x86 http://127.0.0.1:8010/~bob/job/{second}",
    ]


@pytest.mark.covers("user_webhooks.queries")
async def test_a_query_may_ask_for_the_event_and_its_job(world: World, receiver: Receiver) -> None:
    query = "query { webhook { uuid event ... on JobEvent { job { id status tags } } } }"
    await subscribe(world, receiver, query, by=world.owner)
    view = await submit(world, tags=("lib",))
    await send(world)
    (got,) = await receiver.has(1)

    assert json.loads(got.body) == {
        "data": {
            "webhook": {
                "uuid": got.headers["X-Webhook-Delivery"],
                "event": "JOB_CREATED",
                "job": {"id": view.build.id, "status": "QUEUED", "tags": ["lib"]},
            }
        }
    }
