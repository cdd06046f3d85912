"""Rules of telling that name secrets: who may make them, what a message is sent with, and what is noted of it."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from buildyard.adapters.notifiers.statuses import StatusNotifier
from buildyard.adapters.notifiers.webhooks import WebhookNotifier
from buildyard.domain.access import SYSTEM, Actor, Permission
from buildyard.domain.errors import Forbidden, Invalid, NotFound
from buildyard.domain.notifications import Action, Condition, Forge, Rule, StatusTarget, WebhookTarget
from buildyard.domain.secrets import SecretValue
from buildyard.domain.specs import GitSource
from buildyard.engine import audit, delivering, notifications, pipelines, secret_keys, secrets, workflows
from buildyard.engine.delivering import Queues
from buildyard.engine.engine import Engine
from buildyard.engine.health import Told, read_told
from buildyard.engine.notifications import means_of
from buildyard.engine.projects import find_project
from buildyard.engine.secrets import NewSecret, Place
from buildyard.engine.yard import apply_yard
from buildyard.engine.yard_files import read_yard
from buildyard.ports import Outcome
from buildyard.store.pipelines import Pipeline
from buildyard.store.statements import Statement
from buildyard.store.tables import metadata
from buildyard.store.transactions import Transaction
from receiving import Receiver, receiving
from world import Clock, World, job, settle_in

pytestmark = pytest.mark.covers("telling.secrets")

HELLO = Place(project="hello")
EVERYTHING = [Statement(select(table)) for table in metadata.tables.values()]
SOURCE = GitSource(url="https://example.org/x.git", branch="main", commit="a" * 40)


@pytest.fixture
async def world(engine: Engine, clock: Clock) -> World:
    """A world that can send, and keeps secrets."""
    notifiers: Any = {
        Action.WEBHOOK: WebhookNotifier(allow_local=True, timeout_s=30),
        Action.STATUS: StatusNotifier(allow_local=True, timeout_s=30),
    }
    policy = replace(engine.policy, allow_local_sources=True, delivery_tries=3)
    able = replace(engine, policy=policy, notifiers=notifiers)
    assert await secret_keys.prepare_keys(able) == ""
    return await settle_in(able, clock)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that remembers."""
    async with receiving() as made:
        yield made


def signed(url: str, name: str = "HOOK") -> Rule:
    """A rule for a webhook that the secret signs."""
    return Rule(target=WebhookTarget(url=url, secret=name), condition=Condition.ALWAYS)


def status(url: str) -> Rule:
    """A rule for statuses that are sent with the secret."""
    target = StatusTarget(forge=Forge.GITHUB, repository="acme/tool", token="HOOK", api=url)
    return Rule(target=target, condition=Condition.ALWAYS)


async def add(world: World, rule: Rule, *, by: Actor | None = None, pipeline: str = "") -> str:
    """Make a rule."""
    made = await world.engine.run(
        notifications.add_notification,
        by or world.owner,
        world.project.uid,
        rule,
        means_of(world.engine),
        pipeline=pipeline,
    )
    return made.uid


async def put(world: World, value: bytes, place: Place = HELLO, name: str = "HOOK") -> None:
    """Set a secret."""
    wanted = NewSecret(name=name, value=SecretValue(value))
    await world.engine.run(secrets.set_secret, world.owner, place, wanted, world.engine.keys)


async def build(world: World, pipeline: Pipeline | None = None, source: GitSource | None = None) -> None:
    """A build that has ended well."""
    hand = world.hands.get("w1") or await world.hand()
    await (world.submit(pipeline=pipeline, source=source) if pipeline else world.submit(job("a"), source=source))
    await hand.run_all()


async def send(world: World) -> list[Outcome]:
    """Try what is due once."""
    taken = await delivering.take_some(world.engine, Queues())
    outcomes = []
    for message in taken.messages:
        outcome = await delivering.try_delivery(world.engine, message)
        tries = world.engine.policy.delivery_tries
        await world.engine.run(delivering.record_try, SYSTEM, message, outcome, 1.0, tries=tries)
        outcomes.append(outcome)
    return outcomes


async def uses(world: World) -> list[Any]:
    """What the audit log says of uses of secrets."""
    found, _ = await world.engine.read(
        audit.list_audit, world.administrator, project_uid=None, action="secret.use", limit=99, offset=0
    )
    return found[::-1]


