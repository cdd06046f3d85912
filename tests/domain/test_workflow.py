"""Graphs of jobs: their faults, their layout, their matrices, their names."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.specs import JobSpec, PipelineSpec
from buildyard.domain.workflow import (
    MOST_CYCLES_SHOWN,
    expand,
    free_slug,
    graph_faults,
    plan,
    slug_of,
)

names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8)
graphs = names.flatmap(
    lambda given_names: st.tuples(
        st.just(given_names),
        st.lists(
            st.lists(st.sampled_from("abcdefghx"), max_size=3).map(tuple),
            min_size=len(given_names),
            max_size=len(given_names),
        ),
    )
)


def reachable(start: int, needs: list[set[int]]) -> set[int]:
    """All positions that `start` needs, near and far, by plain search."""
    seen: set[int] = set()
    todo = list(needs[start])
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += needs[at]
    return seen


@pytest.mark.covers("engine.dag.cycles", "engine.dag.unknown", "engine.dag.duplicates")
@given(graph=graphs)
def test_faults_are_those_that_a_plain_search_finds(graph: tuple[list[str], list[tuple[str, ...]]]) -> None:
    listed, wanted = graph
    faults = graph_faults(listed, wanted)
    found = {(fault.path, fault.code) for fault in faults}
    expected = {(f"steps[{i}].name", "duplicate_name") for i, name in enumerate(listed) if name in listed[:i]}
    for i, needs in enumerate(wanted):
        for j, need in enumerate(needs):
            if need == listed[i]:
                expected.add((f"steps[{i}].dependsOn[{j}]", "self_dependency"))
            elif need not in listed:
                expected.add((f"steps[{i}].dependsOn[{j}]", "unknown_dependency"))
    if not expected:
        edges = [{listed.index(need) for need in needs} for needs in wanted]
        expected = {(f"steps[{i}].dependsOn", "cycle") for i in range(len(listed)) if i in reachable(i, edges)}
    assert found == expected


@pytest.mark.covers("engine.dag.cycles")
@given(size=st.integers(2, 40))
def test_a_cycle_is_spelled_out_for_the_first_jobs_on_it(size: int) -> None:
    listed = [f"j{n}" for n in range(size)]
    faults = graph_faults(listed, [(f"j{(n + 1) % size}",) for n in range(size)], field="needs")
    assert len(faults) == size
    shown = [fault for fault in faults if "→" in fault.message]
    assert len(shown) == min(size, MOST_CYCLES_SHOWN)
    assert faults[0].message.endswith(": " + " → ".join([*listed, "j0"]))
    assert faults[0].path == "steps[0].needs"


def acyclic(edges: list[list[int]]) -> PipelineSpec:
    return PipelineSpec(
        jobs=tuple(
            JobSpec(name=f"j{i}", steps=(), needs=tuple(f"j{n % i}" for n in needs) if i else ())
            for i, needs in enumerate(edges)
        )
    )


@given(edges=st.lists(st.lists(st.integers(0, 20), max_size=4), min_size=1, max_size=20))
def test_a_plan_has_needs_as_positions_and_counts_all_that_follow(edges: list[list[int]]) -> None:
    spec = acyclic(edges)
    planned = plan(spec)
    needs = [set(job.needs) for job in planned]
    assert [tuple(f"j{n}" for n in job.needs) for job in planned] == [tuple(dict.fromkeys(j.needs)) for j in spec.jobs]
    for i, job in enumerate(planned):
        followers = {j for j in range(len(planned)) if i in reachable(j, needs)}
        assert (job.position, job.dependants) == (i, len(followers))


@pytest.mark.covers("engine.dag.large")
def test_a_graph_of_ten_thousand_jobs_is_checked_and_planned() -> None:
    spec = acyclic([[i - 1, i // 2] if i else [] for i in range(10_000)])
    assert graph_faults([job.name for job in spec.jobs], [job.needs for job in spec.jobs]) == []
    planned = plan(spec)
    assert all(planned[i].dependants > 0 for i in range(9_999))
    back = graph_faults([job.name for job in spec.jobs], [("j9999",), *(job.needs for job in spec.jobs[1:])])
    assert {fault.code for fault in back} == {"cycle"}


@pytest.mark.covers("engine.dag.matrix")
def test_a_matrix_makes_one_job_per_combination_and_who_needs_it_needs_all() -> None:
    matrix = {"py": ("3.11", "3.12"), "os": ("a", "b", "c")}
    spec = expand(
        PipelineSpec(
            jobs=(
                JobSpec(name="build", steps=()),
                JobSpec(name="test", steps=(), needs=("build",), matrix=matrix, environment={"py": "x", "k": "v"}),
                JobSpec(name="after", steps=(), needs=("test", "build")),
            )
        )
    )
    cells = [f"test ({py}, {os})" for py, os in itertools.product(*matrix.values())]
    assert [job.name for job in spec.jobs] == ["build", *cells, "after"]
    assert spec.jobs[1].environment == {"py": "3.11", "k": "v", "os": "a"}
    assert all(job.needs == ("build",) and not job.matrix for job in spec.jobs[1:7])
    assert spec.jobs[7].needs == (*cells, "build")
    assert expand(spec) == spec


@given(name=st.text(max_size=80))
def test_slugs_have_the_form_of_slugs(name: str) -> None:
    slug = slug_of(name)
    assert slug[0].isalpha() or slug[0] == "_"
    assert all((c.isascii() and c.isalnum()) or c in "_-" for c in slug)
    assert len(slug) <= 61


@pytest.mark.covers("engine.projects")
@given(wanted=st.sampled_from(["a", "b"]), taken=st.sets(st.sampled_from(["a", "a-2", "a-3", "a-10", "b-2"])))
def test_a_free_slug_is_the_first_that_is_free(wanted: str, taken: set[str]) -> None:
    slug = free_slug(wanted, taken)
    assert slug not in taken
    candidates = [wanted, *(f"{wanted}-{n}" for n in range(2, 20))]
    assert all(earlier in taken for earlier in candidates[: candidates.index(slug)])
