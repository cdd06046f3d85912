"""Triggers of manifests and groups become messages when what they are about has ended."""

import pytest

from buildyard.domain.access import Visibility
from buildyard.domain.errors import Invalid
from buildyard.domain.ids import BuildId
from buildyard.domain.manifests import ManifestTrigger
from buildyard.domain.notifications import Action, Condition, Event
from buildyard.domain.states import Result
from buildyard.engine import manifest_jobs, notifications, user_webhooks
from buildyard.engine.build_groups import NewGroup, create_group, start_group
from buildyard.engine.manifest_jobs import NewManifestJob, plan_job
from buildyard.engine.manifest_plans import ManifestOptions
from buildyard.engine.manifest_triggers import MOST_TRIGGERS, rule_of_trigger, trigger_of_rule
from buildyard.engine.user_webhooks import NewUserWebhook
from buildyard.store.builds import BuildView
from buildyard.store.deliveries import Delivery
from world import World

TEXT = """\
image: debian
tasks:
  - hello: echo hello
triggers:
  - {action: email, condition: failure, to: "Dev <dev@example.org>", cc: "boss@example.org, dev@example.org",
     in_reply_to: "<1@example.org>"}
  - {action: webhook, condition: success, url: "https://example.org/good"}
  - {action: webhook, condition: always, url: "https://example.org/all"}
"""
PLAIN = "image: debian\ntasks: [{hello: echo hello}]\n"
HOOK = ManifestTrigger(action=Action.WEBHOOK, condition=Condition.FAILURE, url="https://example.org/group")
MAIL = ManifestTrigger(
    action=Action.EMAIL, condition=Condition.FAILURE, to="dev@example.org", cc="a@example.org, b@example.org",
    in_reply_to="<1@example.org>",
)  # fmt: skip


async def submit(world: World, text: str = PLAIN, **more: object) -> BuildView:
    wanted = NewManifestJob(text=text, **more)  # type: ignore[arg-type]  # fields of NewManifestJob
    return await manifest_jobs.submit_manifest(world.engine, world.owner, wanted)


async def run(world: World, *results: Result) -> None:
    """Take what is queued and end it so, oldest first."""
    hand = world.hands.get("w1") or await world.hand()
    grants = sorted(await hand.claim(len(results)), key=lambda grant: grant.build)
    for grant, result in zip(grants, results, strict=True):
        await hand.finish(grant, result)


async def told(world: World) -> list[tuple[str, str]]:
    """To whom messages were written, and for which group, oldest first."""
    return [(_to(each), "group" if each.group else "job") for each in await messages(world)]


def _to(message: Delivery) -> str:
    assert message.rule is not None
    return message.address or str(getattr(message.rule.target, "url", ""))


async def messages(world: World) -> list[Delivery]:
    found = await world.engine.read(
        notifications.list_deliveries, world.administrator, None, state=None, below=2**31 - 1, limit=1000
    )
    return found[::-1]


@pytest.mark.covers("triggers.conditions")
@pytest.mark.parametrize(
    ("result", "heard"),
    [
        (Result.SUCCESS, {"https://example.org/good", "https://example.org/all"}),
        (Result.FAILURE, {"dev@example.org", "boss@example.org", "https://example.org/all"}),
        (Result.TIMEOUT, {"dev@example.org", "boss@example.org", "https://example.org/all"}),
        (Result.CANCELLED, {"dev@example.org", "boss@example.org", "https://example.org/all"}),
    ],
)
async def test_triggers_of_a_manifest_fire_on_the_ends_they_name(world: World, result: Result, heard: set[str]) -> None:
    await submit(world, TEXT)
    await submit(world)
    await run(world, result, Result.SUCCESS)

    assert {to for to, _ in await told(world)} == heard
    assert len(await told(world)) == len(heard)
    assert {each.rule.target.dialect for each in await messages(world) if each.rule} == {"manifest"}  # type: ignore[union-attr]  # no statuses


@pytest.mark.covers("triggers.conditions")
async def test_a_job_that_is_cancelled_before_it_runs_fires_too(world: World) -> None:
    view = await submit(world, TEXT, execute=False)
    await world.engine.run(manifest_jobs.cancel_job, world.owner, view.build.id)

    assert ("https://example.org/all", "job") in await told(world)


