"""The end of a group of builds is told once, when the last of them has ended, whoever ends when."""

import asyncio
from itertools import permutations

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import GroupId, Moment, NotificationId
from buildyard.domain.notifications import Condition, DeliveryState, EmailTarget, Event, Rule, WebhookTarget
from buildyard.domain.states import Result
from buildyard.engine import delivering, notifications
from buildyard.store import notifications as rules
from buildyard.store.builds import BuildView
from buildyard.store.deliveries import Delivery
from buildyard.store.statements import insertion
from buildyard.store.tables import group_builds, groups
from buildyard.store.transactions import Transaction
from world import Hand, World, job

GROUP = insertion(groups)
MEMBER = insertion(group_builds)
HOOK = Rule(target=WebhookTarget(url="http://127.0.0.1:9/group"), condition=Condition.ALWAYS)

pytestmark = pytest.mark.covers("triggers.groups")


async def collect(tx: Transaction, _actor: Actor, world: World, views: list[BuildView], *told: Rule) -> GroupId:
    """Make a group of these builds with these rules."""
    (key,) = await tx.allocate("groups")
    await tx.execute(GROUP, id=key, account=world.project.account, note="", created_at=tx.now)
    await tx.execute_many(MEMBER, [{"group": key, "build": view.build.id} for view in views])
    for rule in told:
        await rules.add(tx, rule, project=world.project.id, pipeline=None, build=None, group=GroupId(key),
                        defined_by="test", created_by="test")  # fmt: skip
    return GroupId(key)


async def gathered(world: World, count: int, *told: Rule) -> tuple[GroupId, list[BuildView], Hand]:
    """A group of builds that a worker has taken."""
    views = [await world.submit(job(f"job{n}")) for n in range(count)]
    hand = world.hands.get("w1") or await world.hand()
    await hand.claim(count)
    return await world.engine.run(collect, SYSTEM, world, views, *told), views, hand


async def end(hand: Hand, view: BuildView, result: Result = Result.SUCCESS) -> None:
    """Finish the one job of a build."""
    grant = next(grant for grant in hand.held.values() if grant.build == view.build.id)
    await hand.finish(grant, result)


async def told(world: World) -> list[Delivery]:
    """All messages, oldest first."""
    found = await world.engine.read(
        notifications.list_deliveries, world.administrator, None, state=None, below=2**31 - 1, limit=1000
    )
    return found[::-1]


async def test_a_group_is_told_with_its_last_build_in_whatever_order_they_end(world: World) -> None:
    for order in permutations(range(3)):
        before = len(await told(world))
        group, views, hand = await gathered(world, 3, HOOK)
        for place in order[:-1]:
            await end(hand, views[place])
            assert len(await told(world)) == before
        await end(hand, views[order[-1]])

        (message,) = (await told(world))[before:]
        assert (message.group, message.build, message.event) == (group, views[0].build.id, Event.FINISHED)


@pytest.mark.parametrize(
    ("ends", "heard"),
    [
        ((Result.SUCCESS, Result.WARNINGS), {"always", "success"}),
        ((Result.SUCCESS, Result.FAILURE), {"always", "unsuccessful"}),
        ((Result.TIMEOUT, Result.SUCCESS), {"always", "unsuccessful"}),
        ((Result.CANCELLED, Result.SUCCESS), {"always", "unsuccessful"}),
        ((Result.SKIPPED, Result.SUCCESS), {"always", "unsuccessful"}),
    ],
)
async def test_a_group_succeeds_if_all_of_it_does(world: World, ends: tuple[Result, Result], heard: set[str]) -> None:
    wanted = [
        Rule(target=WebhookTarget(url=f"http://127.0.0.1:9/{on}"), condition=on)
        for on in (Condition.ALWAYS, Condition.SUCCESS, Condition.UNSUCCESSFUL)
    ]
    _, views, hand = await gathered(world, 2, *wanted)
    for view, result in zip(views, ends, strict=True):
        await end(hand, view, result)

    assert {str(each.rule.condition) for each in await told(world) if each.rule} == heard


async def test_builds_that_end_at_the_same_moment_tell_their_group_once(world: World) -> None:
    for _ in range(5):
        before = len(await told(world))
        _, views, hand = await gathered(world, 4, HOOK)
        await asyncio.gather(*(end(hand, view) for view in views))
        assert len(await told(world)) == before + 1


async def test_a_build_cancelled_before_it_ran_counts_as_ended(world: World) -> None:
    group, views, hand = await gathered(world, 2, HOOK)
    await end(hand, views[0])
    await world.cancel(views[1])
    await end(hand, views[1], Result.CANCELLED)

    assert [each.group for each in await told(world)] == [group]


async def test_rules_of_a_group_are_not_those_of_its_builds_or_project(world: World) -> None:
    mail = Rule(target=EmailTarget(to=("a@example.org",), cc=("b@example.org",)), condition=Condition.ALWAYS)
    group, views, hand = await gathered(world, 2, mail)
    other = await world.submit(job("other"))
    await hand.claim(1)
    await end(hand, other)
    await end(hand, views[1])
    assert await told(world) == []
    await end(hand, views[0])

    assert [(each.address, each.group) for each in await told(world)] == [
        ("a@example.org", group),
        ("b@example.org", group),
    ]
    (kept,) = await world.engine.read(_of_group, SYSTEM, group)
    assert (kept.rule, kept.group, kept.build) == (mail, group, None)


async def test_a_message_for_a_group_whose_rule_was_removed_is_dropped(world: World) -> None:
    group, views, hand = await gathered(world, 1, HOOK)
    await end(hand, views[0])
    (rule,) = await world.engine.read(_of_group, SYSTEM, group)
    await world.engine.run(_remove, SYSTEM, rule.id)
    await world.engine.run(delivering.take_due, SYSTEM, {"127.0.0.1:9": 10}, lease_s=60)

    (message,) = await told(world)
    assert message.state is DeliveryState.DROPPED
    assert message.created_at == Moment(world.clock.now)


async def _of_group(tx: Transaction, _actor: Actor, group: GroupId) -> list[rules.Notification]:
    return await rules.of_group(tx, group)


async def _remove(tx: Transaction, _actor: Actor, key: NotificationId) -> None:
    await rules.remove(tx, key)
