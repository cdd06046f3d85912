"""A job that has not begun says what it waits for."""

from dataclasses import replace

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.domain.labels import feature_label
from buildyard.domain.specs import Requirement
from buildyard.domain.states import Cause, Phase, Result
from buildyard.engine import workers
from buildyard.engine.fitting import end_unsupported
from world import WORKER, Hand, World, job


async def _waits(world: World, view: object) -> dict[str, str]:
    return {name: found.waits_for for name, found in (await world.jobs(view)).items()}  # type: ignore[arg-type]


@pytest.mark.covers("engine.jobs.unsupported")
async def test_a_job_that_no_worker_can_run_says_what_is_lacking(world: World) -> None:
    view = await world.submit(job("a", labels=["gpu"]), job("b", "a"), job("c"))
    assert (await _waits(world, view))["a"] == "waits for a worker: none is connected"

    hand = await world.hand(labels=["cpu"])
    assert await _waits(world, view) == {
        "a": "waits for a worker with label gpu: none that is known has all of it",
        "b": "waits for a",
        "c": "waits for a free place on a worker",
    }

    await hand.finish(await hand.take())
    other = await world.hand("w2", labels=["gpu"])
    assert (await _waits(world, view))["a"] == "waits for a free place on a worker"
    for _ in range(2):
        await other.finish(await other.take())


@pytest.mark.covers("engine.jobs.unsupported", "worker.features")
async def test_each_thing_that_is_lacking_is_named(world: World) -> None:
    await world.hand(labels=["linux"])
    wanted = Requirement(labels=("linux", feature_label("kvm")), executor="container", system="aarch64-linux")
    view = await world.submit(replace(job("a"), require=wanted))

    words = "waits for a worker with label linux, feature kvm, executor container, system aarch64-linux"
    assert (await _waits(world, view))["a"] == f"{words}: none that is known has all of it"


@pytest.mark.covers("worker.features")
async def test_a_job_runs_where_the_features_are_that_it_requires(world: World) -> None:
    plain, with_kvm = await world.hand("plain"), await world.hand("kvm", labels=[feature_label("kvm")])
    await world.submit(job("a", labels=[feature_label("kvm")]))

    assert await plain.claim() == []
    await with_kvm.finish(await with_kvm.take())


@pytest.mark.covers("engine.jobs.unsupported")
async def test_a_job_says_which_workers_could_run_it_but_do_not(world: World) -> None:
    gpu = await world.hand("gpu", labels=["gpu"])
    await world.hand("cpu")
    view = await world.submit(job("a", labels=["gpu"]))
    await world.engine.run(workers.pause_worker, world.administrator, "gpu", reason="")
    assert (await _waits(world, view))["a"] == "waits for worker gpu (paused)"
    await world.engine.run(workers.drain_worker, world.administrator, "gpu", reason="")
    assert (await _waits(world, view))["a"] == "waits for worker gpu (draining)"
    await gpu.leave()
    assert (await _waits(world, view))["a"] == "waits for worker gpu (not connected)"
    await workers.remove_worker(world.engine, world.administrator, "gpu", force=False, reason="")
    assert (await _waits(world, view))["a"] == "waits for a worker with label gpu: none that is known has all of it"


@pytest.mark.covers("engine.jobs.unsupported", "worker.token")
async def test_a_worker_of_another_project_is_none_to_wait_for(world: World) -> None:
    other = await world.other_project()
    await Hand(world, "w1", actor=replace(WORKER, only_project=other.id)).hello()
    view = await world.submit(job("a"))

    words = "waits for a worker that may have this project's jobs: none that is known has all of it"
    assert (await _waits(world, view))["a"] == words


@pytest.mark.covers("engine.jobs.unsupported")
async def test_where_it_is_wished_a_job_that_nobody_can_run_ends_as_unsupported_after_its_time(world: World) -> None:
    engine = replace(world.engine, policy=replace(world.engine.policy, unsupported_seconds=60.0))
    await world.hand()
    view = await world.submit(job("a", labels=["gpu"]), job("b", "a"), job("c"), job("d", labels=["gpu"]))
    world.clock.advance(59)
    assert await end_unsupported(engine) == 0
    world.clock.advance(2)
    assert await end_unsupported(world.engine) == 0, "unless it is wished they wait for ever"

    assert await end_unsupported(engine) == 2

    found = await world.jobs(view)
    for name in ("a", "d"):
        state = found[name].job.state
        assert (state.result, state.cause) == (Result.ERROR, Cause.UNSUPPORTED)
        assert state.detail == "no worker with label gpu is known"
    assert await world.states(view) == {
        "a": Result.ERROR,
        "b": Result.DEPENDENCY_FAILED,
        "c": Phase.QUEUED,
        "d": Result.ERROR,
    }
    assert await end_unsupported(engine) == 0


@pytest.mark.covers("engine.jobs.unsupported")
async def test_a_worker_that_is_away_is_known_until_it_is_removed(world: World) -> None:
    engine = replace(world.engine, policy=replace(world.engine.policy, unsupported_seconds=60.0))
    hand = await world.hand("gpu", labels=["gpu"])
    view = await world.submit(job("a", labels=["gpu"]))
    await hand.leave()
    world.clock.advance(3600)
    assert await end_unsupported(engine) == 0

    await engine.run(workers.forget_worker, SYSTEM, "gpu", force=False, reason="")

    assert await end_unsupported(engine) == 1
    assert await world.result(view) is Result.ERROR
