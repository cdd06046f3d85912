"""Locks: who holds one, who waits, and how it goes on."""

import asyncio

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.domain.specs import SHARED, LockScope, LockSpec, Requirement
from buildyard.domain.states import Phase, Result
from buildyard.engine import leasing, projects
from invariants import check_invariants
from world import WORKER, World, job, once

DB = (LockSpec(name="db"),)
LEASE = 30


def on_worker(name: str, most: int = 1) -> Requirement:
    return Requirement(locks=((name, most),))


async def check(world: World) -> None:
    await world.engine.read(check_invariants, SYSTEM)


@pytest.mark.covers("blockers.locks.counting", "blockers.locks.freed", "blockers.words")
async def test_a_lock_is_held_by_one_job_at_a_time_in_the_order_of_submission(world: World) -> None:
    hand = await world.hand()
    views = [await world.submit(job("a", locks=DB)) for _ in range(3)]
    first = await hand.take()
    assert [(await world.states(view))["a"] for view in views] == [Phase.LEASED, Phase.WAITING, Phase.WAITING]
    last = (await world.jobs(views[2]))["a"]
    assert last.waits_for == f"waits for the lock db, held by a of build {views[0].build.id}, 1 ahead"
    assert [(one.blocker.kind, one.blocker.name, one.ahead) for one in last.blockers] == [("lock", "db", 1)]
    await check(world)
    await hand.finish(first, Result.FAILURE)
    assert [(await world.states(view))["a"] for view in views] == [Result.FAILURE, Phase.QUEUED, Phase.WAITING]
    await hand.run_all()
    assert [await world.result(view) for view in views] == [Result.FAILURE, Result.SUCCESS, Result.SUCCESS]
    await check(world)


@pytest.mark.covers("blockers.locks.counting")
async def test_a_counted_lock_has_so_many_holders_and_the_least_count_of_all_decides(world: World) -> None:
    hand = await world.hand()
    two = (LockSpec(name="db", most=2),)
    view = await world.submit(*(job(f"j{n}", locks=two) for n in range(4)), job("alone", locks=DB))
    assert sorted(grant.spec.name for grant in await hand.claim(9)) == ["j0", "j1"]
    for grant in list(hand.held.values()):
        await hand.finish(grant)
        await check(world)
    assert sorted(grant.spec.name for grant in await hand.claim(9)) == ["j2", "j3"]
    for grant in list(hand.held.values()):
        assert (await world.states(view))["alone"] is Phase.WAITING
        await hand.finish(grant)
    assert await hand.run_all() == ["alone"]
    assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("blockers.locks.shared")
async def test_shared_holders_keep_an_exclusive_one_out_and_it_keeps_them_out(world: World) -> None:
    hand = await world.hand()
    shared = (LockSpec(name="db", most=SHARED),)
    await world.submit(job("r1", locks=shared), job("r2", locks=shared), job("w", locks=DB), job("r3", locks=shared))
    readers = await hand.claim(9)
    assert sorted(grant.spec.name for grant in readers) == ["r1", "r2"]
    for grant in readers:
        await hand.finish(grant)
    (writer,) = await hand.claim(9)
    assert writer.spec.name == "w"
    await hand.finish(writer)
    assert await hand.run_all() == ["r3"]


@pytest.mark.covers("blockers.locks.many")
async def test_jobs_that_want_the_same_locks_in_any_order_all_end(world: World) -> None:
    hand = await world.hand()
    x, y, z = (LockSpec(name=name) for name in "xyz")
    views = [await world.submit(job("a", locks=locks)) for locks in ((x, y), (y, x), (y, z), (z, x), (x,))]
    running = await hand.claim(9)
    assert [grant.build for grant in running] == [views[0].build.id]
    await check(world)
    while running:
        await hand.finish(running.pop())
        running += await hand.claim(9)
        await check(world)
    assert {await world.result(view) for view in views} == {Result.SUCCESS}


@pytest.mark.covers("blockers.locks.scopes")
async def test_a_lock_of_a_project_is_another_projects_own_and_one_of_the_server_is_not(world: World) -> None:

    hand = await world.hand()
    other = await world.engine.run(projects.create_project, world.owner, "bob", "other")
    everywhere = (LockSpec(name="db", scope=LockScope.SERVER),)
    for locks, expected in ((DB, 2), (everywhere, 1)):
        await world.submit(job("a", locks=locks))
        await world.submit(pipeline=await world.define(job("a", locks=locks), project=other))
        assert len(await hand.claim(9)) == expected
        for grant in list(hand.held.values()):
            await hand.finish(grant)
        await hand.run_all()


