"""Jobs made of manifests: where they go, who sees them, when they start."""

import asyncio
from dataclasses import replace

import pytest

from buildyard.domain.access import ANONYMOUS, SYSTEM, Actor, Permission, Role, Visibility
from buildyard.domain.errors import Forbidden, Invalid, NotFound
from buildyard.domain.retention import Bounds, What
from buildyard.domain.states import Phase, Result
from buildyard.engine import (
    build_lists,
    builds,
    garbage,
    identity,
    manifest_jobs,
    overview,
    queue,
    retention,
    terminals,
)
from buildyard.engine.builds import Submission
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.store import identity as people
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction
from invariants import check_invariants
from world import QUEUE_LIMIT, World, job

TEXT = """\
image: debian
tasks:
  - hello: echo hello
  - again: echo again
"""

pytestmark = pytest.mark.covers("sourcehut.use_cases")


async def submit(world: World, by: Actor, text: str = TEXT, **more: object) -> BuildView:
    """A job of somebody."""
    return await manifest_jobs.submit_manifest(world.engine, by, NewManifestJob(text=text, **more))  # type: ignore[arg-type]


async def join(world: World, who: Actor) -> None:
    """Make somebody a developer of the project."""
    user = who.user
    assert user is not None

    async def add(tx: Transaction, _actor: Actor) -> None:
        await people.add_member(tx, user, Role.DEVELOPER, project=world.project.id)

    await world.engine.run(add, SYSTEM)


async def seen(world: World, who: Actor) -> tuple[set[int], int]:
    """The ids in somebody's list of builds, and the total that it names."""
    views, total = await world.engine.read(build_lists.list_visible_builds, who, limit=100, offset=0)
    assert [view.build.id for view in views] == sorted((view.build.id for view in views), reverse=True)
    return {view.build.id for view in views}, total


async def reads(world: World, who: Actor, view: BuildView) -> bool:
    """Whether somebody may read a build by its id."""
    try:
        await world.engine.read(builds.get_build_by_id, who, view.build.id)
    except NotFound:
        return False
    return True


async def test_a_manifest_becomes_a_build_of_the_submitters_own_project(world: World) -> None:
    eve = await world.user("eve")
    view = await submit(world, eve, note="a note", tags=("lib", "linux"))
    assert (view.project_slug, view.pipeline_slug, view.build.note) == ("eve", "lib", "a note")
    assert view.build.state.phase is Phase.QUEUED
    assert [one.job.name for one in await world.engine.read(builds.list_jobs, eve, view.build.uid)] == ["job"]
    plain = await submit(world, eve)
    assert (plain.project_uid, plain.pipeline_slug) == (view.project_uid, "jobs")


async def test_the_same_text_is_the_same_version_and_another_comment_is_another(world: World) -> None:
    first, again, other = [await submit(world, world.owner, text) for text in (TEXT, TEXT, f"{TEXT}# more\n")]
    assert first.build.pipeline_version == again.build.pipeline_version != other.build.pipeline_version


async def test_tags_that_others_use_as_names_of_pipelines_get_pipelines_of_their_own(world: World) -> None:
    slugs = [(await submit(world, world.owner, tags=(tag,))).pipeline_slug for tag in ("a.b", "a-b", "a.b", "A")]
    assert len(set(slugs)) == 3
    assert slugs[0] == slugs[2]


async def test_jobs_submitted_at_once_share_project_and_pipeline(world: World) -> None:
    eve = await world.user("eve")
    views = await asyncio.gather(*(submit(world, eve, tags=("x",)) for _ in range(5)))
    assert len({(view.project_uid, view.pipeline_uid) for view in views}) == 1
    assert sorted(view.build.number for view in views) == [1, 2, 3, 4, 5]


async def test_access_lists_replace_the_rule_of_the_project(world: World) -> None:
    eve, ann = await world.user("eve"), await world.user("ann")
    jobs = {
        "public": await submit(world, eve, read=("*",)),
        "named": await submit(world, eve, read=("ann",)),
        "writable": await submit(world, eve, read=("*",), write=("ann",)),
        "unlisted": await submit(world, eve, visibility=Visibility.UNLISTED),
        "private": await submit(world, eve, visibility=Visibility.PRIVATE),
        "project": await submit(world, eve),
    }
    may_read = {
        "eve": set(jobs), "ann": {"public", "named", "writable", "unlisted"},
        "owner": {"public", "writable", "unlisted"}, "anonymous": {"public", "writable", "unlisted"},
    }  # fmt: skip
    lists = {**may_read, "ann": {"public", "named", "writable"}, "owner": {"public", "writable"},
             "anonymous": {"public", "writable"}}  # fmt: skip
    people = {"eve": eve, "ann": ann, "owner": world.owner, "anonymous": ANONYMOUS}
    for name, who in people.items():
        assert {key for key, view in jobs.items() if await reads(world, who, view)} == may_read[name], name
        assert await seen(world, who) == ({jobs[key].build.id for key in lists[name]}, len(lists[name])), name
    ids = {view.build.id: key for key, view in jobs.items()}
    shown = await world.engine.read(queue.show_queue, eve)
    assert {ids[one.item.build] for one in shown.queued} == set(jobs)
    await world.engine.read(check_invariants, world.owner)


