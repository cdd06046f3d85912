"""What is to be told is written with the event, once, for those whose rules it meets."""

import asyncio
from typing import Any

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from buildyard.domain.notifications import (
    Action,
    Condition,
    DeliveryState,
    EmailTarget,
    Event,
    Forge,
    Rule,
    StatusTarget,
    Target,
    WebhookTarget,
)
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Result
from buildyard.engine import identity, notifications
from buildyard.engine.document_fields import Reading
from buildyard.engine.documents import read_document
from buildyard.engine.notifications import Means
from buildyard.engine.notify_files import read_rules
from buildyard.engine.projects import find_project
from buildyard.engine.revisions import pin_revision
from buildyard.engine.yard import apply_yard
from buildyard.engine.yard_files import read_yard
from buildyard.protocol import PinRevision
from buildyard.store.builds import BuildView
from buildyard.store.deliveries import Delivery
from world import WORKER, World, job

MEANS = Means(actions=tuple(Action), credentials=("gh",), allow_local=True)
HOOK = WebhookTarget(url="http://127.0.0.1:9/hook")
STATUS = StatusTarget(forge=Forge.GITHUB, repository="acme/tool", token="server:gh")
SOURCE = GitSource(url="https://example.org/x.git", branch="main", commit="a" * 40)


async def rule(
    world: World, target: Target, on: Condition = Condition.ALWAYS, *, by: Actor | None = None, **narrowed: str
) -> str:
    """Make a rule in the world's project; its uid."""
    made = await world.engine.run(
        notifications.add_notification,
        by or world.administrator,
        world.project.uid,
        Rule(target=target, condition=on),
        MEANS,
        **narrowed,
    )
    return made.uid


async def told(world: World) -> list[Delivery]:
    """All messages, oldest first."""
    found = await world.engine.read(
        notifications.list_deliveries, world.administrator, None, state=None, below=2**31 - 1, limit=1000
    )
    return found[::-1]


async def run(world: World, result: Result = Result.SUCCESS, **how: Any) -> BuildView:
    """A build that ends so."""
    hand = world.hands.get("w1") or await world.hand()
    view = await world.submit(**how) if how else await world.submit(job("a"))
    await hand.run_all({"a": result})
    return view


@pytest.mark.covers("telling.rules")
async def test_each_end_is_told_once_to_each_rule_of_project_pipeline_and_build(world: World) -> None:
    pipeline = await world.define(job("a"))
    other = await world.define(job("a"))
    await rule(world, HOOK)
    await rule(world, EmailTarget(to=("a@example.org", "b@example.org")), pipeline=pipeline.slug)
    await rule(world, HOOK, pipeline=other.slug)
    view = await world.submit(pipeline=pipeline)
    await rule(world, WebhookTarget(url="http://127.0.0.1:9/one"), build=view.build.uid)
    hand = await world.hand()
    await hand.run_all()

    first = await told(world)
    assert sorted((each.kind, each.address, each.host) for each in first) == [
        ("email", "a@example.org", "mail"),
        ("email", "b@example.org", "mail"),
        ("webhook", "", "127.0.0.1:9"),
        ("webhook", "", "127.0.0.1:9"),
    ]
    assert {(each.build, each.event) for each in first} == {(view.build.id, Event.FINISHED)}

    await run(world, pipeline=pipeline)
    assert len(await told(world)) == 7


@pytest.mark.covers("telling.rules")
async def test_changed_and_fixed_compare_with_the_build_before_of_the_same_branch(world: World) -> None:
    pipeline = await world.define(job("a"))
    changed = await rule(world, HOOK, Condition.CHANGED)
    fixed = await rule(world, WebhookTarget(url="http://127.0.0.1:9/fixed"), Condition.FIXED)
    topic = GitSource(url=SOURCE.url, branch="topic", commit="b" * 40)
    uids = {changed: "changed", fixed: "fixed"}
    heard: list[set[str]] = []
    for source, result in (
        (SOURCE, Result.SUCCESS),
        (SOURCE, Result.FAILURE),
        (topic, Result.SUCCESS),
        (SOURCE, Result.CANCELLED),
        (SOURCE, Result.ERROR),
        (SOURCE, Result.SUCCESS),
        (topic, Result.SUCCESS),
    ):
        before = len(await told(world))
        await run(world, result, pipeline=pipeline, source=source)
        news = (await told(world))[before:]
        rules = await world.engine.read(notifications.list_notifications, world.owner, world.project.uid)
        names = {each.rule: uids[each.uid] for each in rules}
        heard.append({names[each.rule] for each in news if each.rule is not None})

    assert heard == [set(), {"changed"}, set(), set(), set(), {"changed", "fixed"}, set()]


