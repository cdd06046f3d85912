"""Terminals in the workspaces of jobs: who may have one where, and how the worker hears of the wish."""

import re
from dataclasses import dataclass, replace

from buildyard.domain.access import Actor, Permission, may, require, require_worker, serves
from buildyard.domain.builds import Attempt, Job
from buildyard.domain.errors import Conflict, Fault, Forbidden, Gone, Invalid, NotFound
from buildyard.domain.ids import SECOND, AttemptId, Moment, iso
from buildyard.domain.states import Phase
from buildyard.domain.trust import is_trusted
from buildyard.engine.build_access import owner_of
from buildyard.protocol import TERMINALS_SINCE, TerminalWish
from buildyard.store import attempts, audit, builds, jobs, pipelines, terminals, workers
from buildyard.store.builds import BuildView
from buildyard.store.terminals import WishedTerminal
from buildyard.store.transactions import Transaction
from buildyard.store.workers import Worker

ANSWER_S = 20.0
"""How long a worker has to open a terminal; an older wish counts for nothing."""

MOST_SIZE = 1000
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A terminal's size in characters, and its kind as programs know it (`TERM`); empty: a plain one."""

    rows: int = 24
    columns: int = 80
    term: str = ""


async def require_attachable(tx: Transaction, actor: Actor, uid: str) -> BuildView:
    """The build, if `actor` may have terminals in it: who may run it; an untrusted one, who may configure its project.

    What strangers wrote could deceive whoever looks at it through a terminal, so that is for few. Who may act on the
    build by its own list only is not shown what it was lent of somebody else's.
    """
    view = await builds.view_by_uid(tx, uid)
    owner = await owner_of(tx, view.build)
    require(actor, Permission.RUN, owner, "build")
    if not is_trusted(view.build) and not may(actor, Permission.CONFIGURE, owner):
        raise Forbidden("this build is not trusted: only administrators of its project may attach to it")
    is_listed_only = actor.user != view.build.submitter and not may(actor, Permission.RUN, replace(owner, own=None))
    if is_listed_only and await _lends(tx, view):
        raise Forbidden("this build has secrets or a token of its submitter: only who may run its project may attach")
    return view


async def _lends(tx: Transaction, view: BuildView) -> bool:
    """Whether jobs of the build are given what a list of its own gives nobody else."""
    specs = [await pipelines.job_spec(tx, job.spec) for job in await jobs.of_build(tx, view.build.id)]
    return any(spec.token is not None or (spec.secrets and view.build.secrets_enabled) for spec in specs)


async def wish_terminal(
    tx: Transaction, actor: Actor, uid: str, job_name: str, window: Window, *, key: str, lease: float
) -> AttemptId:
    """Wish for a terminal in a job's workspace, while it runs or as long as it is kept.

    Raises NotFound, Gone or Conflict with the reason if there is no workspace that could be opened.
    """
    _check(window)
    view = await require_attachable(tx, actor, uid)
    job = _choose(await jobs.of_build(tx, view.build.id), job_name)
    attempt = await _newest(tx, job)
    worker = await workers.get(tx, attempt.worker)
    _require_workspace(tx.now, job, attempt)
    _require_reachable(tx.now, job, attempt, worker, lease)
    wished = WishedTerminal(
        key=key,
        attempt=attempt.id,
        worker=worker.id,
        rows=window.rows,
        columns=window.columns,
        term=window.term,
        created_at=tx.now,
    )
    await terminals.add(tx, wished, outdated=_outdated(tx.now))
    details = {"job": job.name, "attempt": attempt.number, "worker": worker.name}
    await audit.add(tx, actor, "build.attach", uid, project=view.build.project, details=details)
    tx.wake("work")
    return attempt.id


def _check(window: Window) -> None:
    faults = [
        Fault(name, f"a window has 1 to {MOST_SIZE} {name}", "range")
        for name, size in (("rows", window.rows), ("columns", window.columns))
        if not 1 <= size <= MOST_SIZE
    ]
    if window.term and not _TERM.fullmatch(window.term):
        faults.append(Fault("term", "a kind of terminal is a short word", "pattern"))
    if faults:
        raise Invalid(faults[0].message, tuple(faults))


