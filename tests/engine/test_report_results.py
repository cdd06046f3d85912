"""Results of tests and metrics in the database: taken in, asked for, replaced by a later attempt, removed."""

import pytest
from sqlalchemy import func, select

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Invalid, NotFound
from buildyard.domain.retention import Bounds, What
from buildyard.domain.states import Result
from buildyard.engine import garbage, reports, retention
from buildyard.protocol import Finished, JobGrant, MetricValue, ReportedTest, ReportedTests
from buildyard.store.statements import Statement
from buildyard.store.tables import metadata
from buildyard.store.transactions import Transaction
from world import Hand, World, job, once

KEPT = ("test_result_sets", "test_results", "metrics")


def report_of(*statuses: str, name: str = "junit.xml") -> ReportedTests:
    """A report of tests that ended so."""
    cases = [ReportedTest(name=f"test{n}", value=value, message="why") for n, value in enumerate(statuses)]
    failed = sum(value in ("failed", "error") for value in statuses)
    return ReportedTests(
        description=name,
        passed=statuses.count("passed"),
        failed=failed,
        skipped=statuses.count("skipped"),
        cases=cases,
    )


async def end(
    hand: Hand, grant: JobGrant, *sets: ReportedTests, result: Result = Result.SUCCESS, **metrics: float
) -> None:
    """Report the end of an attempt with these reports."""
    measured = [MetricValue(name=name, value=value, unit="u") for name, value in metrics.items()]
    end = Finished(attempt=grant.attempt, token=grant.token, result=result, tests=list(sets), metrics=measured)
    acks = await hand.report(hand.started(grant), hand.step_started(grant, 1), end)
    assert {ack.answer.name for ack in acks} == {"DONE"}
    hand.held.clear()


async def counted(world: World) -> dict[str, int]:
    """How many rows there are."""

    async def count(tx: Transaction, _actor: Actor) -> dict[str, int]:
        found = {}
        for name in KEPT:
            rows = await tx.fetch(Statement(select(func.count()).select_from(metadata.tables[name])))
            found[name] = rows[0][0]
        return found

    return await world.engine.read(count, SYSTEM)


@pytest.mark.covers("engine.reports")
async def test_tests_are_listed_the_worst_first_page_by_page_and_by_status(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"))
    statuses = ["passed", "failed", "skipped", "passed", "error", "failed"]
    await end(hand, await hand.take(), report_of(*statuses), report_of("passed", name="more.xml"))

    whole: list[str] = []
    cursor = ""
    while True:
        page = await world.engine.read(reports.list_tests, world.owner, view.build.uid, cursor=cursor, limit=3)
        whole += [one.value for one in page.results]
        if not (cursor := page.next):
            break
    assert whole == ["error", "failed", "failed", "skipped", "passed", "passed", "passed"]
    assert [(one.description, one.passed, one.failed, one.skipped) for one in page.sets] == [
        ("junit.xml", 2, 3, 1),
        ("more.xml", 1, 0, 0),
    ]
    failed = await world.engine.read(reports.list_tests, world.owner, view.build.uid, status="failed")
    assert [one.name for one in failed.results] == ["test1", "test5"]
    for wrong in ({"status": "bad"}, {"cursor": "bad:1"}, {"cursor": "failed:x"}):
        with pytest.raises(Invalid):
            await world.engine.read(reports.list_tests, world.owner, view.build.uid, **wrong)
    with pytest.raises(NotFound):
        await world.engine.read(reports.list_tests, await world.user("eve"), view.build.uid)


@pytest.mark.covers("engine.reports")
async def test_a_metric_is_read_over_the_builds_of_its_pipeline(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(job("a"))
    views = []
    for value in (1.5, 2.5, 3.5):
        views.append(await world.submit(pipeline=pipeline))
        await end(hand, await hand.take(), size=value, other=1.0)

    async def history(before: int = 0, limit: int = 2) -> list[reports.Metric]:
        return await world.engine.read(
            reports.read_history, world.owner, world.project.uid, pipeline.slug, "size", before=before, limit=limit
        )

    newest = await history()
    assert [(one.number, one.value, one.job, one.unit) for one in newest] == [(3, 3.5, "a", "u"), (2, 2.5, "a", "u")]
    assert [one.value for one in await history(newest[-1].id)] == [1.5]
    of_build = await world.engine.read(reports.list_metrics, world.owner, views[0].build.uid)
    assert [(one.name, one.value) for one in of_build] == [("other", 1.0), ("size", 1.5)]
    with pytest.raises(NotFound):
        await world.engine.read(reports.read_history, world.owner, world.project.uid, "nope", "size")


@pytest.mark.covers("engine.reports")
async def test_what_a_later_attempt_reports_takes_the_place_of_what_an_earlier_one_did(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a", retry=once(Result.FAILURE)), job("b"))
    grants = {grant.spec.name: grant for grant in await hand.claim(2)}
    await end(hand, grants["b"], report_of("passed"), kept=1.0)
    await end(hand, grants["a"], report_of("failed", "failed"), result=Result.FAILURE, size=1.0, gone=1.0)
    assert (await counted(world))["test_results"] == 3

    await end(hand, await hand.take(), report_of("passed"), size=2.0)

    assert await counted(world) == {"test_result_sets": 2, "test_results": 2, "metrics": 2}
    found = await world.engine.read(reports.list_tests, world.owner, view.build.uid)
    assert {one.value for one in found.results} == {"passed"}


@pytest.mark.covers("engine.reports.safe")
async def test_a_worker_that_tells_nonsense_does_no_harm(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"))
    nonsense = ReportedTests(
        description="d\0" + "x" * 1000,
        passed=-5,
        failed=2**60,
        skipped=0,
        cases=[
            ReportedTest(name="\0n" * 1000, value="failed", line=-1, duration_ns=2**63, message="m" * 10**5),
            ReportedTest(name="x", value="exploded"),
            *[ReportedTest(name="many", value="passed")] * 6000,
        ],
    )
    await end(hand, await hand.take(), nonsense, fine=1.0, infinite=float("inf"), none=float("nan"))

    found = await world.engine.read(reports.list_tests, world.owner, view.build.uid, limit=1)
    (first,) = found.results
    assert (found.sets[0].passed, found.sets[0].failed) == (0, 2**31 - 1)
    assert (first.line, len(first.message), "\0" in first.name) == (0, 2000, False)
    assert (await counted(world))["test_results"] <= 5000
    assert [one.name for one in await world.engine.read(reports.list_metrics, world.owner, view.build.uid)] == ["fine"]


@pytest.mark.covers("engine.reports", "engine.retention")
async def test_results_and_metrics_go_with_their_build(world: World) -> None:
    hand, pipeline = await world.hand(), await world.define(job("a"))
    for _ in range(2):
        await world.submit(pipeline=pipeline)
        await end(hand, await hand.take(), report_of(*["passed"] * 400), size=1.0)
    world.clock.advance(3600)
    rule = (world.project.uid, "", What.BUILDS, Bounds(count=1))
    await world.engine.run(retention.set_rule, world.owner, *rule)
    await garbage.carry_out_rules(world.engine)
    assert await counted(world) == {"test_result_sets": 1, "test_results": 400, "metrics": 1}
