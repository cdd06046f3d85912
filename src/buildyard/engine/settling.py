"""What follows when jobs end: dependants are released or fail, builds count down and finish."""

from collections import Counter, deque

from buildyard.domain import transitions
from buildyard.domain.blocking import Gate
from buildyard.domain.builds import Build, Job
from buildyard.domain.ids import BuildId, JobId
from buildyard.domain.notifications import Event
from buildyard.domain.states import Phase, Result
from buildyard.engine import locking
from buildyard.store import blockers, builds, jobs, telling
from buildyard.store.transactions import Transaction


async def settle(tx: Transaction, build: Build, before: Job, after: Job) -> Build:
    """Write a moved job of a locked build and all that follows from the move; gives the build as it is now."""
    after = transitions.explain_cancel(build, after)
    await jobs.save(tx, before, after, project=build.project)
    moved = await _follow(tx, build, after)
    await locking.free_locks(tx, before, after)
    return moved


async def _follow(tx: Transaction, build: Build, after: Job) -> Build:
    match after.state.phase:
        case Phase.WAITING | Phase.QUEUED:
            return build
        case Phase.LEASED | Phase.RUNNING:
            return await advance(tx, build, after)
        case Phase.FINISHED:
            return await _settle_finished(tx, build, after)


async def advance(tx: Transaction, build: Build, job: Job) -> Build:
    """Let a build follow its most advanced job, and remember its first."""
    moved = transitions.note_first_job(build, job)
    moved = transitions.advance_build(moved, job.state.phase, at=job.started_at or tx.now)
    if moved is build:
        return build
    saved = await builds.save(tx, build, moved)
    if saved.state.phase is Phase.RUNNING and build.state.phase is not Phase.RUNNING:
        telling.note(tx, saved, Event.STARTED)
    return saved


async def _settle_finished(tx: Transaction, build: Build, job: Job) -> Build:
    results = [transitions.counts_as(job)]
    if transitions.lets_dependants_run(job):
        if job.dependants:
            askers = await jobs.unblock_dependants(tx, job.id, project=build.project)
            await locking.ask_for_locks(tx, askers)
    elif job.dependants:
        results += await _fail_followers(tx, build, job)
    return await count_jobs(tx, build, results)


async def _fail_followers(tx: Transaction, build: Build, job: Job) -> list[Result]:
    """Finish all that can no longer run, near and far; gives how each counts.

    A follower whose failure is allowed still did not run, so what needs it cannot run either.
    """
    results: list[Result] = []
    failed: deque[tuple[JobId, str]] = deque([(job.id, job.name)])
    while failed:
        key, name = failed.popleft()
        for ended in await jobs.fail_dependants(tx, key, name, project=build.project):
            results.append(ended.counts_as)
            if ended.gates & Gate.APPROVAL:
                await blockers.drop_of_job(tx, ended.job)
            failed.append((ended.job, name))
    return results


async def count_jobs(tx: Transaction, build: Build, results: list[Result]) -> Build:
    """Count jobs that have finished into their build; with its last job the build finishes."""
    counted = build
    for result, times in sorted(Counter(results).items()):
        for _ in range(times):
            counted = transitions.count_job(counted, result, at=tx.now)
    if counted is build:
        return build
    saved = await builds.save(tx, build, counted)
    if saved.state.phase is Phase.FINISHED:
        telling.note(tx, saved, Event.FINISHED)
        if saved.concurrency is not None or build.state.phase is Phase.WAITING:
            await locking.leave_group(tx, saved)
    return saved


async def locked_build(tx: Transaction, build: BuildId) -> Build:
    """The build, kept from being moved by others until the transaction ends. Always lock it before its jobs."""
    return await builds.get(tx, build, lock=True)
