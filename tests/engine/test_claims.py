"""Who gets which job: fit, priority, fair shares, and what a claim costs."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from buildyard.domain.access import SYSTEM, Visibility
from buildyard.domain.specs import Requirement
from buildyard.domain.states import Phase
from buildyard.engine import leasing, projects
from buildyard.engine.builds import Submission, submit_build
from buildyard.engine.usage import compute_usage
from buildyard.store.statements import Statement
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, WORKER, Hand, World, job

LEASE = 30.0


async def claim_counted(world: World, hand: Hand, free: int) -> tuple[int, Counter[Statement]]:
    """Claim with a fresh look at the usage; how many jobs came, and how often each statement ran."""
    usage = await world.engine.read(compute_usage, SYSTEM)
    ran: Counter[Statement] = Counter()

    class Counting:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            method = getattr(self.inner, name)

            async def counted(statement: Any, *values: Any) -> Any:
                if isinstance(statement, Statement):
                    ran[statement] += 1
                return await method(statement, *values)

            return counted

    async def body(tx: Transaction) -> int:
        tx._connection = Counting(tx._connection)
        grants = await leasing.claim_jobs(tx, WORKER, hand.session, free, list(hand.held), usage=usage, lease=LEASE)
        hand.held |= {grant.attempt: grant for grant in grants}
        return len(grants)

    return await world.engine.database.run(body), ran


@pytest.mark.covers("engine.jobs.labels")
async def test_a_job_runs_only_where_all_it_requires_is_there(world: World) -> None:
    plain, gpu = await world.hand("plain", labels=["linux"]), await world.hand("gpu", labels=["linux", "gpu"])
    await world.submit(job("needs-gpu", labels=["gpu", "linux"]))
    arm = job("arm")
    await world.submit(replace(arm, require=Requirement(system="aarch64-linux")))
    await world.submit(replace(arm, require=Requirement(executor="sandbox")))
    assert await plain.claim(5) == []
    (grant,) = await gpu.claim(5)
    await gpu.finish(grant)


@pytest.mark.covers("engine.jobs.priority")
async def test_inside_a_pipeline_priority_then_dependants_then_age_decide(world: World) -> None:
    hand = await world.hand()
    pipeline = await world.define(
        job("old"),
        job("wanted", priority=5),
        job("needed"),
        job("x", "needed"),
        job("y", "x"),
        job("also-needed"),
        job("z", "also-needed"),
    )
    await world.submit(pipeline=pipeline)
    order = [(await hand.take()).spec.name for _ in range(4)]
    assert order == ["wanted", "needed", "also-needed", "old"]


@pytest.mark.covers("engine.jobs.priority")
async def test_a_build_of_higher_priority_goes_first_in_its_pipeline(world: World) -> None:
    hand = await world.hand()
    pipeline = await world.define(job("a"))
    await world.submit(pipeline=pipeline)
    urgent = await world.submit(pipeline=pipeline, priority=10)
    assert (await hand.take()).build == urgent.build.id


@pytest.mark.covers("engine.claim.fairness", "engine.claim.order")
async def test_ten_tenants_share_alike_though_one_has_a_thousand_jobs(world: World) -> None:
    hand = await world.hand()
    pipelines = []
    for n in range(10):
        owner = await world.user(f"tenant{n}")
        project = await world.engine.run(
            projects.create_project, owner, f"tenant{n}", f"project{n}", visibility=Visibility.PRIVATE
        )
        count = 1000 if n == 0 else 20
        pipeline = await world.define(*(job(f"j{k}") for k in range(count)), project=project, by=owner)
        await world.engine.run(
            submit_build,
            owner,
            project.uid,
            pipeline.uid,
            Submission(priority=1000 * (n == 0)),
            queue_limit=QUEUE_LIMIT,
        )
        pipelines.append(project.slug)
    taken: Counter[str] = Counter()
    for _ in range(10):
        usage = await world.engine.read(compute_usage, SYSTEM)
        grants = await world.engine.run(
            leasing.claim_jobs, WORKER, hand.session, 10, list(hand.held), usage=usage, lease=LEASE
        )
        world.clock.advance(1)
        for grant in grants:
            taken[grant.project] += 1
            hand.held[grant.attempt] = grant
            await hand.finish(grant)
    assert taken == Counter(dict.fromkeys(pipelines, 10))


@pytest.mark.covers("engine.claim.constant")
async def test_a_claim_runs_the_same_statements_whatever_the_length_of_the_queue(world: World) -> None:
    hand = await world.hand()
    pipeline = await world.define(job("a"))
    for _ in range(3):
        await world.submit(pipeline=pipeline)
    few, statements = await claim_counted(world, hand, 1)
    long = await world.define(*(job(f"j{n}") for n in range(500)))
    await world.submit(pipeline=long)
    many, same_statements = await claim_counted(world, hand, 1)
    assert (few, many) == (1, 1)
    assert statements == same_statements


async def test_a_claim_fetches_only_as_many_jobs_as_it_gives(world: World) -> None:
    hand = await world.hand()
    await world.submit(*(job(f"j{n}") for n in range(50)))
    given, _ = await claim_counted(world, hand, 7)
    assert given == 7


@pytest.mark.covers("engine.claim.once")
async def test_workers_that_claim_at_once_never_get_the_same_job(world: World) -> None:
    hands = [await world.hand(f"w{n}") for n in range(8)]
    views = [await world.submit(*(job(f"j{n}") for n in range(20))) for _ in range(3)]
    rounds = await asyncio.gather(*(hand.claim(5) for hand in hands for _ in range(1)))
    rounds += await asyncio.gather(*(hand.claim(5) for hand in hands))
    grants = [grant for grants in rounds for grant in grants]
    assert len({grant.job for grant in grants}) == len(grants)
    await asyncio.gather(*(hand.run_all() for hand in hands))
    for hand in hands:
        for grant in list(hand.held.values()):
            await hand.finish(grant)
    for view in views:
        assert set((await world.states(view)).values()) <= {Phase.FINISHED, 1}


async def test_a_waiting_claim_gets_a_job_as_soon_as_it_is_queued(world: World) -> None:
    hand = await world.hand()
    waiting = asyncio.create_task(hand.poll(1, wait=30))
    await asyncio.sleep(0)
    await world.submit(job("a"))
    async with asyncio.timeout(20):
        (grant,) = (await waiting).jobs
    await hand.finish(grant)


async def test_a_claim_without_work_ends_when_its_time_is_over(world: World) -> None:
    hand = await world.hand()
    claimed = await hand.poll(1, wait=0.01)
    assert (claimed.jobs, claimed.cancel) == ([], [])
