"""Which lanes are served: global priority first, then whoever used least of his share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.fairness import NO_USAGE, Lane, Usage, pick
from buildyard.domain.ids import AccountId, LaneId, PipelineId, ProjectId, RequirementId


def lane(n: int, *, account: int = 0, queued: int = 1, priority: int = 0, shares: int = 1, pipeline: int = -1) -> Lane:
    which = n if pipeline < 0 else pipeline
    return Lane(
        id=LaneId(n),
        requirement=RequirementId(1),
        pipeline=PipelineId(which),
        project=ProjectId(which),
        account=AccountId(account),
        global_priority=priority,
        queued=queued,
        account_shares=shares,
    )


def flat(picks: list[tuple[LaneId, int]]) -> list[int]:
    """Lanes in the order in which they were chosen, one by one."""
    return [int(key) for key, count in picks for _ in range(count)]


lanes = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=12
).map(
    lambda rows: [
        lane(n, account=account, queued=queued, priority=priority, shares=account + 1)
        for n, (account, queued, priority, _) in enumerate(rows)
    ]
)
usages = st.dictionaries(st.integers(0, 3), st.floats(0, 1e6)).map(lambda used: Usage(used, {}, {}, {}))


@pytest.mark.covers("engine.claim.order")
@given(lanes=lanes, usage=usages, slots=st.integers(0, 60))
def test_picks_fill_the_slots_as_far_as_there_is_work_and_no_further(
    lanes: list[Lane], usage: Usage, slots: int
) -> None:
    chosen = flat(pick(lanes, usage, slots))
    assert len(chosen) == min(slots, sum(one.queued for one in lanes))
    assert all(chosen.count(one.id) <= one.queued for one in lanes)


@pytest.mark.covers("engine.claim.order")
@given(lanes=lanes, usage=usages, slots=st.integers(0, 60))
def test_a_higher_global_priority_always_goes_first(lanes: list[Lane], usage: Usage, slots: int) -> None:
    priority = {int(one.id): one.global_priority for one in lanes}
    order = [priority[key] for key in flat(pick(lanes, usage, slots))]
    assert order == sorted(order, reverse=True)


@pytest.mark.covers("engine.claim.fairness")
@given(used=st.lists(st.floats(0, 1e6), min_size=2, max_size=8, unique=True))
def test_who_used_least_is_served_first(used: list[float]) -> None:
    queue = [lane(n, account=n, queued=5) for n in range(len(used))]
    usage = Usage({AccountId(n): seconds for n, seconds in enumerate(used)}, {}, {}, {})
    (first, _), *_ = pick(queue, usage, 1)
    assert used[first] == min(used)


@pytest.mark.covers("engine.claim.fairness")
@given(length=st.integers(1, 1000), tenants=st.integers(2, 10), rounds=st.integers(1, 20))
def test_a_long_queue_gives_no_more_than_an_equal_part(length: int, tenants: int, rounds: int) -> None:
    queue = [lane(n, account=n, queued=rounds + (length if n == 0 else 0)) for n in range(tenants)]
    chosen = flat(pick(queue, NO_USAGE, tenants * rounds))
    assert [chosen.count(n) for n in range(tenants)] == [rounds] * tenants


@pytest.mark.covers("engine.claim.fairness")
def test_more_shares_give_more_places_and_dear_jobs_fewer() -> None:
    weighted = flat(pick([lane(0, account=0, queued=99, shares=3), lane(1, account=1, queued=99)], NO_USAGE, 40))
    assert (weighted.count(0), weighted.count(1)) == (30, 10)
    mean = {PipelineId(0): 9.0, PipelineId(1): 3.0}
    dear = flat(pick([lane(0, account=0, queued=99), lane(1, account=1, queued=99)], Usage({}, {}, {}, mean), 40))
    assert (dear.count(0), dear.count(1)) == (10, 30)


@pytest.mark.covers("engine.claim.fairness")
def test_inside_an_account_projects_share_alike_whatever_their_number_of_lanes() -> None:
    queue = [lane(0, pipeline=0, queued=99), *(lane(n, pipeline=1, queued=99) for n in range(1, 5))]
    chosen = flat(pick(queue, NO_USAGE, 20))
    assert chosen.count(0) == 10