@pytest.mark.covers("blockers.locks.after_needs")
async def test_a_job_asks_for_its_lock_when_nothing_else_holds_it_up(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b", "a", locks=DB))
    other = await world.submit(job("b", locks=DB))
    assert (await world.states(other))["b"] is Phase.QUEUED
    assert (await world.jobs(view))["b"].waits_for == "waits for a"
    await hand.run_all({"a": Result.SUCCESS})
    assert await world.result(view) is Result.SUCCESS
    failing = await world.submit(job("a"), job("b", "a", locks=DB))
    await hand.finish(await hand.take(), Result.FAILURE)
    assert (await world.states(failing))["b"] is Result.DEPENDENCY_FAILED
    await check(world)


@pytest.mark.covers("blockers.locks.freed")
async def test_cancelled_jobs_free_their_lock_whether_queued_running_or_in_line(world: World) -> None:
    hand = await world.hand()
    queued, in_line, last = [await world.submit(job("a", locks=DB)) for _ in range(3)]
    await world.cancel(in_line)
    await check(world)
    await world.cancel(queued)
    assert (await world.states(last))["a"] is Phase.QUEUED
    grant = await hand.take()
    after = await world.submit(job("a", locks=DB))
    await world.cancel(last)
    assert (await world.states(after))["a"] is Phase.WAITING
    await hand.finish(grant, Result.CANCELLED)
    assert await hand.run_all() == ["a"]
    await check(world)


@pytest.mark.covers("blockers.locks.lost")
async def test_a_lost_holder_keeps_its_lock_for_its_next_try_and_frees_it_when_there_is_none(world: World) -> None:
    hand = await world.hand()
    holder = await world.submit(job("a", locks=DB, retry=once(lost_count=1)))
    after = await world.submit(job("a", locks=DB))
    await hand.take()
    world.clock.advance(LEASE - 1)
    await world.expire()
    assert await world.states(holder) == {"a": Phase.LEASED}
    world.clock.advance(2)
    await world.expire()
    assert (await world.states(holder), await world.states(after)) == ({"a": Phase.QUEUED}, {"a": Phase.WAITING})
    await check(world)
    await hand.restart()
    assert (await hand.take()).build == holder.build.id
    world.clock.advance(LEASE + 1)
    await world.expire()
    assert (await world.states(holder), await world.states(after)) == ({"a": Result.ERROR}, {"a": Phase.QUEUED})
    await check(world)


@pytest.mark.covers("blockers.locks.worker")
async def test_a_lock_of_the_worker_holds_a_job_up_there_and_not_on_another_worker(world: World) -> None:
    one, two = await world.hand("one"), await world.hand("two")
    spec = job("a")
    views = [await world.submit(type(spec)(name="a", steps=spec.steps, require=on_worker("port"))) for _ in range(3)]
    other = await world.submit(job("free"))
    (held,) = [grant for grant in await one.claim(9) if grant.spec.name == "a"]
    assert [grant.spec.name for grant in one.held.values()].count("free") == 1
    assert await one.claim(9) == []
    await check(world)
    (there,) = await two.claim(9)
    assert {held.build, there.build} < {view.build.id for view in views}
    waiting = (await world.jobs(views[2]))["a"]
    assert waiting.job.state.phase is Phase.QUEUED
    assert waiting.waits_for == "waits for a free place on a worker where the lock port is free"
    await two.finish(there)
    (third,) = await two.claim(9)
    world.clock.advance(LEASE + 1)
    await world.expire()
    await check(world)
    assert third.build == views[2].build.id
    one.held.clear()
    two.held.clear()
    while len(await one.run_all()) + len(await two.run_all()):
        pass
    assert {await world.result(view) for view in (*views, other)} == {Result.SUCCESS}


@pytest.mark.covers("blockers.locks.worker")
async def test_one_claim_takes_no_more_than_the_locks_of_the_worker_have_room_for(world: World) -> None:
    hand = await world.hand()
    spec = job("a")
    for labels in ((), ("x",)):
        for _ in range(5):
            require = Requirement(labels=labels, locks=(("gpu", 2),))
            await world.submit(type(spec)(name="a", steps=spec.steps, require=require))
    await hand.hello()
    assert len(await hand.claim(9)) == 2
    await check(world)


@pytest.mark.covers("blockers.two_servers")
async def test_jobs_that_end_are_cancelled_and_asked_for_at_once_never_exceed_a_lock(world: World) -> None:
    hands = [await world.hand(f"w{n}") for n in range(3)]
    x, y = LockSpec(name="x", most=2), LockSpec(name="y")

    async def finish_all(n: int) -> None:
        for grant in list(hands[n].held.values()):
            await hands[n].report(hands[n].started(grant), hands[n].finished(grant, Result.SUCCESS))
            hands[n].held.pop(grant.attempt, None)

    for _ in range(5):
        views = [
            await world.submit(job("a", locks=(x,)), job("b", locks=(x, y)), job("c", "a", locks=(y,)))
            for _ in range(4)
        ]
        await asyncio.gather(*(hand.claim(2) for hand in hands))
        await asyncio.gather(
            finish_all(0),
            finish_all(1),
            finish_all(2),
            world.cancel(views[1]),
            world.cancel(views[2]),
            hands[0].claim(1),
        )
        await check(world)
        for n in range(3):
            await finish_all(n)
        while sum([len(await hand.run_all()) for hand in hands]):
            pass
        assert None not in [await world.result(view) for view in views]
        await check(world)


@pytest.mark.covers("blockers.claims")
async def test_jobs_whose_worker_lock_is_taken_there_are_not_looked_at_by_its_claims(world: World) -> None:
    hand, other = await world.hand("one"), await world.hand("two")
    spec = job("held")
    view = await world.submit(
        *(type(spec)(name=f"held{n}", steps=spec.steps, require=on_worker("port")) for n in range(400))
    )
    await hand.take()
    has_work = await world.engine.read(leasing.has_work, WORKER, hand.session, 1, list(hand.held))
    elsewhere = await world.engine.read(leasing.has_work, WORKER, other.session, 1, [])
    assert (has_work, elsewhere) == (False, True)
    free = await world.submit(job("free"))
    (found,) = await hand.claim(5)
    assert found.build == free.build.id
    await world.cancel(view)
