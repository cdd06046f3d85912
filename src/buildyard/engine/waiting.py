"""What jobs wait for that have not begun, in words for people."""

from collections.abc import Mapping, Sequence

from buildyard.domain.builds import Job
from buildyard.domain.ids import JobId
from buildyard.domain.labels import fits, requirement_of
from buildyard.domain.specs import Requirement
from buildyard.domain.states import Phase
from buildyard.store import jobs, workers
from buildyard.store.transactions import Transaction
from buildyard.store.workers import Worker


async def waits_for(tx: Transaction, found: Sequence[Job], needs: Mapping[JobId, Sequence[JobId]]) -> dict[JobId, str]:
    """For each waiting and each queued job of a build what it waits for.

    A job that no worker now connected can ever run says which labels, executor or system are
    lacking; it stays queued, for such a worker may come.
    """
    by_id = {job.id: job for job in found}
    reasons: dict[JobId, str] = {}
    queued = [job for job in found if job.state.phase is Phase.QUEUED]
    by_lane = {lane: await jobs.requirement_of_lane(tx, lane) for lane in sorted({job.lane for job in queued})}
    connected = [worker for worker in await workers.search(tx) if worker.connected] if queued else []
    words = {lane: _lacking(requirement_of(key), connected) for lane, key in by_lane.items()}
    for job in queued:
        reasons[job.id] = words[job.lane]
    for job in found:
        if job.state.phase is Phase.WAITING:
            open_needs = [by_id[need].name for need in needs.get(job.id, ()) if not _is_done(by_id[need])]
            reasons[job.id] = f"waits for {_listed(open_needs)}"
    return reasons


def _is_done(job: Job) -> bool:
    return job.state.phase is Phase.FINISHED


def _lacking(wanted: Requirement, connected: Sequence[Worker]) -> str:
    if not connected:
        return "waits for a worker: none is connected"
    if any(fits(worker.offer, wanted) for worker in connected):
        return "waits for a free place on a worker"
    parts = [f"label {label}" for label in wanted.labels]
    parts += [f"executor {wanted.executor}"] if wanted.executor else []
    parts += [f"system {wanted.system}"] if wanted.system else []
    return f"waits for a worker with {', '.join(parts)}: none that is connected has all of it"


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
