"""Which workers can run what is queued, in words for people; and the end of jobs that none ever can, where wished."""

from collections.abc import Iterable, Sequence

from buildyard.domain import transitions
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import SECOND, BuildId, JobId, Moment, ProjectId
from buildyard.domain.labels import FEATURE, fits, requirement_of
from buildyard.domain.specs import Requirement
from buildyard.domain.states import Cause, Phase, Result
from buildyard.engine.engine import Engine
from buildyard.engine.settling import locked_build, settle
from buildyard.store import jobs, workers
from buildyard.store.transactions import Transaction
from buildyard.store.workers import Worker

ROUND = 200


def may_run(worker: Worker, project: ProjectId, wanted: Requirement) -> bool:
    """Whether a worker could be given such jobs of a project, were it there and willing."""
    return worker.slots > 0 and worker.project in (None, project) and fits(worker.offer, wanted)


def why_queued(project: ProjectId, wanted: Requirement, known: Sequence[Worker]) -> str:
    """What a queued job waits for, given all workers that the server knows."""
    if not any(worker.connected and worker.slots > 0 for worker in known):
        return "waits for a worker: none is connected"
    fitting = [worker for worker in known if may_run(worker, project, wanted)]
    if not fitting:
        return f"waits for a worker {_demand(wanted)}: none that is known has all of it"
    if any(worker.connected and worker.takes_jobs for worker in fitting):
        free = f" where {listed([f'the lock {name}' for name, _ in wanted.locks])} is free" if wanted.locks else ""
        return f"waits for a free place on a worker{free}"
    return f"waits for {listed([f'worker {worker.name} ({_absence(worker)})' for worker in fitting])}"


def _demand(wanted: Requirement) -> str:
    parts = [f"feature {label.removeprefix(FEATURE)}" for label in wanted.labels if label.startswith(FEATURE)]
    parts = [f"label {label}" for label in wanted.labels if not label.startswith(FEATURE)] + parts
    parts += [f"executor {wanted.executor}"] if wanted.executor else []
    parts += [f"system {wanted.system}"] if wanted.system else []
    return f"with {', '.join(parts)}" if parts else "that may have this project's jobs"


def _absence(worker: Worker) -> str:
    if not worker.connected:
        return "not connected"
    return "draining" if worker.draining else "paused"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first of these, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# --- jobs that no known worker can run ----------------------------------------------------------


async def find_unsupported(tx: Transaction, _actor: Actor, *, after: float) -> list[JobId]:
    """Jobs queued for `after` seconds that no worker known to the server could run; a round of them at most."""
    known = await workers.search(tx)
    before = Moment(tx.now - int(after * SECOND))
    found: list[JobId] = []
    for busy in await jobs.busy_lanes(tx):
        wanted = requirement_of(busy.requirement_key)
        if not any(may_run(worker, busy.lane.project, wanted) for worker in known):
            found += await jobs.queued_before(tx, busy.lane.id, before, ROUND - len(found))
        if len(found) >= ROUND:
            break
    return found


async def fail_unsupported(tx: Transaction, _actor: Actor, build: BuildId, keys: Iterable[JobId]) -> int:
    """End these jobs of a build as far as they are still queued and nobody came who can run them; how many."""
    await jobs.lock_queued(tx, build)
    locked = await locked_build(tx, build)
    known = await workers.search(tx)
    ended = 0
    for key in sorted(keys):
        job = await jobs.get(tx, key, lock=True)
        wanted = requirement_of(await jobs.requirement_of_lane(tx, job.lane))
        if job.state.phase is Phase.QUEUED and not any(may_run(one, locked.project, wanted) for one in known):
            detail = f"no worker {_demand(wanted)} is known"
            end = transitions.finished(Result.ERROR, Cause.UNSUPPORTED, detail)
            locked = await settle(tx, locked, job, transitions.finish_job(job, end, at=tx.now))
            ended += 1
    return ended


async def builds_of(tx: Transaction, _actor: Actor, keys: Sequence[JobId]) -> dict[BuildId, list[JobId]]:
    """Jobs by their builds."""
    found: dict[BuildId, list[JobId]] = {}
    for key, job in (await jobs.get_many(tx, keys)).items():
        found.setdefault(job.build, []).append(key)
    return found


async def end_unsupported(engine: Engine) -> int:
    """End a round of jobs that have waited too long for a worker that there is not; nothing unless that is wished."""
    after = engine.policy.unsupported_seconds
    if after <= 0:
        return 0
    keys = await engine.read(find_unsupported, SYSTEM, after=after)
    ended = 0
    for build, its in (await engine.read(builds_of, SYSTEM, keys) if keys else {}).items():
        ended += await engine.run(fail_unsupported, SYSTEM, build, its)
    return ended
