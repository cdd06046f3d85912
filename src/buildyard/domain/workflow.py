"""Checks on a pipeline's graph of jobs, and what follows from it: dependants, blockers, matrix."""

import itertools
import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from buildyard.domain.errors import Fault
from buildyard.domain.specs import JobSpec, PipelineSpec

NAME_LENGTH = 100
MOST_JOBS = 20_000
MOST_MATRIX_CELLS = 1_000
MOST_CYCLES_SHOWN = 10
"""Finding the way around a cycle takes time proportional to the graph, for each job on it."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job with its place in the graph.

    `needs` are positions; `dependants` is how many jobs wait for it, near and far.
    """

    position: int
    spec: JobSpec
    needs: tuple[int, ...]
    dependants: int


def expand(spec: PipelineSpec) -> PipelineSpec:
    """Replace each job with a matrix by one job per cell, named `job (a, b)`; who needs the job needs all its cells.

    The cell's values join the environment of its steps.
    """
    cells: dict[str, tuple[str, ...]] = {}
    jobs: list[JobSpec] = []
    for job in spec.jobs:
        expanded = [_cell(job, values) for values in itertools.product(*job.matrix.values())] if job.matrix else [job]
        cells[job.name] = tuple(cell.name for cell in expanded)
        jobs += expanded
    return replace(
        spec,
        jobs=tuple(
            replace(job, needs=tuple(name for need in job.needs for name in cells.get(need, (need,)))) for job in jobs
        ),
    )


def _cell(job: JobSpec, values: tuple[str, ...]) -> JobSpec:
    variables = dict(zip(job.matrix, values, strict=True))
    return replace(
        job, name=f"{job.name} ({', '.join(values)})", matrix={}, environment={**job.environment, **variables}
    )


def graph_faults(names: list[str], needs: list[tuple[str, ...]], *, field: str = "dependsOn") -> list[Fault]:
    """Every fault of a graph: duplicate names, unknown names, self-dependencies, repeated entries, cycles.

    Paths are written `steps[2].dependsOn[0]`, with `field` as the word for needs.
    """
    faults = (
        [
            Fault(f"steps[{i}].name", f"duplicate name {name!r}", "duplicate_name")
            for i, name in enumerate(names)
            if names.index(name) != i
        ]
        if len(set(names)) != len(names)
        else []
    )
    known = set(names)
    for i, wanted in enumerate(needs):
        for j, need in enumerate(wanted):
            path = f"steps[{i}].{field}[{j}]"
            if need == names[i]:
                faults.append(Fault(path, f"{need!r} depends on itself", "self_dependency"))
            elif need not in known:
                faults.append(Fault(path, f"there is no {need!r} here", "unknown_dependency"))
    if not faults:
        faults = [
            Fault(f"steps[{i}].{field}", f"{names[i]!r} is part of a cycle{shown}", "cycle")
            for n, i in enumerate(_in_cycles(names, needs))
            for shown in [f": {_cycle_text(i, names, needs)}" if n < MOST_CYCLES_SHOWN else ""]
        ]
    return faults


def _positions(names: list[str], needs: list[tuple[str, ...]]) -> list[tuple[int, ...]]:
    place = {name: i for i, name in enumerate(names)}
    return [tuple(dict.fromkeys(place[need] for need in wanted)) for wanted in needs]


def _order(needs: list[tuple[int, ...]]) -> list[int]:
    """Positions with every need before its dependants; those on or behind a cycle are left out."""
    left = [len(wanted) for wanted in needs]
    waiting: list[list[int]] = [[] for _ in needs]
    for i, wanted in enumerate(needs):
        for need in wanted:
            waiting[need].append(i)
    ready = deque(i for i, count in enumerate(left) if count == 0)
    order: list[int] = []
    while ready:
        i = ready.popleft()
        order.append(i)
        for dependant in waiting[i]:
            left[dependant] -= 1
            if left[dependant] == 0:
                ready.append(dependant)
    return order


def _in_cycles(names: list[str], wanted: list[tuple[str, ...]]) -> list[int]:
    """Positions that lie on a cycle: what remains after taking away all that is before or behind one."""
    needs = _positions(names, wanted)
    remaining = set(range(len(names))) - set(_order(needs))
    reverse: list[tuple[int, ...]] = [() for _ in needs]
    for i in remaining:
        for need in needs[i]:
            if need in remaining:
                reverse[need] = (*reverse[need], i)
    for i in range(len(needs)):
        if i not in remaining:
            reverse[i] = ()
    return sorted(remaining - set(_order(reverse)))


def _cycle_text(start: int, names: list[str], wanted: list[tuple[str, ...]]) -> str:
    """A shortest way from `start` back to itself, as text."""
    needs = _positions(names, wanted)
    came_from: dict[int, int] = {}
    seen = deque([start])
    while seen:
        i = seen.popleft()
        for need in needs[i]:
            if need == start:
                path = [i]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return " → ".join(names[p] for p in [start, *reversed(path[:-1]), start])
            if need not in came_from:
                came_from[need] = i
                seen.append(need)
    return names[start]


def plan(spec: PipelineSpec) -> list[PlannedJob]:
    """Lay a faultless graph out: needs as positions, and the number of jobs that follow each.

    Counting followers exactly costs the square of the graph, so past 2 000 jobs only direct ones count.
    """
    needs = _positions([job.name for job in spec.jobs], [job.needs for job in spec.jobs])
    followers = _followers(needs)
    return [PlannedJob(i, job, needs[i], followers[i]) for i, job in enumerate(spec.jobs)]


def _followers(needs: list[tuple[int, ...]]) -> list[int]:
    if len(needs) > 2_000:
        direct = Counter(need for wanted in needs for need in wanted)
        return [direct[i] for i in range(len(needs))]
    behind: list[int] = [0] * len(needs)
    for i in reversed(_order(needs)):
        for need in needs[i]:
            behind[need] |= behind[i] | (1 << i)
    return [mask.bit_count() for mask in behind]


SLUG_REST = re.compile(r"[^A-Za-z0-9_-]+")


def slug_of(name: str) -> str:
    """A slug (`[A-Za-z_][A-Za-z0-9_-]*`, at most 60 characters) that resembles `name`."""
    slug = SLUG_REST.sub("-", name).strip("-")[:60]
    return slug if slug[:1].isalpha() or slug[:1] == "_" else f"_{slug}"


def free_slug(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, or `wanted-2`, `wanted-3`, … whichever is the first not among `taken`."""
    used = set(taken)
    return next(slug for n in itertools.count(1) if (slug := wanted if n == 1 else f"{wanted}-{n}") not in used)
