"""Graphs of jobs: who runs when, and what follows a failure."""

import pytest

from buildyard.domain.specs import JobSpec
from buildyard.domain.states import Phase, Result
from world import World, job, once


@pytest.mark.covers("engine.dag.ready")
async def test_a_job_is_leased_only_after_all_it_needs_succeeded(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"), job("c", "a", "b"), job("d", "c"))
    first = {grant.spec.name: grant for grant in await hand.claim(10)}
    assert set(first) == {"a", "b"}

    await hand.finish(first["a"])
    assert await hand.claim(10) == []
    await hand.finish(first["b"])
    (third,) = await hand.claim(10)
    assert third.spec.name == "c"
    assert (await world.states(view))["d"] is Phase.WAITING
    await hand.finish(third)
    assert await hand.run_all() == ["d"]
    assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("engine.dag.dependency_failed", "engine.dag.independent")
async def test_a_failure_spreads_along_chains_and_diamonds_while_other_branches_go_on(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(
        job("bad"),
        job("left", "bad"),
        job("right", "bad"),
        job("join", "left", "right"),
        job("after", "join"),
        job("good"),
        job("more", "good"),
        job("both", "more", "left"),
    )
    ran = await hand.run_all({"bad": Result.FAILURE})
    assert sorted(ran) == ["bad", "good", "more"]
    assert await world.states(view) == {
        "bad": Result.FAILURE,
        "left": Result.DEPENDENCY_FAILED,
        "right": Result.DEPENDENCY_FAILED,
        "join": Result.DEPENDENCY_FAILED,
        "after": Result.DEPENDENCY_FAILED,
        "good": Result.SUCCESS,
        "more": Result.SUCCESS,
        "both": Result.DEPENDENCY_FAILED,
    }
    assert await world.result(view) is Result.FAILURE
    assert (await world.jobs(view))["after"].job.state.detail == "bad did not succeed"


@pytest.mark.covers("engine.dag.dependency_failed")
async def test_a_job_with_two_failed_needs_ends_once(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"), job("c", "a", "b"))
    await hand.run_all({"a": Result.FAILURE, "b": Result.ERROR})
    assert (await world.states(view))["c"] is Result.DEPENDENCY_FAILED
    assert await world.result(view) is Result.ERROR


@pytest.mark.covers("engine.jobs.allow_failure")
async def test_the_failure_of_a_job_that_may_fail_counts_as_warnings_and_lets_its_dependants_run(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("shaky", allow_failure=True), job("next", "shaky"))
    assert await hand.run_all({"shaky": Result.FAILURE}) == ["shaky", "next"]
    assert (await world.states(view))["shaky"] is Result.FAILURE
    assert await world.result(view) is Result.WARNINGS


@pytest.mark.covers("engine.jobs.allow_failure")
async def test_a_job_that_may_fail_but_could_not_run_lets_nothing_run_after_it(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("bad"), job("shaky", "bad", allow_failure=True), job("last", "shaky"))
    assert await hand.run_all({"bad": Result.FAILURE}) == ["bad"]
    assert (await world.states(view))["last"] is Result.DEPENDENCY_FAILED
    assert await world.result(view) is Result.FAILURE


@pytest.mark.parametrize(
    ("results", "worst"),
    [
        ((Result.SUCCESS, Result.SKIPPED), Result.SUCCESS),
        ((Result.SUCCESS, Result.WARNINGS), Result.WARNINGS),
        ((Result.WARNINGS, Result.FAILURE), Result.FAILURE),
        ((Result.FAILURE, Result.TIMEOUT), Result.TIMEOUT),
        ((Result.TIMEOUT, Result.ERROR), Result.ERROR),
        ((Result.ERROR, Result.CANCELLED), Result.CANCELLED),
    ],
)
@pytest.mark.covers("engine.states.rollup")
async def test_a_build_ends_as_badly_as_its_worst_job(
    world: World, results: tuple[Result, Result], worst: Result
) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b"))
    await hand.run_all(dict(zip("ab", results, strict=True)))
    assert await world.result(view) is worst


@pytest.mark.covers("engine.jobs.retry")
async def test_a_job_is_tried_again_as_often_and_after_those_results_as_its_rule_says(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("flaky", retry=once(Result.FAILURE, count=2)), job("next", "flaky"))
    for number in (1, 2):
        grant = await hand.take()
        assert grant.number == number
        await hand.finish(grant, Result.FAILURE)
        assert (await world.states(view))["flaky"] is Phase.QUEUED
    await hand.finish(await hand.take())
    assert await hand.run_all() == ["next"]
    assert await world.result(view) is Result.SUCCESS
    tries = (await world.jobs(view))["flaky"].attempts
    assert [one.attempt.state.result for one in tries] == [Result.FAILURE, Result.FAILURE, Result.SUCCESS]


@pytest.mark.covers("engine.jobs.retry")
async def test_a_result_that_the_rule_does_not_name_and_a_used_up_rule_end_the_job(world: World) -> None:
    hand = await world.hand()
    other = await world.submit(job("a", retry=once(Result.ERROR)))
    used_up = await world.submit(job("b", retry=once(Result.FAILURE)))
    assert sorted(await hand.run_all({"a": Result.FAILURE, "b": Result.FAILURE})) == ["a", "b", "b"]
    assert await world.result(other) is Result.FAILURE
    assert await world.result(used_up) is Result.FAILURE


@pytest.mark.covers("engine.dag.large")
async def test_a_graph_of_a_thousand_jobs_runs_in_order(world: World) -> None:
    layers = 10
    jobs: list[JobSpec] = []
    for layer in range(layers):
        for n in range(100):
            needs = () if layer == 0 else tuple(f"{layer - 1}-{(n + k) % 100}" for k in range(3))
            jobs.append(job(f"{layer}-{n}", *needs))
    hand = await world.hand()
    view = await world.submit(*jobs)
    done: set[str] = set()
    while grants := await hand.claim(200):
        assert all(set(grant.spec.needs) <= done for grant in grants)
        for grant in grants:
            await hand.report(hand.started(grant), hand.finished(grant))
            hand.held.pop(grant.attempt)
            done.add(grant.spec.name)
    assert len(done) == 1000
    assert await world.result(view) is Result.SUCCESS
