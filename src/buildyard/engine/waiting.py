"""What jobs wait for that have not begun, in words for people."""

from collections.abc import Mapping, Sequence

from buildyard.domain.builds import Job
from buildyard.domain.ids import JobId, ProjectId
from buildyard.domain.labels import requirement_of
from buildyard.domain.states import Phase
from buildyard.engine.fitting import listed, why_queued
from buildyard.store import jobs, workers
from buildyard.store.transactions import Transaction


async def waits_for(
    tx: Transaction, project: ProjectId, found: Sequence[Job], needs: Mapping[JobId, Sequence[JobId]]
) -> dict[JobId, str]:
    """For each waiting and each queued job of a build what it waits for.

    A job that no worker known to the server can ever run says which labels, executor or system are
    lacking; it stays queued, for such a worker may come.
    """
    by_id = {job.id: job for job in found}
    reasons: dict[JobId, str] = {}
    queued = [job for job in found if job.state.phase is Phase.QUEUED]
    known = await workers.search(tx) if queued else []
    words = {
        lane: why_queued(project, requirement_of(await jobs.requirement_of_lane(tx, lane)), known)
        for lane in sorted({job.lane for job in queued})
    }
    for job in queued:
        reasons[job.id] = words[job.lane]
    for job in found:
        if job.state.phase is Phase.WAITING:
            open_needs = [by_id[need].name for need in needs.get(job.id, ()) if not _is_done(by_id[need])]
            reasons[job.id] = f"waits for {listed(open_needs)}"
    return reasons


def _is_done(job: Job) -> bool:
    return job.state.phase is Phase.FINISHED
