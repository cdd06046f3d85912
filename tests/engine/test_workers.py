"""Workers that people pause, drain and remove."""

import asyncio

import pytest

from buildyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from buildyard.domain.states import Phase, Result
from buildyard.engine import audit, workers
from buildyard.engine.workers import WorkerView
from buildyard.protocol import Answer
from world import Hand, World, job


async def seen(world: World, name: str = "w1") -> WorkerView:
    """A worker as the list shows it."""
    (found,) = [
        view for view in await world.engine.read(workers.list_workers, world.administrator) if view.worker.name == name
    ]
    return found


async def acts(world: World) -> list[tuple[str, str, str]]:
    """What the audit log says was done to workers, oldest first."""
    entries, _ = await world.engine.read(
        audit.list_audit, world.administrator, project_uid=None, action=None, limit=50, offset=0
    )
    return [(one.action, one.resource_id, one.reason) for one in reversed(entries) if one.resource == "worker"]


async def pause(world: World, reason: str = "") -> WorkerView:
    return await world.engine.run(workers.pause_worker, world.administrator, "w1", reason=reason)


async def drain(world: World, reason: str = "") -> WorkerView:
    return await world.engine.run(workers.drain_worker, world.administrator, "w1", reason=reason)


async def resume(world: World) -> WorkerView:
    return await world.engine.run(workers.resume_worker, world.administrator, "w1")


async def remove(world: World, *, force: bool = False) -> int:
    gone = await workers.remove_worker(world.engine, world.administrator, "w1", force=force, reason="old")
    return len(gone.lost)


