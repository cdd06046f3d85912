"""Ten tenants on one server: what one of them queues does not change how long the others wait."""

from collections import Counter
from dataclasses import dataclass

import pytest
from sqlalchemy import insert, literal, select, update

from buildyard.domain.access import SYSTEM, Actor, Visibility
from buildyard.engine import projects
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from buildyard.store.sqlite import SqliteDatabase
from buildyard.store.statements import Statement, given
from buildyard.store.tables import accounts, build_jobs, builds, jobs, lanes
from buildyard.store.transactions import Transaction
from world import Hand, World, job

SHIFTED = {"id": jobs.c.id + given("shift"), "uid": jobs.c.uid + literal("+") + given("mark")}
DOUBLE = Statement(
    insert(jobs).from_select(
        [column.name for column in jobs.c],
        select(*(SHIFTED.get(column.name, column) for column in jobs.c))
        .where(jobs.c.build == given("of"))
        .order_by(jobs.c.id),
    )
)
DOUBLE_BUILD = Statement(
    insert(build_jobs).from_select(
        ["build", "job"],
        select(jobs.c.build, jobs.c.id).where(jobs.c.build == given("of"), jobs.c.id >= given("since")),
    )
)
GROW = Statement(
    update(builds)
    .where(builds.c.id == given("of"))
    .values(jobs_total=builds.c.jobs_total * 2, jobs_left=builds.c.jobs_left * 2)
)
GROW_LANE = Statement(
    update(lanes)
    .where(lanes.c.id.in_(select(jobs.c.lane).where(jobs.c.build == given("of"))))
    .values(queued=lanes.c.queued * 2)
)
FIRST = Statement(select(jobs.c.id).where(jobs.c.build == given("of")).order_by(jobs.c.id).limit(1))
SHARES = Statement(update(accounts).where(accounts.c.name == given("called")).values(shares=given("many")))


async def double(tx: Transaction, _actor: Actor, view: BuildView, count: int) -> None:
    """Have a build of `count` queued jobs have twice as many, as a far larger one would."""
    keys = await tx.allocate("jobs", count)
    assert keys == list(range(keys[0], keys[0] + count))
    row = await tx.fetch_one(FIRST, of=view.build.id)
    assert row is not None
    await tx.execute(DOUBLE, of=view.build.id, shift=keys[0] - row[0], mark=str(keys[0]))
    await tx.execute(DOUBLE_BUILD, of=view.build.id, since=keys[0])
    await tx.execute(GROW, of=view.build.id)
    await tx.execute(GROW_LANE, of=view.build.id)


@dataclass
class Tenant:
    """Somebody with an account, a project and a pipeline of one job."""

    world: World
    pipeline: Pipeline
    slug: str


async def tenant(world: World, name: str, jobs: int = 1) -> Tenant:
    """A new one, whose pipeline has so many jobs."""
    owner = await world.user(name)
    project = await world.engine.run(projects.create_project, owner, name, f"of-{name}", visibility=Visibility.PRIVATE)
    pipeline = await world.define(*(job(f"j{n}") for n in range(jobs)), project=project, by=owner)
    return Tenant(world, pipeline, project.slug)


async def waits(world: World, hand: Hand, group: str, start: int, doublings: int) -> list[int]:
    """How many claims are served before each job of nine tenants, while the tenth has start * 2 ** doublings queued.

    The nine hand in one job after the other, each when two more claims were served; a job takes a second.
    """
    greedy = await tenant(world, f"{group}-greedy", start)
    others = [await tenant(world, f"{group}-{n}") for n in range(9)]
    view = await world.submit(pipeline=greedy.pipeline)
    for n in range(doublings):
        await world.engine.run(double, SYSTEM, view, start * 2**n)
    since: dict[str, int] = {}
    served: dict[str, int] = {}
    for turn in range(40):
        if turn % 2 == 1 and turn // 2 < len(others):
            other = others[turn // 2]
            await world.submit(pipeline=other.pipeline)
            since[other.slug] = turn
        grant = await hand.take()
        if grant.project in since:
            served[grant.project] = turn - since[grant.project]
        world.clock.advance(1)
        await hand.finish(grant)
    assert len(served) == 9, "all were served"
    return [served[other.slug] for other in others]


@pytest.mark.covers("engine.claim.tenants", "engine.claim.fairness")
async def test_what_one_of_ten_tenants_queues_does_not_change_how_long_the_others_wait(world: World) -> None:
    hand = await world.hand()

    few = await waits(world, hand, "few", 100, 0)
    await hand.run_all()
    doublings = 7 if isinstance(world.engine.database, SqliteDatabase) else 4  # PostgreSQL makes them too slowly
    many = await waits(world, hand, "many", 1000, doublings)

    assert few == many
    assert max(many) <= 1, "who has used nothing is served next"


@pytest.mark.covers("engine.claim.tenants")
async def test_between_two_looks_at_the_usage_nobody_is_given_all_that_is_claimed(world: World) -> None:
    hand = await world.hand()
    for name in ("one", "two", "three", "four"):
        await world.submit(pipeline=(await tenant(world, name, 20)).pipeline)

    taken = [(await hand.take()).project for _ in range(16)]

    assert all(set(taken[n : n + 4]) == {"of-one", "of-two", "of-three", "of-four"} for n in range(0, 16, 4))


@pytest.mark.covers("engine.claim.tenants")
async def test_who_has_three_shares_gets_three_times_as_much_as_who_has_one(world: World) -> None:
    hand = await world.hand()
    for name, shares in (("small", 1), ("large", 3)):
        await world.submit(pipeline=(await tenant(world, name, 60)).pipeline)

        async def give(tx: Transaction, _actor: Actor, name: str = name, shares: int = shares) -> None:
            await tx.execute(SHARES, called=name, many=shares)

        await world.engine.run(give, SYSTEM)

    taken: Counter[str] = Counter()
    for _ in range(40):
        grant = await hand.take()
        taken[grant.project] += 1
        world.clock.advance(1)
        await hand.finish(grant)

    assert taken == {"of-large": 30, "of-small": 10}