async def test_who_may_write_starts_and_cancels_and_who_may_only_read_does_not(world: World) -> None:
    eve, ann, tom = await world.user("eve"), await world.user("ann"), await world.user("tom")
    view = await submit(world, eve, read=("tom",), write=("ann",), execute=False)
    with pytest.raises(Forbidden):
        await world.engine.run(manifest_jobs.start_job, tom, view.build.id)
    with pytest.raises(NotFound):
        await world.engine.run(manifest_jobs.cancel_job, world.owner, view.build.id)
    reading = replace(ann, allowed=frozenset({Permission.READ}))
    with pytest.raises(Forbidden):
        await world.engine.run(manifest_jobs.start_job, reading, view.build.id)
    assert (await world.engine.run(manifest_jobs.start_job, ann, view.build.id)).moved
    assert (await world.engine.run(manifest_jobs.cancel_job, ann, view.build.id)).moved
    assert await world.result(view) is Result.CANCELLED


async def test_a_member_does_not_see_what_a_list_keeps_from_them(world: World) -> None:
    ann = await world.user("ann")
    hidden = await submit(world, world.owner, read=(), project=world.project.slug)
    shown = await submit(world, world.owner, project=world.project.slug)
    await join(world, ann)
    ann = await world.engine.read(identity.actor_of_user, SYSTEM, "ann")
    page, total = await world.engine.read(builds.list_builds, ann, world.project.uid, limit=9, offset=0)
    assert ([view.build.id for view in page], total) == ([shown.build.id], 1)
    assert not await reads(world, ann, hidden)
    found = await world.engine.read(queue.show_queue, ann, project_slug=world.project.slug)
    assert [one.item.build for one in found.queued] == [shown.build.id]
    hand = await world.hand()
    await hand.claim(2)
    assert [one.build for one in (await world.engine.read(overview.read_overview, ann)).running] == [shown.build.id]
    assert len((await world.engine.read(overview.read_overview, world.owner)).running) == 2


async def test_a_job_not_to_be_executed_waits_for_its_start(world: World) -> None:
    view = await submit(world, world.owner, execute=False)
    assert view.build.state.phase is Phase.WAITING
    (held,) = await world.engine.read(builds.list_jobs, world.owner, view.build.uid)
    assert held.waits_for == "waits for somebody to start it"
    hand = await world.hand()
    assert await hand.claim() == []
    started = await world.engine.run(manifest_jobs.start_job, world.owner, view.build.id)
    assert (started.moved, started.view.build.state.phase) == (True, Phase.QUEUED)
    assert not (await world.engine.run(manifest_jobs.start_job, world.owner, view.build.id)).moved
    await hand.run_all()
    assert await world.result(view) is Result.SUCCESS
    await world.engine.read(check_invariants, world.owner)


async def test_a_job_cancelled_before_its_start_does_not_start(world: World) -> None:
    view = await submit(world, world.owner, execute=False)
    assert (await world.engine.run(manifest_jobs.cancel_job, world.owner, view.build.id)).moved
    assert not (await world.engine.run(manifest_jobs.start_job, world.owner, view.build.id)).moved
    assert not (await world.engine.run(manifest_jobs.cancel_job, world.owner, view.build.id)).moved
    assert await world.result(view) is Result.CANCELLED


async def test_a_rebuild_keeps_tags_access_and_manifest(world: World) -> None:
    eve, ann = await world.user("eve"), await world.user("ann")
    view = await submit(world, eve, tags=("lib", "x"), read=(), write=("ann",))
    again = await world.engine.run(builds.rebuild_build, ann, view.build.uid, reason="", queue_limit=100)
    assert again.build.pipeline_version == view.build.pipeline_version
    assert again.build.manifest
    assert await reads(world, eve, again)
    assert await reads(world, ann, again)
    assert not await reads(world, world.owner, again)
    assert (await seen(world, eve))[1] == 2
    await world.engine.run(manifest_jobs.cancel_job, eve, again.build.id)
    await world.engine.read(check_invariants, world.owner)


async def test_visibility_may_be_changed_and_totals_follow(world: World) -> None:
    eve = await world.user("eve")
    view = await submit(world, eve, visibility=Visibility.UNLISTED)
    totals = []
    for visibility in (Visibility.PUBLIC, Visibility.PRIVATE, Visibility.UNLISTED, Visibility.PUBLIC):
        await world.engine.run(manifest_jobs.change_visibility, eve, view.build.id, visibility)
        totals.append(((await seen(world, ANONYMOUS))[1], (await seen(world, eve))[1]))
        await world.engine.read(check_invariants, world.owner)
    assert totals == [(1, 1), (0, 1), (0, 1), (1, 1)]


