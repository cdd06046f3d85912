"""What is true of a database at any moment, whatever happened: kept numbers equal a count, states agree."""

from collections import Counter, defaultdict

from sqlalchemy import select

from buildyard.domain.access import EVERYONE, Actor, Audience, Right
from buildyard.domain.states import PASSED, Phase, Result
from buildyard.store.statements import Statement
from buildyard.store.tables import (
    attempts,
    build_access,
    builds,
    counters,
    evaluations,
    events,
    job_needs,
    jobs,
    lanes,
    steps,
)
from buildyard.store.transactions import Transaction
from invariants_of_blockers import check_blockers, expected_blockers

BUILDS = Statement(
    select(
        builds.c.id,
        builds.c.project,
        builds.c.pipeline,
        builds.c.evaluation,
        builds.c.number,
        builds.c.phase,
        builds.c.result,
        builds.c.jobs_total,
        builds.c.jobs_left,
        builds.c.worst,
        builds.c.cancel_requested,
    )
)
JOBS = Statement(
    select(
        jobs.c.id,
        jobs.c.build,
        jobs.c.lane,
        jobs.c.phase,
        jobs.c.result,
        jobs.c.blockers,
        jobs.c.allow_failure,
        jobs.c.attempts,
        jobs.c.lost,
        jobs.c.queued_at,
        jobs.c.finished_at,
    )
)
NEEDS = Statement(select(job_needs.c.job, job_needs.c.need))
LANES = Statement(select(lanes.c.id, lanes.c.queued))
COUNTERS = Statement(select(counters.c.kind, counters.c.owner, counters.c.name, counters.c.value))
EVALUATIONS = Statement(select(evaluations.c.id, evaluations.c.builds_left, evaluations.c.result))
ATTEMPTS = Statement(
    select(attempts.c.id, attempts.c.job, attempts.c.number, attempts.c.phase, attempts.c.lost, attempts.c.result)
)
STEPS = Statement(select(steps.c.id, steps.c.attempt, steps.c.phase))
FINISHED_EVENTS = Statement(
    select(events.c.entity, events.c.entity_id, events.c.build).where(
        events.c.kind == "finished", events.c.entity.in_(("job", "build"))
    )
)
ACCESS = Statement(
    select(
        builds.c.project,
        builds.c.submitter,
        builds.c.audience,
        builds.c.manifest,
        build_access.c.grantee,
        build_access.c.right,
        builds.c.id,
    ).select_from(builds.outerjoin(build_access, build_access.c.build == builds.c.id))
)
REMOVED = Statement(select(events.c.build).where(events.c.kind == "removed"))
UNCHECKED = ("audit", "deliveries", "retention")
"""Counters that count what has no row any more, or rows that others check."""


async def check_invariants(tx: Transaction, _actor: Actor) -> None:
    """Assert all of them; a use-case to `read`."""
    await _check_builds(tx)
    await _check_jobs(tx)
    await check_blockers(tx)
    await _check_attempts(tx)
    await _check_events(tx)


async def _check_builds(tx: Transaction) -> None:
    counted: Counter[tuple[str, int, str]] = Counter()
    unfinished: Counter[int] = Counter()
    idle: Counter[int] = Counter()
    ended: dict[int, list[Result]] = defaultdict(list)
    total: Counter[int] = Counter()
    for _, build, _, phase, result, _, allow_failure, *_ in await tx.fetch(JOBS):
        total[build] += 1
        unfinished[build] += phase != Phase.FINISHED
        idle[build] += phase in (Phase.WAITING, Phase.QUEUED)
        if result is not None:
            allowed = allow_failure and result not in PASSED and result != Result.CANCELLED
            ended[build].append(Result.WARNINGS if allowed else Result(result))
    left: Counter[int] = Counter()
    numbers: dict[int, list[int]] = defaultdict(list)
    for row in await tx.fetch(BUILDS):
        key, project, pipeline, evaluation, number, phase, result, jobs_total, jobs_left, worst, cancelled = row
        assert not (cancelled and idle[key]), f"build {key} is cancelled but has jobs that may still be claimed"
        assert jobs_total == total[key], f"build {key} has {total[key]} jobs, not {jobs_total}"
        assert jobs_left == unfinished[key], f"build {key} has {unfinished[key]} jobs left, not {jobs_left}"
        assert (phase == Phase.FINISHED) == (unfinished[key] == 0), f"build {key} in phase {phase}"
        known = max(ended[key], default=Result.SKIPPED) if jobs_total else result
        assert worst == known, f"build {key} has worst {worst}, jobs {ended[key]}"
        assert result == (worst if phase == Phase.FINISHED else None), f"build {key} ended {result}, worst {worst}"
        left[evaluation] += phase != Phase.FINISHED
        numbers[pipeline].append(number)
        for owner in (("pipeline", pipeline), ("project", project), ("server", 0)):
            counted[*owner, "builds"] += 1
            if result is not None:
                counted[*owner, "finished"] += 1
                counted[*owner, Result(result).word] += 1
    for pipeline, taken in numbers.items():
        wanted = sorted(set(range(1, len(taken) + 1))) if not await tx.fetch(REMOVED) else sorted(set(taken))
        assert sorted(taken) == wanted, f"numbers of pipeline {pipeline}: {sorted(taken)}"
    counted += await _by_own_lists(tx)
    kept = {tuple(row[:3]): row[3] for row in await tx.fetch(COUNTERS) if row[0] not in UNCHECKED and row[3]}
    assert kept == dict(counted)
    for key, builds_left, result in await tx.fetch(EVALUATIONS):
        assert builds_left == left[key], f"evaluation {key}"
        assert (result is not None) == (builds_left == 0), f"evaluation {key}"


