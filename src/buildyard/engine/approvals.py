"""Answers that waiting work needs from people: yes, no, or none in time."""

from dataclasses import dataclass

from buildyard.domain import transitions
from buildyard.domain.access import Actor, Owner, Permission, require
from buildyard.domain.blocking import Blocker, BlockerKind, may_approve, said_by, span
from buildyard.domain.builds import Build
from buildyard.domain.errors import Conflict, Forbidden
from buildyard.domain.states import Phase, Result
from buildyard.engine import gates, locking
from buildyard.engine.build_access import owner_of
from buildyard.engine.settling import locked_build, settle
from buildyard.engine.stopping import stop_locked
from buildyard.store import audit, blockers, builds, events, jobs
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Answered:
    """The build, and for what was answered: the names of jobs, or "" for the build as a whole."""

    build: BuildView
    jobs: tuple[str, ...]


async def answer_approval(
    tx: Transaction, actor: Actor, uid: str, *, job: str = "", granted: bool, reason: str = ""
) -> Answered:
    """Approve or reject a job (by name or uid) that waits for it; without one, all of the build that the actor may.

    Rejected work ends as cancelled, and what needs it does not run. The same answer again finds nothing that waits.
    """
    view = await builds.view_by_uid(tx, uid)
    owner = await owner_of(tx, view.build)
    require(actor, Permission.APPROVE, owner, "build")
    build = await locked_build(tx, view.build.id)
    waiting = await _waiting(tx, build, job)
    mine = [(one, name) for one, name in waiting if _may(actor, one, owner, build)]
    if not mine:
        raise Forbidden(f"{actor.name} may not answer here: it waits for {_asked(waiting[0][0])}")
    for one, _ in mine:
        if granted:
            await _grant(tx, await builds.get(tx, build.id), one)
        else:
            detail = f"rejected by {actor.name}" + (f": {reason}" if reason else "")
            await _refuse(tx, await builds.get(tx, build.id), one, detail)
    names = tuple(name for _, name in mine)
    action = "build.approve" if granted else "build.reject"
    await audit.add(tx, actor, action, build.uid, project=build.project, reason=reason, details={"jobs": list(names)})
    return Answered(await builds.view(tx, build.id), names)


async def _waiting(tx: Transaction, build: Build, job: str) -> list[tuple[Blocker, str]]:
    """The approvals that a build, or one of its jobs, waits for, with the names of the jobs."""
    names = {one.id: (one.name, one.uid) for one in await jobs.of_build(tx, build.id)}
    rows = [one for one in await blockers.of_build(tx, build.id) if one.kind is BlockerKind.APPROVAL]
    found = [(one, names[one.job][0] if one.job else "") for one in rows]
    if job:
        found = [(one, name) for one, name in found if one.job and job in names[one.job]]
    if not found:
        what = f"job {job!r} of build {build.id}" if job else f"build {build.id}"
        raise Conflict(f"{what} does not wait for an approval")
    return found


def _may(actor: Actor, one: Blocker, owner: Owner, build: Build) -> bool:
    return one.approval is not None and may_approve(actor, one.approval, owner, build.submitter)


def _asked(one: Blocker) -> str:
    return f"an approval by {said_by(one.approval)}" if one.approval else "an approval"


async def _grant(tx: Transaction, build: Build, one: Blocker) -> None:
    await blockers.drop(tx, one.id)
    if one.job is None:
        events.add(tx, "approved", "build", build.id, project=build.project, build=build.id)
        await gates.pass_on(tx, build)
    else:
        events.add(tx, "approved", "job", one.job, project=build.project, build=build.id)
        await locking.ask_for_locks(tx, await jobs.unblock_one(tx, one.job, project=build.project))


async def _refuse(tx: Transaction, build: Build, one: Blocker, detail: str) -> None:
    """End what waits; a job that has ended meanwhile, for another was refused, is left as it is."""
    if not await blockers.drop(tx, one.id):
        return
    if one.job is None:
        await stop_locked(tx, build, transitions.cancel_build(build), detail=detail)
        return
    job = await jobs.get(tx, one.job, lock=True)
    if job.state.phase is Phase.WAITING:
        end = transitions.finished(Result.CANCELLED, detail=detail)
        await settle(tx, build, job, transitions.finish_job(job, end, at=tx.now))


async def pass_due(tx: Transaction, _actor: Actor, key: int) -> bool:
    """A blocker's time has come: what was to start begins, what nobody approved ends. False: somebody was first."""
    seen = await blockers.find(tx, key)
    if seen is None:
        return False
    build = await locked_build(tx, seen.build)
    one = await blockers.find(tx, key)
    if one is None or one.until is None or one.until > tx.now:
        return False
    if one.kind is BlockerKind.APPROVAL:
        await _refuse(tx, build, one, f"nobody approved it within {span(one.until - one.since)}")
    else:
        await blockers.drop(tx, one.id)
        events.add(tx, "due", "build", build.id, project=build.project, build=build.id)
        await gates.pass_on(tx, build)
    return True


async def find_due(tx: Transaction, _actor: Actor, count: int) -> list[int]:
    """Blockers whose time has come, longest ago first."""
    return await blockers.due(tx, count)


async def seconds_to_next(tx: Transaction, _actor: Actor) -> float | None:
    """In how many seconds the next blocker's time comes, if there is any."""
    moment = await blockers.next_due(tx)
    return None if moment is None else max(0.0, (moment - tx.now) / 1_000_000)
