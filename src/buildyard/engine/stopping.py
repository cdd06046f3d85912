"""Stopping a build's work: what a person's cancel and a newer build that takes its place share."""

from buildyard.domain import transitions
from buildyard.domain.builds import Build
from buildyard.domain.ids import BuildId
from buildyard.domain.states import Cause, Result
from buildyard.engine import locking
from buildyard.engine.settling import count_jobs, locked_build
from buildyard.store import blockers, builds, jobs, locks
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
    await stop_locked(tx, before, wished, detail=detail, cause=cause)
    return True


async def stop_locked(
    tx: Transaction,
    before: Build,
    wished: Build,
    *,
    detail: str,
    result: Result = Result.CANCELLED,
    cause: Cause = Cause.NONE,
) -> None:
    """Write the wish to stop a locked build and all that follows; its idle jobs end with `result`."""
    await locks.hold_rows_of_build(tx, before.id)
    await builds.save(tx, before, wished)
    ended = await jobs.cancel_idle(tx, before.id, project=before.project, result=result, cause=cause, detail=detail)
    await jobs.wish_cancel(tx, before.id, detail)
    left = await blockers.drop_of_build(tx, before.id)
    await locking.free_jobs(tx, ended)
    await count_jobs(tx, await builds.get(tx, before.id), [result] * len(ended))
    await locking.hand_out(tx, left)
