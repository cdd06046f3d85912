"""Stopping a build's work: what a person's cancel and a newer build of the same branch share."""

from buildyard.domain import transitions
from buildyard.domain.ids import BuildId
from buildyard.domain.states import Cause, Result
from buildyard.engine.settling import count_jobs, locked_build
from buildyard.store import builds, jobs
from buildyard.store.transactions import Transaction


async def stop_build(tx: Transaction, build: BuildId, *, detail: str, cause: Cause = Cause.NONE) -> bool:
    """Jobs that no worker holds end at once, the others when their workers report back; False: nothing was to stop.

    Call it before locking anything else of the build.
    """
    await jobs.lock_queued(tx, build)
    before = await locked_build(tx, build)
    wished = transitions.cancel_build(before)
    if wished is before or before.cancel_requested:
        return False
    await builds.save(tx, before, wished)
    ended = await jobs.cancel_idle(tx, build, project=before.project, cause=cause, detail=detail)
    await jobs.wish_cancel(tx, build, detail)
    await count_jobs(tx, await builds.get(tx, build), [Result.CANCELLED] * ended)
    return True