@pytest.mark.covers("telling.statuses", "telling.rules")
async def test_a_start_is_told_to_statuses_and_to_webhooks_that_ask_for_it(world: World) -> None:
    await rule(world, STATUS)
    await rule(world, WebhookTarget(url="http://127.0.0.1:9/s", started=True), Condition.FAILURE)
    await rule(world, EmailTarget(to=("a@example.org",)))
    hand = await world.hand()
    await world.submit(job("a", steps=2), pipeline=await world.define(job("a", steps=2)), source=SOURCE)
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 0))
    begun = await told(world)
    await hand.report(hand.step_finished(grant, 0), hand.step_started(grant, 1))
    assert await told(world) == begun
    await hand.finish(grant)

    ended = (await told(world))[len(begun) :]
    assert sorted((each.kind, each.event) for each in begun) == [("status", "started"), ("webhook", "started")]
    assert sorted((each.kind, each.event) for each in ended) == [("email", "finished"), ("status", "finished")]
    assert len({each.stream for each in (*begun, *ended) if each.kind == "status"}) == 1


@pytest.mark.covers("telling.statuses")
async def test_a_status_waits_for_the_commit_that_a_branch_turns_out_to_be(world: World) -> None:
    await rule(world, STATUS)
    hand = await world.hand()
    pipeline = await world.define(job("a"))
    await world.submit(pipeline=pipeline, source=GitSource(url=SOURCE.url, branch="main"))
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 0))
    assert await told(world) == []

    for _ in range(2):
        await world.engine.run(
            pin_revision, WORKER, PinRevision(attempt=grant.attempt, token=grant.token, commit="d" * 40)
        )
    (start,) = await told(world)
    await hand.finish(grant)

    assert (start.event, start.stream.split()[2]) == (Event.STARTED, "d" * 40)
    assert [each.event for each in await told(world)] == [Event.STARTED, Event.FINISHED]


@pytest.mark.covers("telling.statuses")
async def test_a_build_without_a_commit_has_no_status(world: World) -> None:
    await rule(world, STATUS)

    await run(world)

    assert await told(world) == []


@pytest.mark.covers("telling.mail")
async def test_the_submitter_is_told_if_an_address_is_known(world: World) -> None:
    await rule(world, EmailTarget(to=("submitter", "ann@example.org", "a@example.org")))
    await world.engine.run(
        identity.create_user,
        world.administrator,
        "ann",
        password_hash=None,
        email="ann@example.org",
        administrator=True,
    )
    ann = await world.engine.read(identity.actor_of_user, SYSTEM, "ann")

    await run(world)
    assert [each.address for each in await told(world)] == ["ann@example.org", "a@example.org"]
    await rule(world, EmailTarget(to=("submitter",)))
    world.administrator = ann
    await run(world)

    assert [each.address for each in (await told(world))[2:]] == ["ann@example.org", "a@example.org", "ann@example.org"]


@pytest.mark.covers("telling.never_lost")
async def test_many_builds_of_one_report_are_each_told_once(world: World) -> None:
    await rule(world, HOOK)
    pipeline = await world.define(job("a"))
    views = [await world.submit(pipeline=pipeline) for _ in range(20)]
    hand = await world.hand()
    grants = await hand.claim(20)
    items = [item for grant in grants for item in (hand.started(grant), hand.finished(grant))]
    await hand.report(*items)
    await hand.report(*items)

    assert sorted(each.build for each in await told(world)) == sorted(view.build.id for view in views)


@pytest.mark.covers("telling.never_lost")
async def test_a_cancelled_build_is_told_with_its_cancelling(world: World) -> None:
    await rule(world, HOOK)
    view = await world.submit(job("a"))

    await world.cancel(view)

    assert [each.build for each in await told(world)] == [view.build.id]


@pytest.mark.covers("telling.access")
async def test_credentials_of_the_server_are_its_administrators(world: World) -> None:
    with pytest.raises(Forbidden):
        await rule(world, STATUS, by=world.owner)
    await rule(world, STATUS)
    for name in ("server:other", "gh"):
        target = WebhookTarget(url="https://example.org/", secret=name)
        with pytest.raises(Invalid) as raised:
            await rule(world, target)
        assert [fault.path for fault in raised.value.faults] == ["credential"]


@pytest.mark.covers("telling.access")
async def test_a_rule_is_refused_that_the_server_cannot_follow(world: World) -> None:
    with pytest.raises(Invalid) as raised:
        await world.engine.run(
            notifications.add_notification,
            world.owner,
            world.project.uid,
            Rule(target=EmailTarget(to=("a@example.org",))),
            Means(actions=(Action.WEBHOOK,), credentials=(), allow_local=False),
        )
    with pytest.raises(NotFound):
        await rule(world, HOOK, pipeline="unknown")

    assert [fault.code for fault in raised.value.faults] == ["not_set_up"]
    assert await world.engine.read(notifications.list_notifications, world.owner, world.project.uid) == []


async def test_a_build_that_has_ended_takes_no_rule_of_its_own(world: World) -> None:
    view = await run(world)

    with pytest.raises(Conflict):
        await rule(world, HOOK, build=view.build.uid)


@pytest.mark.covers("telling.rules")
async def test_a_removed_rule_tells_no_more(world: World) -> None:
    uid = await rule(world, HOOK, by=world.owner)
    await world.engine.run(notifications.remove_notification, world.owner, uid)

    await run(world)

    assert await told(world) == []