@pytest.mark.covers("worker.pause")
async def test_a_paused_worker_goes_on_with_what_it_has_and_takes_nothing(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"))
    first = await hand.take()

    await pause(world, "new disk")

    assert await hand.claim() == []
    assert (await hand.beat()).paused
    await hand.finish(first)
    assert await hand.claim() == []
    shown = (await seen(world)).worker
    assert (shown.paused, shown.pause_reason) == (True, "new disk")
    await resume(world)
    assert not (await hand.beat()).paused
    assert len(await hand.run_all()) == 1
    assert await world.result(view) is Result.SUCCESS
    assert await acts(world) == [("worker.pause", "w1", "new disk"), ("worker.resume", "w1", "")]


@pytest.mark.covers("worker.pause")
async def test_to_pause_again_changes_nothing_and_is_not_told_again(world: World) -> None:
    await world.hand()

    assert await pause(world, "why") == await pause(world, "why")

    assert await acts(world) == [("worker.pause", "w1", "why")]


@pytest.mark.covers("worker.pause")
async def test_a_worker_stays_paused_when_it_is_started_anew(world: World) -> None:
    hand = await world.hand()
    await pause(world)
    await world.submit(job("a"))

    await hand.restart()

    assert await hand.claim() == []
    await resume(world)
    assert await hand.run_all() == ["a"]


@pytest.mark.covers("worker.pause")
async def test_an_open_poll_hears_at_once_of_the_end_of_a_pause_and_of_a_drain(world: World) -> None:
    hand = await world.hand()
    await pause(world)
    await world.submit(job("a"))
    waiting = asyncio.create_task(hand.poll(wait=60))
    await asyncio.sleep(0)
    await resume(world)
    async with asyncio.timeout(30):
        (grant,) = (await waiting).jobs
    await hand.finish(grant)

    waiting = asyncio.create_task(hand.poll(wait=60))
    await asyncio.sleep(0)
    await drain(world)
    async with asyncio.timeout(30):
        assert (await waiting).draining


@pytest.mark.covers("worker.drained")
async def test_a_draining_worker_finishes_leaves_and_is_paused_when_it_comes_back(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"))
    first = await hand.take()

    assert (await drain(world, "kernel")).held == 1

    beat = await hand.beat()
    assert (beat.draining, beat.drop) == (True, [])
    assert await hand.claim() == []
    await hand.finish(first)
    await hand.leave()
    shown = (await seen(world)).worker
    assert (shown.connected, shown.draining, shown.paused, shown.pause_reason) == (False, False, True, "kernel")
    with pytest.raises(NotFound):
        await hand.poll()
    await hand.restart()
    assert await hand.claim() == []
    assert not (await hand.beat()).draining
    await resume(world)
    assert len(await hand.run_all()) == 1
    assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("worker.drained")
async def test_a_worker_that_died_while_draining_is_paused_when_it_comes_back(world: World) -> None:
    hand = await world.hand()
    await drain(world)

    await hand.restart()

    shown = (await seen(world)).worker
    assert (shown.connected, shown.draining, shown.paused) == (True, False, True)


@pytest.mark.covers("worker.drained")
async def test_a_drain_can_be_taken_back_before_the_worker_has_left(world: World) -> None:
    hand = await world.hand()
    await drain(world)
    await world.submit(job("a"))
    await resume(world)

    assert not (await hand.beat()).draining
    assert await hand.run_all() == ["a"]


@pytest.mark.covers("worker.drained")
async def test_to_drain_a_worker_that_is_gone_pauses_it(world: World) -> None:
    hand = await world.hand()
    await hand.leave()

    shown = (await drain(world)).worker

    assert (shown.draining, shown.paused) == (False, True)


@pytest.mark.covers("worker.drain")
async def test_what_a_leaving_worker_was_given_and_never_got_is_tried_elsewhere_at_once(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("got"), job("not got"))
    got, missed = await hand.claim(2)
    del hand.held[missed.attempt]

    await hand.leave()

    states = {name: [one.attempt.state for one in each.attempts] for name, each in (await world.jobs(view)).items()}
    assert [state.lost for state in states[got.spec.name]] == [False]
    assert [(state.lost, state.detail) for state in states[missed.spec.name]] == [
        (True, "its worker ended before it heard of it")
    ]
    other = await world.hand("w2")
    assert await other.run_all() == [missed.spec.name]


@pytest.mark.covers("worker.removed")
async def test_a_worker_that_is_there_is_removed_by_force_only_and_what_it_ran_is_tried_elsewhere(
    world: World,
) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"))
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 1), hand.output(grant, 1, b"half"))
    with pytest.raises(Conflict, match="holds 1 jobs"):
        await remove(world)

    assert await remove(world, force=True) == 1

    (only,) = (await world.jobs(view)).values()
    assert (only.job.state.phase, only.attempts[0].attempt.state.lost) == (Phase.QUEUED, True)
    assert only.attempts[0].attempt.state.detail == "its worker was removed"
    assert only.attempts[0].logs[1].sealed_at is not None
    assert [ack.answer for ack in await hand.report(hand.finished(grant))] == [Answer.STALE]
    for refused in (hand.poll, hand.beat, hand.hello):
        with pytest.raises(Forbidden, match="was removed"):
            await refused()
    assert await world.engine.read(workers.list_workers, world.administrator) == []
    other = await world.hand("w2")
    assert await other.run_all() == ["a"]
    assert await acts(world) == [("worker.remove", "w1", "old")]


@pytest.mark.covers("worker.removed")
async def test_a_worker_that_is_gone_is_removed_and_a_new_process_brings_it_back(world: World) -> None:
    hand = await world.hand()
    with pytest.raises(Conflict, match="is connected"):
        await remove(world)
    await hand.leave()

    assert await remove(world) == 0

    with pytest.raises(NotFound):
        await remove(world)
    await world.submit(job("a"))
    await hand.restart()
    assert (await seen(world)).worker.connected
    assert await hand.run_all() == ["a"]


async def test_who_works_is_shown_to_who_signed_in_and_where_to_administrators(world: World) -> None:
    await world.hand(labels=["linux"])

    for actor, with_place in ((world.owner, False), (world.administrator, True)):
        (view,) = await world.engine.read(workers.list_workers, actor)
        assert (view.worker.name, view.held, view.with_place) == ("w1", 0, with_place)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\nb", "x" * 101])
async def test_a_worker_needs_a_name_that_can_be_typed(world: World, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        await Hand(world, name).hello()
