"""Groups of builds: collected, started, stopped, seen."""

import pytest

from buildyard.domain.errors import Invalid, NotFound
from buildyard.domain.ids import BuildId, GroupId
from buildyard.domain.manifests import ManifestTrigger
from buildyard.domain.notifications import Action, Condition
from buildyard.domain.states import Phase, Result
from buildyard.engine import build_groups, manifest_jobs
from buildyard.engine.build_groups import GroupView, NewGroup
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.store import notifications
from invariants import check_invariants
from world import World

TEXT = "image: debian\ntasks:\n  - hello: echo hello\n"
TOLD = ManifestTrigger(action=Action.EMAIL, condition=Condition.ALWAYS, to="Bob <bob@example.org>")

pytestmark = pytest.mark.covers("sourcehut.groups")


async def held(world: World, count: int = 2) -> list[BuildId]:
    """Jobs that wait for their start."""
    new = NewManifestJob(text=TEXT, execute=False)
    views = [await manifest_jobs.submit_manifest(world.engine, world.owner, new) for _ in range(count)]
    return [view.build.id for view in views]


async def collect(world: World, *builds: BuildId, **more: object) -> GroupView:
    """A group of the owner."""
    new = NewGroup(builds=builds, **more)  # type: ignore[arg-type]
    return await world.engine.run(build_groups.create_group, world.owner, new, allow_local=False)


async def phases(world: World, group: GroupId) -> set[Phase]:
    """Where a group's builds stand."""
    view = await world.engine.read(build_groups.get_group, world.owner, group)
    return {one.build.state.phase for one in view.builds}


async def test_a_group_starts_all_its_jobs_together_and_again_changes_nothing(world: World) -> None:
    made = await collect(world, *await held(world), note="both", triggers=(TOLD,))
    assert (made.group.note, made.group.account_name) == ("both", "bob")
    assert await phases(world, made.group.id) == {Phase.WAITING}
    for _ in range(2):
        await world.engine.run(build_groups.start_group, world.owner, made.group.id)
        assert await phases(world, made.group.id) == {Phase.QUEUED}
    rules = await world.engine.database.read(lambda tx: notifications.of_group(tx, made.group.id))
    assert [one.group for one in rules] == [made.group.id]
    await world.engine.read(check_invariants, world.owner)


async def test_a_group_may_be_started_when_it_is_made(world: World) -> None:
    made = await collect(world, *await held(world), execute=True)
    assert await phases(world, made.group.id) == {Phase.QUEUED}


async def test_a_cancelled_group_ends_all_its_jobs(world: World) -> None:
    made = await collect(world, *await held(world))
    await world.engine.run(build_groups.cancel_group, world.owner, made.group.id)
    view = await world.engine.read(build_groups.get_group, world.owner, made.group.id)
    assert {one.build.state.result for one in view.builds} == {Result.CANCELLED}


async def test_only_jobs_that_wait_and_are_in_no_group_may_be_collected(world: World) -> None:
    first, second = await held(world)
    await collect(world, first)
    await world.engine.run(manifest_jobs.start_job, world.owner, second)
    (third,) = await held(world, 1)
    for wrong in ((first,), (second,), (BuildId(999),), (third, BuildId(999)), ()):
        with pytest.raises(Invalid):
            await collect(world, *wrong)
    bad = ManifestTrigger(action=Action.WEBHOOK, condition=Condition.ALWAYS, url="ftp://example.org")
    with pytest.raises(Invalid):
        await collect(world, third, triggers=(bad,))
    await collect(world, third)


async def test_a_group_is_seen_by_its_owner_and_by_nobody_else(world: World) -> None:
    made = await collect(world, *await held(world))
    eve = await world.user("eve")
    for use_case in (build_groups.get_group, build_groups.start_group, build_groups.cancel_group):
        with pytest.raises(NotFound):
            await world.engine.run(use_case, eve, made.group.id)
