"""Whether a worker fits what a job asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.labels import Offer, fits, requirement_key, requirement_of
from buildyard.domain.specs import Requirement

labels = st.lists(st.sampled_from(["a", "b", "c"]), max_size=4).map(tuple)
requirements = st.builds(
    Requirement,
    labels=labels,
    executor=st.sampled_from(["", "process", "sandbox"]),
    system=st.sampled_from(["", "x86_64-linux", "aarch64-linux"]),
)

pytestmark = pytest.mark.covers("engine.jobs.labels")


@given(
    requirement=requirements,
    offered=st.sets(st.sampled_from(["a", "b", "c"])),
    executors=st.sets(st.sampled_from(["process", "sandbox"])),
    system=st.sampled_from(["x86_64-linux", "aarch64-linux"]),
)
def test_a_worker_fits_if_it_has_all_labels_the_executor_and_the_system(
    requirement: Requirement, offered: set[str], executors: set[str], system: str
) -> None:
    expected = (
        set(requirement.labels) <= offered
        and (requirement.executor == "" or requirement.executor in executors)
        and requirement.system in ("", system)
    )
    assert fits(Offer(frozenset(offered), frozenset(executors), system), requirement) == expected


@given(one=requirements, other=requirements)
def test_equal_requirements_have_one_key_and_the_key_gives_them_back(one: Requirement, other: Requirement) -> None:
    same = (set(one.labels), one.executor, one.system) == (set(other.labels), other.executor, other.system)
    assert (requirement_key(one) == requirement_key(other)) == same
    back = requirement_of(requirement_key(one))
    assert (set(back.labels), back.executor, back.system) == (set(one.labels), one.executor, one.system)
