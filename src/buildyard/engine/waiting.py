"""What jobs wait for that have not begun, in words for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildyard.domain.blocking import Blocker, in_words
from buildyard.domain.builds import Job
from buildyard.domain.ids import BuildId, JobId, ProjectId
from buildyard.domain.labels import requirement_of
from buildyard.domain.states import Phase
from buildyard.engine.fitting import listed, why_queued
from buildyard.store import blockers, jobs, locks, workers
from buildyard.store.transactions import Transaction

SHOWN = 3
LINE = 1000
"""How far a line is looked at to say how many stand before."""


@dataclass(frozen=True, slots=True)
class BlockerView:
    """A blocker, what it says to people, and how many stand before it in its line."""

    blocker: Blocker
    words: str
    ahead: int


async def waits_for(
    tx: Transaction,
    project: ProjectId,
    found: Sequence[Job],
    needs: Mapping[JobId, Sequence[JobId]],
    held_up: Sequence[BlockerView] = (),
) -> dict[JobId, str]:
    """For each waiting and each queued job of a build what it waits for; `held_up` are the build's blockers.

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
            own = [one.words for one in blockers_of(job.id, held_up, has_needs=bool(needs.get(job.id)))]
            reasons[job.id] = f"waits for {'; '.join([*([listed(open_needs)] if open_needs else []), *own])}"
    return reasons


def blockers_of(job: JobId, held_up: Sequence[BlockerView], *, has_needs: bool) -> tuple[BlockerView, ...]:
    """Those of its build's blockers that hold a job up: its own, and those of the whole build if it needs no job."""
    return tuple(one for one in held_up if one.blocker.job == job or (one.blocker.job is None and not has_needs))


async def explain(tx: Transaction, held_up: Sequence[Blocker]) -> list[BlockerView]:
    """What blockers say: who is in the way, and how many stand before, as far as LINE."""
    holders: dict[int, str] = {}
    places: dict[int, dict[tuple[BuildId, JobId | None], int]] = {}
    for lock in sorted({one.lock for one in held_up if one.lock is not None}):
        holders[lock] = listed([await _name(tx, *one) for one in await locks.holders(tx, lock, SHOWN + 1)])
        places[lock] = {place: n for n, place in enumerate(await blockers.line(tx, lock, LINE))}
    views = []
    for one in held_up:
        ahead = 0 if one.lock is None else places[one.lock].get((one.build, one.job), LINE)
        held_by = "" if one.lock is None else holders[one.lock]
        views.append(BlockerView(one, in_words(one, holders=held_by, ahead=ahead), ahead))
    return views


async def _name(tx: Transaction, build: BuildId, job: JobId | None) -> str:
    return f"build {build}" if job is None else f"{(await jobs.get(tx, job)).name} of build {build}"


def _is_done(job: Job) -> bool:
    return job.state.phase is Phase.FINISHED