def _choose(found: list[Job], name: str) -> Job:
    names = ", ".join(job.name for job in found)
    chosen = [job for job in found if name in (job.name, job.uid) or (not name and len(found) == 1)]
    if chosen:
        return chosen[0]
    if name:
        raise NotFound(f"the build has no job {name!r}; it has {names}")
    raise Invalid(f"the build has several jobs, so say which: {names}", (Fault("job", "is missing", "required"),))


async def _newest(tx: Transaction, job: Job) -> Attempt:
    found = await attempts.of_job(tx, job.id)
    if found:
        return found[-1]
    if job.state.phase is Phase.FINISHED:
        raise NotFound(f"job {job.name} has ended without having run, so it has no workspace")
    raise Conflict(f"job {job.name} has not begun yet, so it has no workspace")


def _require_workspace(now: Moment, job: Job, attempt: Attempt) -> None:
    """Raise unless the attempt runs, or its workspace was kept and its time is not over."""
    if attempt.state.phase is not Phase.FINISHED:
        return
    if attempt.kept_until is None:
        raise NotFound(f"job {job.name} has ended, and its workspace was not kept")
    if attempt.kept_until <= now:
        raise Gone(f"the workspace of job {job.name} was kept until {iso(attempt.kept_until)}, and is gone")


def _require_reachable(now: Moment, job: Job, attempt: Attempt, worker: Worker, lease: float) -> None:
    """Raise if the process that has the workspace is gone, or does not understand."""
    if attempt.session != worker.session or worker.removed_at is not None:
        raise Gone(f"the workspace of job {job.name} is gone: its worker {worker.name} has ended since")
    if not worker.connected or worker.seen_at + int(lease * SECOND) < now:
        raise Conflict(f"worker {worker.name}, which has the workspace of job {job.name}, is not connected")
    if worker.protocol < TERMINALS_SINCE:
        raise Conflict(
            f"worker {worker.name} speaks version {worker.protocol} of the worker protocol, which has no terminals: "
            "upgrade it"
        )


def _outdated(now: Moment) -> Moment:
    return Moment(now - int(ANSWER_S * SECOND))


async def withdraw_terminal(tx: Transaction, actor: Actor, key: str) -> None:
    """Nobody waits for this terminal any more; it was `actor` who wished for it, for nobody else knows the key."""
    require_known(actor)
    await terminals.remove(tx, key)


def require_known(actor: Actor) -> None:
    """Raise unless somebody is signed in who may run something."""
    if Permission.RUN not in actor.allowed:
        raise NotFound("terminal not found")


async def find_terminal(tx: Transaction, actor: Actor, key: str) -> WishedTerminal:
    """The wish that a worker answers; NotFound if nobody waits for it any more."""
    require_worker(actor)
    wished = await terminals.find(tx, key)
    if wished is None or wished.created_at < _outdated(tx.now):
        raise NotFound("nobody waits for this terminal")
    job = await jobs.get(tx, (await attempts.get(tx, wished.attempt)).job)
    if not serves(actor, (await builds.get(tx, job.build)).project):
        raise NotFound("nobody waits for this terminal")
    return wished


async def answer_terminal(tx: Transaction, actor: Actor, key: str) -> None:
    """A worker has opened its side: nobody else may. NotFound if somebody has."""
    await find_terminal(tx, actor, key)
    if not await terminals.remove(tx, key):
        raise NotFound("nobody waits for this terminal")


async def wishes_of(tx: Transaction, worker: Worker) -> tuple[TerminalWish, ...]:
    """The terminals that a worker is wished to open."""
    return tuple(
        TerminalWish(key=one.key, attempt=one.attempt, rows=one.rows, columns=one.columns, term=one.term)
        for one in await terminals.of_worker(tx, worker.id, since=_outdated(tx.now))
    )