async def stored(world: World) -> str:
    """All that the database holds."""

    async def read(tx: Transaction, _actor: Actor) -> list[Any]:
        return [row for statement in EVERYTHING for row in await tx.fetch(statement)]

    return repr(await world.engine.read(read, SYSTEM))


def is_signed_with(receiver: Receiver, key: bytes) -> bool:
    """Whether the last request is."""
    last = receiver.got[-1]
    text = last.headers["X-Buildyard-Timestamp"].encode() + b"." + last.body
    return last.headers["X-Buildyard-Signature"] == f"sha256={hmac.new(key, text, hashlib.sha256).hexdigest()}"


async def test_a_message_is_signed_with_the_nearest_secret_as_it_is_at_that_try(
    world: World, receiver: Receiver
) -> None:
    pipeline = await world.define(job("a"))
    await put(world, b"of the account", Place(account="bob"))
    await add(world, signed(receiver.url))

    for key, place in (
        (b"of the account", Place(account="bob")),
        (b"of the project\n", HELLO),
        (b"of the pipeline", Place(project="hello", pipeline=pipeline.slug)),
        (b"another value", Place(project="hello", pipeline=pipeline.slug)),
    ):
        await put(world, key, place)
        await build(world, pipeline)
        (outcome,) = await send(world)
        assert outcome.delivered
        assert is_signed_with(receiver, key.strip())
    assert "of the account" not in await stored(world)


async def test_a_use_is_noted_once_for_each_message_however_often_it_is_tried(world: World, receiver: Receiver) -> None:
    await put(world, b"s3cr3t key")
    await add(world, signed(receiver.url))
    receiver.always(503)
    await build(world)

    (first,) = await send(world)
    receiver.always(200)
    world.clock.advance(20)
    (second,) = await send(world)

    assert (first.status, second.delivered) == (503, True)
    (entry,) = await uses(world)
    assert entry.details["name"] == "HOOK"
    assert entry.details["delivery"]
    await build(world)
    await send(world)
    assert len(await uses(world)) == 2


async def test_a_secret_that_is_gone_fails_the_message_until_it_is_there_again_or_it_is_given_up(
    world: World, receiver: Receiver
) -> None:
    await put(world, b"s3cr3t key")
    await add(world, signed(receiver.url))
    await build(world)
    await world.engine.run(secrets.remove_secret, world.owner, HELLO, "HOOK")

    (gone,) = await send(world)
    assert gone.error == "there is no secret HOOK for the project hello"
    assert await uses(world) == []
    await put(world, b"a new key")
    world.clock.advance(20)
    assert [one.delivered for one in await send(world)] == [True]

    await world.engine.run(secrets.remove_secret, world.owner, HELLO, "HOOK")
    await build(world)
    for _ in range(3):
        assert not (await send(world))[0].delivered
        world.clock.advance(3600)
    assert (await counted(world)).dead == 1
    assert len(receiver.got) == 1


async def test_a_secret_whose_key_is_gone_or_that_is_no_text_says_so(world: World, receiver: Receiver) -> None:
    await put(world, b"\xff\xfe\xfd\xfc")
    await add(world, signed(receiver.url))
    await build(world)
    (no_text,) = await send(world)
    assert no_text.error == "the secret HOOK is not text"

    path = world.engine.keys.path
    assert path is not None
    path.unlink()
    world.engine.keys.ids()
    world.clock.advance(20)
    (no_key,) = await send(world)

    assert no_key.error.startswith("the secret HOOK cannot be read: the key ")
    assert receiver.got == []
    assert await uses(world) == []


async def test_an_answer_that_repeats_the_secret_is_kept_without_it(world: World, receiver: Receiver) -> None:
    await put(world, b"ghp_0123456789")
    await add(world, status(receiver.url))
    receiver.always(401, "bad token ghp_0123456789", {"X-Token": "ghp_0123456789"})
    await build(world, source=SOURCE)

    (outcome,) = await send(world)

    assert receiver.got[-1].headers["Authorization"] == "Bearer ghp_0123456789"
    assert (outcome.status, outcome.body) == (401, "bad token ***")
    assert "ghp_0123456789" not in await stored(world)


async def test_only_who_manages_secrets_makes_a_rule_that_names_one(world: World) -> None:
    await put(world, b"s3cr3t key")
    rule = signed("https://example.org/")
    configurer = replace(world.owner, allowed=world.owner.allowed - {Permission.MANAGE_SECRETS})

    with pytest.raises(Forbidden, match="manage_secrets"):
        await add(world, rule, by=configurer)
    await add(world, signed("https://example.org/", ""), by=configurer)
    with pytest.raises(NotFound):
        await add(world, rule, by=await world.user("eve"))
    await add(world, rule)


