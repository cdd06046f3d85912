"""What a build as a whole passes before its jobs may run: an approval and the time it is to start, then its group."""

from dataclasses import dataclass

from buildyard.domain import transitions
from buildyard.domain.blocking import BlockerKind, Gate, group_name
from buildyard.domain.builds import Build
from buildyard.domain.ids import SECOND, BuildId, JobId, Moment, PipelineVersionId, ProjectId
from buildyard.domain.specs import Approval, Concurrency
from buildyard.domain.states import Cause, Result
from buildyard.engine.locking import ask_for_group, ask_for_locks, group_lock, open_build
from buildyard.engine.stopping import stop_locked
from buildyard.store import blockers, builds, jobs, locks, pipelines
from buildyard.store.jobs import Asker
from buildyard.store.pipelines import StoredJob
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Entrance:
    """What a new build has to pass; `lock` is its group's. `held`: somebody has to start it."""

    concurrency: Concurrency | None
    lock: int | None
    approval: Approval | None
    start_at: Moment | None
    held: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the build may begin at once."""
        return self.concurrency is None and self.approval is None and self.start_at is None and not self.held


async def entrance_of(
    tx: Transaction,
    project: ProjectId,
    version: PipelineVersionId,
    values: dict[str, str],
    *,
    approval: Approval | None,
    start_at: Moment | None,
    held: bool = False,
) -> Entrance:
    """What a build of this version has to pass; `values` are those of the variables in its group's name."""
    concurrency = await pipelines.concurrency_of(tx, version)
    lock = await group_lock(tx, project, group_name(concurrency.group, values)) if concurrency else None
    return Entrance(concurrency, lock, approval, start_at if start_at and start_at > tx.now else None, held)


async def set_up(tx: Transaction, build: Build, entrance: Entrance, gated: dict[JobId, StoredJob]) -> None:
    """Write what a new build and its jobs wait for beside their needs."""
    project, key = build.project, build.id
    if entrance.approval is not None:
        await _add_approval(tx, build, None, entrance.approval)
    if entrance.start_at is not None:
        await blockers.add(tx, BlockerKind.SCHEDULE, project=project, build=key, until=entrance.start_at)
    if entrance.held:
        await blockers.add(tx, BlockerKind.START, project=project, build=key)
    for job, stored in gated.items():
        if stored.gates & Gate.APPROVAL:
            approval = (await pipelines.job_spec(tx, stored.id)).approval
            assert approval is not None
            await _add_approval(tx, build, job, approval)
    if not entrance.is_open:
        await pass_on(tx, build)
    await ask_for_locks(
        tx,
        [
            Asker(job, key, project, stored.id)
            for job, stored in gated.items()
            if stored.gates & (Gate.LOCKS | Gate.APPROVAL) == Gate.LOCKS and not stored.needs and entrance.is_open
        ],
    )


async def _add_approval(tx: Transaction, build: Build, job: JobId | None, approval: Approval) -> None:
    until = None if approval.expires_s is None else Moment(tx.now + approval.expires_s * SECOND)
    await blockers.add(
        tx, BlockerKind.APPROVAL, project=build.project, build=build.id, job=job, until=until, approval=approval
    )


async def pass_on(tx: Transaction, build: Build) -> None:
    """Let a locked build that waits as a whole take its next step: into its group, or on its way."""
    if any(one.job is None for one in await blockers.of_build(tx, build.id)):
        return
    concurrency = await pipelines.concurrency_of(tx, build.pipeline_version)
    if concurrency is None or build.concurrency is None:
        await open_build(tx, build.id)
        return
    if concurrency.cancel_older:
        await _supersede(tx, build, build.concurrency)
    await ask_for_group(tx, build, concurrency, await locks.group_of(tx, build.concurrency))


async def _supersede(tx: Transaction, build: Build, lock: int) -> None:
    """End all other builds of the group. Who enters while this begins has been seen once the lock's row is held."""
    ended: set[BuildId] = {build.id}
    while True:
        others = sorted(await locks.builds_of(tx, lock) - ended)
        for key in others:
            await jobs.lock_queued(tx, key)
        await builds.get_many(tx, others, lock=True)
        for key in reversed(others):
            await _end_superseded(tx, await builds.get(tx, key), build)
        ended.update(others)
        await locks.hold_rows(tx, [lock])
        if not await locks.builds_of(tx, lock) - ended:
            return


async def _end_superseded(tx: Transaction, before: Build, by: Build) -> None:
    """End a build for one that takes its place: as skipped if it never ran."""
    wished = transitions.supersede_build(before, by)
    if wished is not before and not before.cancel_requested:
        result = Result.CANCELLED if transitions.has_run(before) else Result.SKIPPED
        detail = f"superseded by build {by.id}"
        await stop_locked(tx, before, wished, detail=detail, result=result, cause=Cause.SUPERSEDED)
