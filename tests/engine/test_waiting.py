"""A job that has not begun says what it waits for."""

import pytest

from world import World, job


async def _waits(world: World, view: object) -> dict[str, str]:
    return {name: found.waits_for for name, found in (await world.jobs(view)).items()}  # type: ignore[arg-type]


@pytest.mark.covers("engine.jobs.unsupported")
async def test_a_job_that_no_worker_can_run_says_what_is_lacking(world: World) -> None:
    view = await world.submit(job("a", labels=["gpu"]), job("b", "a"), job("c"))
    assert (await _waits(world, view))["a"] == "waits for a worker: none is connected"

    hand = await world.hand(labels=["cpu"])
    assert await _waits(world, view) == {
        "a": "waits for a worker with label gpu: none that is connected has all of it",
        "b": "waits for a",
        "c": "waits for a free place on a worker",
    }

    await hand.finish(await hand.take())
    other = await world.hand("w2", labels=["gpu"])
    assert (await _waits(world, view))["a"] == "waits for a free place on a worker"
    for _ in range(2):
        await other.finish(await other.take())