async def test_own_jobs_come_in_pages_by_key_with_the_number_of_all(world: World) -> None:
    ids = [(await submit(world, world.owner)).build.id for _ in range(5)]
    pipeline = await world.define(job("a"))
    other = await world.engine.run(
        builds.submit_build, world.owner, world.project.uid, pipeline.uid, Submission(), queue_limit=QUEUE_LIMIT
    )
    page = await world.engine.read(manifest_jobs.list_jobs_of, world.owner, limit=4)
    assert [view.build.id for view in page.views] == [other.build.id, *ids[:1:-1]]
    assert (page.next, page.total) == (ids[1], 6)
    rest = await world.engine.read(manifest_jobs.list_jobs_of, world.owner, start=ids[1], limit=4)
    assert ([view.build.id for view in rest.views], rest.next) == ([ids[1], ids[0]], None)
    own = await world.engine.read(manifest_jobs.list_jobs_of, world.owner, limit=4, manifests_only=True)
    assert ([view.build.id for view in own.views], own.total) == (ids[:0:-1], 5)


async def test_of_somebody_elses_jobs_only_those_are_listed_that_the_reader_finds(world: World) -> None:
    eve = await world.user("eve")
    public = await submit(world, eve, read=("*",))
    await submit(world, eve, visibility=Visibility.UNLISTED)
    await submit(world, eve, read=())
    page = await world.engine.read(manifest_jobs.list_jobs_of, world.owner, user=eve.user)
    assert [view.build.id for view in page.views] == [public.build.id]


async def test_faults_and_unknown_users_leave_nothing_behind(world: World) -> None:
    for text, more in (("image: x\n", {}), (TEXT, {"read": ("nobody",)}), (f"{TEXT}secrets: [missing]\n", {})):
        with pytest.raises(Invalid):
            await submit(world, world.owner, text, **more)
    assert (await seen(world, world.owner))[1] == 0
    with pytest.raises(Forbidden):
        await submit(world, ANONYMOUS)
    withheld = await submit(world, world.owner, f"{TEXT}secrets: [missing]\n", secrets=False)
    assert not withheld.build.secrets_enabled


async def test_jobs_that_retention_takes_are_counted_no_more(world: World) -> None:
    ann = await world.user("ann")
    hand = await world.hand()
    lists: list[dict[str, object]] = [{"read": ("*",)}, {"read": ("ann",)}, {"read": ()}, {}, {"read": ("*",)}]
    for more in lists:
        await submit(world, world.owner, project=world.project.slug, tags=("a", "b"), **more)
        await hand.run_all()
        world.clock.advance(60)
    assert [(await seen(world, who))[1] for who in (world.owner, ann, ANONYMOUS)] == [5, 3, 2]
    bounds = Bounds(count=1)
    await world.engine.run(retention.set_rule, world.owner, world.project.uid, "", What.BUILDS, bounds)
    world.clock.advance(3 * 3600)
    cursor = "first"
    while cursor:
        cursor = (await garbage.collect_garbage(world.engine, SYSTEM, "" if cursor == "first" else cursor)).cursor
    assert [(await seen(world, who))[1] for who in (world.owner, ann, ANONYMOUS)] == [1, 1, 1]
    assert (await world.engine.read(manifest_jobs.list_jobs_of, world.owner)).total == 1
    await world.engine.read(check_invariants, world.owner)


async def test_a_token_of_one_project_finds_what_is_there_and_nothing_else(world: World) -> None:
    inside = [await submit(world, world.owner, project=world.project.slug, read=read) for read in (None, ("*",), ())]
    await submit(world, world.owner, read=("*",))
    await submit(world, await world.user("eve"), read=("*", "bob"))
    bound = replace(world.owner, only_project=world.project.id)
    assert await seen(world, bound) == ({view.build.id for view in inside}, 3)
    page = await world.engine.read(manifest_jobs.list_jobs_of, bound)
    assert {view.build.id for view in page.views} == {view.build.id for view in inside}
    with pytest.raises((Forbidden, NotFound)):
        await submit(world, bound)


async def test_only_those_on_its_list_get_a_shell_in_a_jobs_workspace(world: World) -> None:
    eve = await world.user("eve")
    view = await submit(world, world.owner, project=world.project.slug, read=("eve",))
    hidden = await submit(world, eve, read=())
    for who, build in ((eve, view), (world.owner, hidden)):
        with pytest.raises((Forbidden, NotFound)):
            await world.engine.read(terminals.require_attachable, who, build.build.uid)
    assert await world.engine.read(terminals.require_attachable, world.owner, view.build.uid)