async def test_builds_that_finish_while_rules_come_and_go_are_not_held_up(world: World) -> None:
    pipeline = await world.define(job("a"))

    async def rules() -> None:
        for _ in range(5):
            uid = await rule(world, HOOK)
            await world.engine.run(notifications.remove_notification, world.owner, uid)

    async def work() -> None:
        for _ in range(5):
            await run(world, pipeline=pipeline)

    await world.hand()
    await asyncio.gather(rules(), work())

    assert all(each.state is DeliveryState.WAITING for each in await told(world))


def read(text: str) -> tuple[tuple[Rule, ...], list[str]]:
    """What a file's `notify` comes to: rules, and the paths of its faults."""
    reading = Reading()
    found = read_rules(reading, read_document(text.encode()), "notify")
    return found, [fault.path for fault in reading.faults]


@pytest.mark.covers("telling.files")
def test_rules_in_a_file_are_read_with_their_usual_conditions() -> None:
    rules, faults = read("""
        - {email: [team@example.org, submitter]}
        - {email: team@example.org, on: fixed}
        - {webhook: "https://example.org/hook", secret: "server:hook", started: true, on: always}
        - {status: github, repository: acme/tool, token: "server:gh"}
    """)

    assert faults == []
    assert rules == (
        Rule(target=EmailTarget(to=("team@example.org", "submitter"))),
        Rule(target=EmailTarget(to=("team@example.org",)), condition=Condition.FIXED),
        Rule(
            target=WebhookTarget(url="https://example.org/hook", secret="server:hook", started=True),
            condition=Condition.ALWAYS,
        ),
        Rule(target=STATUS, condition=Condition.ALWAYS),
    )


@pytest.mark.covers("telling.files")
@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[{}]", "notify[0]"),
        ("[{email: a@example.org, webhook: 'https://example.org'}]", "notify[0]"),
        ("[{email: a@example.org, secret: x}]", "notify[0]"),
        ("[{email: a@example.org}, {email: nobody}]", "notify[1].email[0]"),
        ("[{webhook: 'ftp://x'}]", "notify[0].webhook"),
        ("[{webhook: 'https://example.org', on: never}]", "notify[0].on"),
        ("[{status: sourcehut}]", "notify[0].status"),
        ("[{status: github, repository: acme, token: x}]", "notify[0].repository"),
        ("[{status: github, repository: acme/tool}]", "notify[0].token"),
        ("[{mail: a@example.org}]", "notify[0].mail"),
    ],
)
def test_a_fault_of_a_rule_in_a_file_is_named_with_its_place(text: str, path: str) -> None:
    assert read(text)[1] == [path]


@pytest.mark.covers("telling.files")
async def test_the_rules_of_a_file_replace_those_it_had_and_leave_others_alone(world: World) -> None:
    pipeline = await world.define(job("a"))
    own = await rule(world, HOOK, pipeline=pipeline.slug)
    first = Rule(target=HOOK, condition=Condition.ALWAYS)
    second = Rule(target=EmailTarget(to=("a@example.org",)))

    async def define(*rules: Rule) -> dict[Rule, str]:
        await world.engine.run(
            notifications.define_notifications, world.owner, pipeline.uid, rules, MEANS, defined_by="workflow"
        )
        found = await world.engine.read(notifications.list_notifications, world.owner, world.project.uid)
        assert own in {each.uid for each in found}
        return {each.rule: each.uid for each in found if each.defined_by == "workflow"}

    before = await define(first, second)
    assert set(before) == {first, second}
    assert await define(second, first, first) == before
    assert await define(second) == {second: before[second]}
    with pytest.raises(Forbidden):
        await world.engine.run(notifications.remove_notification, world.owner, before[second])
    with pytest.raises(Forbidden):
        await define(Rule(target=STATUS, condition=Condition.ALWAYS))
    assert await define() == {}


@pytest.mark.covers("telling.files")
async def test_a_yard_file_holds_rules_of_its_pipelines(world: World) -> None:
    text = """
        projects:
          told:
            pipelines:
              main:
                jobs: {a: {run: "true"}}
                NOTIFY
    """

    async def take(notify: str) -> tuple[list[str], list[Rule]]:
        wanted = read_yard(text.replace("NOTIFY", notify).encode(), read_secret=str)
        changes = await world.engine.run(apply_yard, SYSTEM, wanted)
        project = await world.engine.read(find_project, SYSTEM, "told")
        assert project is not None
        found = await world.engine.read(notifications.list_notifications, SYSTEM, project.uid)
        assert {each.defined_by for each in found} <= {"yard file"}
        return [f"{one.act} {one.kind} {one.detail}" for one in changes], [each.rule for each in found]

    mail = Rule(target=EmailTarget(to=("a@example.org",)))
    assert (await take("notify: {email: a@example.org}"))[1] == [mail]
    assert await take("notify: {email: a@example.org}") == ([], [mail])
    assert await take("") == (["change pipeline who is told"], [])