@pytest.mark.covers("triggers.conditions")
async def test_triggers_given_beside_a_manifest_count_with_its_own(world: World) -> None:
    await submit(world, TEXT, triggers=(HOOK,))
    await run(world, Result.ERROR)

    assert ("https://example.org/group", "job") in await told(world)
    assert len(await told(world)) == 4


@pytest.mark.covers("triggers.groups")
async def test_triggers_of_a_group_fire_once_when_all_its_jobs_ended(world: World) -> None:
    views = [await submit(world, execute=False) for _ in range(3)]
    keys = tuple(BuildId(view.build.id) for view in views)
    group = await world.engine.run(
        create_group, world.owner, NewGroup(builds=keys, triggers=(HOOK, MAIL)), allow_local=False
    )
    await world.engine.run(start_group, world.owner, group.group.id)
    await run(world, Result.SUCCESS, Result.TIMEOUT)
    assert await told(world) == []
    await run(world, Result.SUCCESS)

    assert sorted(await told(world)) == [
        ("a@example.org", "group"),
        ("b@example.org", "group"),
        ("dev@example.org", "group"),
        ("https://example.org/group", "group"),
    ]
    assert {(each.build, each.event) for each in await messages(world)} == {(keys[0], Event.FINISHED)}


@pytest.mark.covers("triggers.conditions")
@pytest.mark.parametrize("trigger", [HOOK, MAIL])
def test_a_trigger_is_kept_as_it_was_asked_for(trigger: ManifestTrigger) -> None:
    assert trigger_of_rule(rule_of_trigger(trigger)) == trigger


@pytest.mark.covers("triggers.conditions")
async def test_wrong_and_too_many_triggers_are_refused(sqlite_world: World) -> None:
    wrong = ManifestTrigger(action=Action.WEBHOOK, condition=Condition.ALWAYS, url="http://127.0.0.1/")
    for triggers, path in (((HOOK, wrong), "triggers[1].url"), ((HOOK,) * (MOST_TRIGGERS + 1), "triggers")):
        with pytest.raises(Invalid) as caught:
            await submit(sqlite_world, triggers=triggers)
        assert [fault.path for fault in caught.value.faults] == [path]
    with pytest.raises(Invalid, match="at most 50 triggers"):
        await submit(sqlite_world, TEXT, triggers=(HOOK,) * MOST_TRIGGERS)


@pytest.mark.covers("triggers.mail")
def test_the_log_says_that_a_server_without_mail_sends_none() -> None:
    mute = ManifestOptions(mail=False)
    planned = plan_job(NewManifestJob(text=PLAIN, triggers=(MAIL,)), mute, allow_local=False)
    (job,) = planned.spec.jobs
    assert any("not set up to send mail" in step.run for step in job.prepare)
    (other,) = plan_job(NewManifestJob(text=PLAIN, triggers=(HOOK,)), mute, allow_local=False).spec.jobs
    assert not any("not set up to send mail" in step.run for step in other.prepare)


@pytest.mark.covers("user_webhooks.events")
async def test_starts_and_changes_of_who_may_see_a_job_are_told_to_its_users_webhooks(world: World) -> None:
    new = NewUserWebhook(url="https://example.org/", events=user_webhooks.EVENTS, query="q", defined_by="an API")
    webhook = await world.engine.run(user_webhooks.create_user_webhook, world.owner, new, allow_local=False)
    view = await submit(world, execute=False)
    for _ in range(2):
        world.clock.advance(1)
        await world.engine.run(manifest_jobs.change_visibility, world.owner, view.build.id, Visibility.PUBLIC)
    world.clock.advance(1)
    await world.engine.run(manifest_jobs.start_job, world.owner, view.build.id)
    found = await world.engine.read(user_webhooks.list_webhook_deliveries, world.owner, webhook.id)

    events = [each.delivery.event for each in found[::-1]]
    assert events == [Event.CREATED, Event.UPDATED, Event.UPDATED, Event.UPDATED]
