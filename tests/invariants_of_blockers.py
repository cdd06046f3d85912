"""What is true of locks, groups, approvals and schedules at any moment: nothing held by nobody, exceeded, or stuck."""

from collections import Counter, defaultdict

from sqlalchemy import select

from buildyard.domain.blocking import Gate
from buildyard.domain.states import Phase
from buildyard.store.pipelines import decode_spec
from buildyard.store.statements import Row, Statement
from buildyard.store.tables import attempts, blockers, builds, job_needs, job_specs, jobs, lock_holders
from buildyard.store.transactions import Transaction

JOBS = Statement(
    select(
        jobs.c.id, jobs.c.build, jobs.c.phase, jobs.c.gates, jobs.c.blockers, builds.c.phase, job_specs.c.spec
    ).select_from(jobs.join(builds, builds.c.id == jobs.c.build).join(job_specs, job_specs.c.id == jobs.c.spec))
)
NEEDS = Statement(select(job_needs.c.job))
BUILDS = Statement(select(builds.c.id, builds.c.phase, builds.c.concurrency))
BLOCKERS = Statement(
    select(blockers.c.id, blockers.c.build, blockers.c.job, blockers.c.kind, blockers.c.lock, blockers.c.most)
)
HOLDERS = Statement(
    select(
        lock_holders.c.lock,
        lock_holders.c.worker,
        lock_holders.c.name,
        lock_holders.c.build,
        lock_holders.c.job,
        lock_holders.c.most,
    )
)
OPEN_ATTEMPTS = Statement(select(attempts.c.job, attempts.c.worker).where(attempts.c.phase < int(Phase.FINISHED)))
BUSY = (Phase.QUEUED, Phase.LEASED, Phase.RUNNING)


async def expected_blockers(tx: Transaction) -> dict[int, int]:
    """How many blockers each waiting job has beside its needs."""
    needing = {row[0] for row in await tx.fetch(NEEDS)}
    approvals = Counter(row[2] for row in await tx.fetch(BLOCKERS) if row[3] == "approval" and row[2])
    return {
        key: approvals[key] + bool(gates & Gate.LOCKS) + (build_phase == Phase.WAITING and key not in needing)
        for key, _, _, gates, _, build_phase, _ in await tx.fetch(JOBS)
    }


async def check_blockers(tx: Transaction) -> None:
    """Assert all of them."""
    held = await tx.fetch(HOLDERS)
    waiting = await tx.fetch(BLOCKERS)
    _check_room(held)
    _check_lines(held, waiting)
    await _check_jobs(tx, held, waiting)
    await _check_builds(tx, held, waiting)


def _check_room(held: list[Row]) -> None:
    """No lock is exceeded."""
    by_lock: dict[object, list[int]] = defaultdict(list)
    for lock, worker, name, _, _, most in held:
        by_lock[lock if worker is None else (worker, name)].append(most)
    for lock, bounds in by_lock.items():
        assert len(bounds) <= min(bounds), f"lock {lock} has {len(bounds)} holders, allowed are {bounds}"


def _check_lines(held: list[Row], waiting: list[Row]) -> None:
    """Nobody waits who could go: of those who head all their lines, each lacks room in one."""
    lines: dict[int, list[tuple[int, int]]] = defaultdict(list)
    wanted: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for _, build, job, _, lock, most in waiting:
        if lock is not None:
            lines[lock].append((build, job or 0))
            wanted[build, job or 0].append((lock, most))
    bounds: dict[int, list[int]] = defaultdict(list)
    for lock, _, _, _, _, most in held:
        if lock is not None:
            bounds[lock].append(most)
    for one, its in wanted.items():
        heads = all(min(lines[lock]) == one for lock, _ in its)
        room = all(len(bounds[lock]) < min([*bounds[lock], most]) for lock, most in its)
        assert not (heads and room), f"{one} waits for {its} though there is room: {bounds}"


async def _check_jobs(tx: Transaction, held: list[Row], waiting: list[Row]) -> None:
    holds = Counter(row[4] for row in held if row[0] is not None and row[4] is not None)
    here = {(job, name): worker for _, worker, name, _, job, _ in held if worker is not None}
    stands = Counter(row[2] for row in waiting if row[3] == "lock")
    on = {row[0]: row[1] for row in await tx.fetch(OPEN_ATTEMPTS)}
    found = {row[0]: row for row in await tx.fetch(JOBS)}
    assert {row[2] for row in waiting if row[2]} <= {key for key, row in found.items() if row[2] == Phase.WAITING}
    assert {row[4] for row in held if row[4]} <= {key for key, row in found.items() if row[2] in BUSY}
    for key, _, phase, gates, count, _, text in found.values():
        spec = decode_spec(text)
        assert holds[key] == (len(spec.locks) if phase in BUSY else 0), f"job {key} in phase {phase} holds {holds[key]}"
        asks = phase == Phase.WAITING and gates & Gate.LOCKS and count == 1
        assert stands[key] == (len(spec.locks) if asks else 0), f"job {key} with {count} stands in {stands[key]} lines"
        its = {name: on[key] for name, _ in spec.require.locks} if key in on else {}
        assert {name: worker for (job, name), worker in here.items() if job == key} == its, f"job {key}"


async def _check_builds(tx: Transaction, held: list[Row], waiting: list[Row]) -> None:
    rows = Counter(row[1] for row in waiting if row[2] is None)
    in_line = Counter(row[1] for row in waiting if row[3] == "group")
    holds = Counter(row[3] for row in held if row[4] is None)
    for key, phase, group in await tx.fetch(BUILDS):
        assert (rows[key] > 0) == (phase == Phase.WAITING), f"build {key} in phase {phase} has {rows[key]} blockers"
        in_group = group is not None and phase not in (Phase.WAITING, Phase.FINISHED)
        assert holds[key] == in_group, f"build {key} in phase {phase} holds {holds[key]}"
        assert in_line[key] <= 1
