"""Transactions that meet: on PostgreSQL truly interleaved, on SQLite submitted at once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.domain.errors import Conflict
from buildyard.domain.states import Phase, Result
from buildyard.engine import projects, settling
from buildyard.store.transactions import Transaction
from world import Hand, World, job

pytestmark = pytest.mark.covers("proof.both_databases")


async def at_once(*acts: Callable[[], Awaitable[object]]) -> list[object]:
    """Start all and wait for all."""
    return await asyncio.gather(*(act() for act in acts))


@pytest.mark.covers("proof.last_two_dependencies", "engine.dag.ready")
async def test_two_last_dependencies_that_finish_at_once_queue_their_dependant_once(world: World) -> None:
    one, two = await world.hand("one"), await world.hand("two")
    for _ in range(15):
        view = await world.submit(job("a"), job("b"), job("c", "a", "b"), job("d", "a", "b"))
        left, right = await one.take(), await two.take()
        await at_once(lambda left=left: one.finish(left), lambda right=right: two.finish(right))
        assert sorted(await one.run_all()) == ["c", "d"]
        jobs = await world.jobs(view)
        assert [len(jobs[name].attempts) for name in "abcd"] == [1, 1, 1, 1]
        assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("proof.last_two_dependencies")
async def test_a_finish_waits_for_the_other_that_holds_the_build(postgres_world: World) -> None:
    world = postgres_world
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"), job("c", "a", "b"))
    first, second = await hand.claim(2)
    locked, release = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await settling.locked_build(tx, view.build.id)
        locked.set()
        await release.wait()

    holding = asyncio.create_task(world.engine.database.run(hold))
    await locked.wait()
    finishing = [asyncio.create_task(hand.finish(grant)) for grant in (first, second)]
    done, _ = await asyncio.wait(finishing, timeout=0.3)
    assert not done
    release.set()
    await asyncio.gather(holding, *finishing)
    assert (await world.states(view))["c"] is Phase.QUEUED
    assert await hand.run_all() == ["c"]


async def test_a_failure_and_a_success_at_once_end_their_dependant_once(world: World) -> None:
    one, two = await world.hand("one"), await world.hand("two")
    for _ in range(10):
        view = await world.submit(job("a"), job("b"), job("c", "a", "b"), job("d", "c"))
        left, right = await one.take(), await two.take()
        await at_once(lambda left=left: one.finish(left, Result.FAILURE), lambda right=right: two.finish(right))
        assert (await world.states(view))["d"] is Result.DEPENDENCY_FAILED
        assert await world.result(view) is Result.FAILURE


async def test_cancel_claim_finish_and_loss_at_once_leave_one_result_each(world: World) -> None:
    hands = [await world.hand(f"w{n}") for n in range(3)]

    async def finish_all(hand: Hand) -> None:
        for grant in list(hand.held.values()):
            await hand.report(hand.started(grant), hand.finished(grant, Result.FAILURE))
            hand.held.pop(grant.attempt, None)

    for round_ in range(8):
        views = [await world.submit(job("a"), job("b"), job("c", "a", "b"), job("d")) for _ in range(3)]
        await hands[0].claim(4)
        await asyncio.gather(
            hands[1].claim(4),
            world.cancel(views[0]),
            hands[2].claim(4),
            world.cancel(views[1]),
            finish_all(hands[0]),
            hands[0].restart() if round_ % 3 else hands[2].beat(),
        )
        for hand in hands:
            await finish_all(hand)
        while sum([len(await hand.run_all()) for hand in hands]):
            pass
        world.clock.advance(31)
        await world.expire()
        while sum([len(await hand.run_all()) for hand in hands]):
            pass
        for view in views:
            assert await world.result(view) is not None


@pytest.mark.covers("engine.projects")
async def test_projects_of_one_name_made_at_once_get_slugs_of_their_own(world: World) -> None:
    made = await asyncio.gather(
        *(world.engine.run(projects.create_project, world.owner, "bob", "Same name") for _ in range(4)),
        return_exceptions=True,
    )
    slugs = [one.slug for one in made if isinstance(one, projects.Project)]
    assert len(set(slugs)) == len(slugs) >= 1
    assert all(isinstance(one, projects.Project | Conflict) for one in made)


async def test_new_lanes_and_requirements_made_at_once_are_made_once(world: World) -> None:
    hands = [await world.hand("w", labels=[f"l{n}" for n in range(5)])]
    pipelines = [await world.define(job("a", labels=[f"l{n}"]), job("b")) for n in range(5)]
    views = await asyncio.gather(*(world.submit(pipeline=pipeline) for pipeline in pipelines for _ in range(4)))
    assert len(await hands[0].run_all()) == 40
    assert {await world.result(view) for view in views} == {Result.SUCCESS}
    assert SYSTEM.administrator
