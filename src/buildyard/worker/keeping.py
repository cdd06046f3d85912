"""Whether a job's workspace stays after the end, and the last lines of its log, which say so."""

from buildyard.domain.ids import SECOND, Moment, iso
from buildyard.domain.specs import JobSpec, StepSpec
from buildyard.domain.states import Cause, Result
from buildyard.ports import Exit, Workspace
from buildyard.worker.bench import Bench
from buildyard.worker.environment import step_command
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.rooms import Place
from buildyard.worker.step_log import StepLog


def keep_seconds(spec: JobSpec, ended: Exit | Ending) -> int:
    """For how long the workspace of a job that ended so shall stay; what was cancelled is not looked at."""
    if ended.result in (Result.CANCELLED, Result.SKIPPED) or ended.cause in (Cause.STORAGE, Cause.LOST):
        return 0
    return spec.keep_s if ended.result is Result.SUCCESS else max(spec.keep_s, spec.keep_failed_s)


async def announce_keeping(
    bench: Bench, held: HeldAttempt, workspace: Workspace | None, log: StepLog, ended: Exit | Ending
) -> int:
    """Decide whether the workspace stays, and say in the log until when and how to get in; the seconds."""
    spec = held.grant.spec
    seconds = keep_seconds(spec, ended)
    if not seconds or workspace is None:
        return 0
    if spec.services:
        refusal = "the job has services, which end with it"
    else:
        config = bench.config
        refusal = await bench.rooms.reserve(
            held.grant.attempt,
            tuple(dict.fromkeys((workspace.folder, workspace.home))),
            most=config.kept_workspaces,
            most_bytes=config.kept_bytes,
        )
    if refusal:
        log.say(f"the workspace is not kept: {refusal}")
        return 0
    until = iso(Moment(held.reel.now() + seconds * SECOND))
    log.say(f"the workspace stays until {until}; to get in: buildyard attach {held.grant.build} {spec.name}")
    return seconds


def keep_workspace(
    bench: Bench, held: HeldAttempt, workspace: Workspace, secrets: dict[str, str], seconds: int
) -> None:
    """Hand the workspace over to those that are kept; shells in it have the variables of the job's steps."""
    nothing = StepSpec(name="attach", run="")
    command = step_command(bench.config, held.grant, nothing, "", workspace.inside, secrets)
    bench.rooms.keep(held.grant.attempt, Place(workspace, command), seconds)
