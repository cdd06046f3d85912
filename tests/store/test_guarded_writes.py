"""A state that moved since it was read is not written over."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Conflict
from buildyard.store import attempts, builds, jobs
from buildyard.store.transactions import Transaction
from world import World, job

Save = Callable[[Transaction, World], Awaitable[None]]


async def save_build(tx: Transaction, world: World) -> None:
    """Write a build as it was seen before another write."""
    view = await builds.page(tx, world.project.id, limit=1, offset=0)
    seen = view[0][0].build
    await builds.save(tx, seen, replace(seen, note="first"))
    await builds.save(tx, seen, replace(seen, note="second"))


async def save_job(tx: Transaction, world: World) -> None:
    """The same with a job."""
    view = await builds.page(tx, world.project.id, limit=1, offset=0)
    (seen,) = await jobs.of_build(tx, view[0][0].build.id)
    await jobs.save(tx, seen, replace(seen, cancel_requested=True), project=world.project.id)
    await jobs.save(tx, seen, replace(seen, cancel_requested=False), project=world.project.id)


async def save_attempt(tx: Transaction, world: World) -> None:
    """The same with an attempt."""
    view = await builds.page(tx, world.project.id, limit=1, offset=0)
    build = view[0][0].build.id
    (its_job,) = await jobs.of_build(tx, build)
    (seen,) = await attempts.of_job(tx, its_job.id)
    after = replace(seen, leased_until=tx.now)
    await attempts.save(tx, seen, after, project=world.project.id, build=build)
    await attempts.save(tx, seen, after, project=world.project.id, build=build)


@pytest.mark.covers("engine.states.guarded_write")
@pytest.mark.parametrize("save", [save_build, save_job, save_attempt])
async def test_a_state_that_was_moved_meanwhile_is_not_written_and_all_is_undone(world: World, save: Save) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    await hand.take()
    before = (await world.build(view)).build, await world.jobs(view)

    async def body(tx: Transaction, _actor: Actor) -> None:
        await save(tx, world)

    with pytest.raises(Conflict):
        await world.engine.run(body, SYSTEM)
    assert ((await world.build(view)).build, await world.jobs(view)) == before