async def test_a_rule_that_names_a_secret_that_is_not_there_is_refused(world: World) -> None:
    pipeline = await world.define(job("a"))
    rule = signed("https://example.org/")
    await put(world, b"of one pipeline", Place(project="hello", pipeline=pipeline.slug))

    with pytest.raises(Invalid, match="there is no secret HOOK for the project hello") as raised:
        await add(world, rule)
    assert [(one.path, one.code) for one in raised.value.faults] == [("credential", "unknown_secret")]
    await add(world, rule, pipeline=pipeline.slug)


async def hand_in(world: World, actor: Actor, project: str = "fresh") -> None:
    """Run a workflow file whose rule names a secret."""
    text = b"""
        jobs: {a: {run: "true"}}
        notify: {webhook: "https://example.org/hook", secret: HOOK}
    """
    wanted = workflows.HandedIn(text=text, project=project)
    await workflows.submit_workflow(world.engine, actor, wanted, asyncio.Semaphore(1))


async def test_a_workflow_file_may_name_secrets_that_are_there(world: World) -> None:
    with pytest.raises(Invalid, match="there is no secret HOOK for the account bob") as raised:
        await hand_in(world, world.owner)
    assert [one.path for one in raised.value.faults] == ["notify[0].credential"]
    assert await world.engine.read(find_project, SYSTEM, "fresh") is None
    await put(world, b"s3cr3t key", Place(account="bob"))
    with pytest.raises(Forbidden):
        await hand_in(world, replace(world.owner, allowed=world.owner.allowed - {Permission.MANAGE_SECRETS}))
    await hand_in(world, world.owner)
    await hand_in(world, world.owner)

    made = await world.engine.read(find_project, SYSTEM, "fresh")
    assert made is not None
    found = await world.engine.read(notifications.list_notifications, world.owner, made.uid)
    assert [one.rule.target for one in found] == [WebhookTarget(url="https://example.org/hook", secret="HOOK")]
    await world.engine.run(secrets.remove_secret, world.owner, Place(account="bob"), "HOOK")
    with pytest.raises(Invalid, match="there is no secret HOOK for the project fresh"):
        await hand_in(world, world.owner)
    with pytest.raises(NotFound):
        await hand_in(world, await world.user("eve"), "hello")


async def test_a_yard_file_may_name_secrets_that_come_later(world: World, receiver: Receiver) -> None:
    text = f"""
        projects:
          told:
            pipelines:
              main:
                jobs: {{a: {{run: "true"}}}}
                notify: {{webhook: "{receiver.url}", secret: HOOK, on: always}}
    """
    await world.engine.run(apply_yard, SYSTEM, read_yard(text.encode(), read_secret=str))
    project = await world.engine.read(find_project, SYSTEM, "told")
    assert project is not None
    rules = await world.engine.read(notifications.list_notifications, SYSTEM, project.uid)

    assert [one.rule for one in rules] == [signed(receiver.url)]
    (pipeline,) = await world.engine.read(pipelines.list_pipelines, SYSTEM, project.uid)
    await build(world, pipeline)
    (missing,) = await send(world)
    assert missing.error == "there is no secret HOOK for the project told"
    await world.engine.run(
        secrets.set_secret,
        SYSTEM,
        Place(project="told"),
        NewSecret(name="HOOK", value=SecretValue(b"s3cr3t key")),
        world.engine.keys,
    )
    world.clock.advance(20)
    assert [one.delivered for one in await send(world)] == [True]
    assert is_signed_with(receiver, b"s3cr3t key")


async def counted(world: World) -> Told:
    """What /metrics shows of messages."""
    return await world.engine.read(read_told, SYSTEM)


@pytest.mark.covers("telling.metrics")
async def test_messages_are_counted_by_state_and_by_how_they_ended(world: World, receiver: Receiver) -> None:
    assert await counted(world) == Told(0, 0, {})
    await add(world, signed(receiver.url, ""))
    await build(world)
    assert await counted(world) == Told(1, 0, {})
    await send(world)
    receiver.always(410)
    await build(world)
    await send(world)

    assert await counted(world) == Told(0, 1, {("webhook", "delivered"): 1, ("webhook", "dead"): 1})