async def _by_own_lists(tx: Transaction) -> Counter[tuple[str, int, str]]:
    """What is counted by who submitted builds, and by their own access lists."""
    counted: Counter[tuple[str, int, str]] = Counter()
    seen: set[int] = set()
    for project, submitter, audience, manifest, grantee, right, key in await tx.fetch(ACCESS):
        is_new = key not in seen
        seen.add(key)
        if is_new and submitter is not None:
            counted["user", submitter, "builds"] += 1
            counted["user", submitter, "manifests"] += manifest
        if audience == Audience.PROJECT:
            assert grantee is None, f"build {key} follows its project's rule and has a list"
            continue
        counted["project", project, "own_list"] += is_new
        if audience == Audience.PUBLIC:
            counted["project", project, "published"] += is_new
            counted["server", 0, "published"] += is_new
            assert grantee == EVERYONE or not right & Right.LIST, f"build {key} is listed twice for {grantee}"
            continue
        if submitter is not None:
            counted["reserved", submitter, str(project)] += is_new
        if grantee not in (None, EVERYONE) and right & Right.LIST:
            counted[f"granted:{grantee}", 0, str(project)] += 1
    return +counted


async def _check_jobs(tx: Transaction) -> None:
    found = {row[0]: row for row in await tx.fetch(JOBS)}
    queued: Counter[int] = Counter()
    open_needs: Counter[int] = Counter()
    for key, need in await tx.fetch(NEEDS):
        result, allowed = found[need][4], found[need][6]
        let = result in PASSED or (allowed and result not in (None, Result.CANCELLED, Result.DEPENDENCY_FAILED))
        open_needs[key] += not let
    held_up = await expected_blockers(tx)
    for key, _, lane, phase, result, blockers, _, made, _, queued_at, finished_at in found.values():
        queued[lane] += phase == Phase.QUEUED
        if phase == Phase.WAITING:
            expected = open_needs[key] + held_up[key]
            assert blockers == expected > 0, f"job {key} has {blockers} blockers, needs {open_needs[key]} of {expected}"
        if phase in (Phase.QUEUED, Phase.LEASED, Phase.RUNNING) or made:
            assert open_needs[key] == 0, f"job {key} in phase {phase} before its needs"
            assert queued_at is not None
        assert (phase == Phase.FINISHED) == (result is not None) == (finished_at is not None), f"job {key}"
    for lane, length in await tx.fetch(LANES):
        assert length == queued[lane], f"lane {lane} has {queued[lane]} queued jobs, not {length}"


async def _check_attempts(tx: Transaction) -> None:
    of_job: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    phases: dict[int, int] = {}
    for key, job, number, phase, lost, result in await tx.fetch(ATTEMPTS):
        of_job[job].append((number, phase, lost))
        phases[key] = phase
        assert (phase == Phase.FINISHED) == (bool(lost) != (result is not None)), f"attempt {key}"
    for key, _, _, phase, _, _, _, made, lost, *_ in await tx.fetch(JOBS):
        tries = sorted(of_job[key])
        assert [number for number, _, _ in tries] == list(range(1, made + 1)), f"attempts of job {key}: {tries}"
        assert sum(gone for *_, gone in tries) >= lost, f"job {key} lost {lost}"
        running = [number for number, its_phase, _ in tries if its_phase != Phase.FINISHED]
        held = phase in (Phase.LEASED, Phase.RUNNING)
        assert running == ([made] if held else []), f"job {key} in phase {phase} has open attempts {running}"
    for key, attempt, phase in await tx.fetch(STEPS):
        assert phase != Phase.RUNNING or phases[attempt] != Phase.FINISHED, f"step {key} runs in an ended attempt"


async def _check_events(tx: Transaction) -> None:
    """Exactly one event says that a job or build is finished, also when retention has removed the build since."""
    gone = {row[0] for row in await tx.fetch(REMOVED)}
    told = Counter((row[0], row[1]) for row in await tx.fetch(FINISHED_EVENTS) if row[2] not in gone)
    expected = {("job", row[0]): 1 for row in await tx.fetch(JOBS) if row[3] == Phase.FINISHED}
    expected |= {("build", row[0]): 1 for row in await tx.fetch(BUILDS) if row[5] == Phase.FINISHED}
    assert dict(told) == expected
