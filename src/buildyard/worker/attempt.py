"""Runs one attempt from its grant to its end: workspace, setup, steps, outputs, caches."""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field
from traceback import format_exception

import structlog

from buildyard.domain.errors import EngineError, Forbidden, NotFound
from buildyard.domain.specs import StepSpec
from buildyard.domain.states import Cause, Result
from buildyard.ports import Executor, Exit, Workspace, WorkspaceRequest
from buildyard.protocol import Started, StepGrant
from buildyard.worker.bench import Bench
from buildyard.worker.caches import Wanted, save_caches
from buildyard.worker.commands import run_script
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.keeping import announce_keeping, keep_seconds, keep_workspace
from buildyard.worker.outputs import keep_outputs
from buildyard.worker.preparing import prepare
from buildyard.worker.reports import read_reports
from buildyard.worker.secrets import hand_out, import_keys
from buildyard.worker.services import service_requests
from buildyard.worker.setup import failed, introduce, lay_in
from buildyard.worker.step_log import StepLog

log = structlog.get_logger()

_SUCCESS = Ending(result=Result.SUCCESS)
_SKIPPED = Ending(result=Result.SKIPPED)


@dataclass(slots=True)
class _Room:
    """What an attempt has opened so far, and for how long the workspace shall stay after the end."""

    workspace: Workspace | None = None
    caches: list[Wanted] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    kept_s: int = 0


async def run_attempt(bench: Bench, held: HeldAttempt) -> None:
    """Carry an attempt out, tell its end, clean up. Stopping it (see HeldAttempt.stop) cancels this task.

    When the end is told, nothing that the attempt started runs any more; only files are left to be removed, and not
    even those if the disk was full: what comes next shall find room.
    """
    limits = held.grant.spec.limits
    over = Ending(result=Result.TIMEOUT, cause=Cause.WALL, detail=f"wall time limit of {limits.wall_s} s reached")
    timer = asyncio.get_running_loop().call_later(limits.wall_s, held.stop, over)
    room = _Room()
    held.reel.add(Started(attempt=held.grant.attempt, token=""))
    try:
        ending = await _ending(bench, held, room)
        if ending.cause is Cause.STORAGE or held.grant.spec.services:
            await _close(room, held)
        if not keep_seconds(held.grant.spec, ending) or room.workspace is None:
            room.kept_s = 0
        held.finish(ending, kept_s=room.kept_s)
        _hand_over(bench, held, room)
    finally:
        timer.cancel()
        bench.rooms.give_up(held.grant.attempt)
        await _close(room, held)


def _hand_over(bench: Bench, held: HeldAttempt, room: _Room) -> None:
    """The workspace stays if that was promised."""
    if room.kept_s and room.workspace is not None:
        workspace, room.workspace = room.workspace, None
        keep_workspace(bench, held, workspace, room.secrets, room.kept_s)


async def _announce(bench: Bench, held: HeldAttempt, room: _Room, step: StepLog, ended: Exit | Ending) -> None:
    """The last lines of the last log."""
    room.kept_s = await announce_keeping(bench, held, room.workspace, step, ended)


async def _ending(bench: Bench, held: HeldAttempt, room: _Room) -> Ending:
    """How the attempt ended, whatever happened."""
    try:
        return await _set_up(bench, held, room) or await _run_steps(bench, held, room)
    except asyncio.CancelledError:
        if held.stopped is None:
            raise
        _take_back_cancelling()
        return held.stopped
    except Exception as exc:  # noqa: BLE001 - logged with its traceback, which must be masked
        log.error("attempt_failed", attempt=held.grant.attempt, error=held.masked("".join(format_exception(exc))))
        return Ending(
            result=Result.ERROR, cause=Cause.EXECUTOR, detail=f"the worker failed: {type(exc).__name__}: {exc}"
        )


def _take_back_cancelling() -> None:
    """The wish to cancel was heard; the task goes on to tell the end and to clean up."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


async def _set_up(bench: Bench, held: HeldAttempt, room: _Room) -> Ending | None:
    """Step 0; the ending if it did not go well."""
    step = StepLog(held, _rows(held)[0])
    try:
        ending = await _open(bench, held, room, step)
        if ending is None and room.workspace is not None:
            ending = await lay_in(bench, held, room.workspace, step, room.caches)
        if ending is None and room.workspace is not None:
            ending = hand_out(held, room.workspace, step, room.secrets)
        if ending is None and room.workspace is not None:
            ending = await import_keys(bench, held, room.workspace, step, room.secrets)
        if ending is None and room.workspace is not None:
            ending = await prepare(bench, held, room.workspace, step, room.secrets)
    except asyncio.CancelledError:
        _tell_stop(held, step)
        raise
    if ending is not None:
        step.say(ending.detail)
    if ending is not None or not held.grant.spec.steps:
        await _announce(bench, held, room, step, ending or _SUCCESS)
    step.finish(ending or _SUCCESS)
    return ending


async def _open(bench: Bench, held: HeldAttempt, room: _Room, step: StepLog) -> Ending | None:
    if held.grant.refused:
        return Ending(result=Result.ERROR, cause=Cause.INPUTS, detail=held.grant.refused)
    name = held.grant.spec.require.executor or bench.config.executor
    executor = bench.executors.get(name)
    if executor is None:
        offered = ", ".join(sorted(bench.executors))
        detail = f"this worker has no executor {name} (it has {offered})"
        return Ending(result=Result.ERROR, cause=Cause.UNSUPPORTED, detail=detail)
    introduce(bench, held, executor, step)
    if held.grant.spec.services and executor.name != "container":
        detail = f"the job has services, which need a worker with the executor container; this one has {executor.name}"
        return Ending(result=Result.ERROR, cause=Cause.UNSUPPORTED, detail=detail)
    try:
        room.workspace = await _open_whole(executor, _request(bench, held, step))
    except NotFound as exc:
        return failed(exc, Cause.UNSUPPORTED)
    except EngineError as exc:
        return failed(exc, Cause.EXECUTOR)
    return None


async def _open_whole(executor: Executor, request: WorkspaceRequest) -> Workspace:
    """Open a workspace; if that is cancelled too late to keep it from being made, close it, for nobody else will."""
    opening = asyncio.ensure_future(executor.open(request))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.cancel()
        with suppress(EngineError, asyncio.CancelledError):
            await (await opening).close()
        raise


def _request(bench: Bench, held: HeldAttempt, step: StepLog) -> WorkspaceRequest:
    """The workspace that a job asks for. Raises Forbidden if it may not have the host's network."""
    grant = held.grant
    if grant.spec.network == "host" and not (grant.trusted and bench.config.host_network):
        raise Forbidden("no job gets the host's network here (setting worker.host_network)")
    key = f"{grant.attempt}-{bench.session[:8]}"
    return WorkspaceRequest(
        key=key,
        marker=key,
        image=grant.image_url or grant.spec.image,
        limits=grant.spec.limits,
        network=grant.spec.network,
        trusted=grant.trusted,
        say=step.say,
        services=service_requests(held),
        at_home=grant.spec.at_home,
    )


def _rows(held: HeldAttempt) -> dict[int, StepGrant]:
    """The server's rows of the steps by number; 0 is `setup`."""
    return {row.number: row for row in held.grant.steps}


async def _run_steps(bench: Bench, held: HeldAttempt, room: _Room) -> Ending:
    """The steps in order, up to the first that fails or the one that says that the job is done.

    Outputs and caches are told of in the log of the last one that ran.
    """
    assert room.workspace is not None
    rows = _rows(held)
    specs = held.grant.spec.steps
    for number, spec in enumerate(specs, 1):
        step = StepLog(held, rows[number])
        ended = await _run_step(bench, held, room, spec, step)
        if ended.result is not Result.SUCCESS:
            await _report(held, room, step)
            await _announce(bench, held, room, step, ended)
            step.finish(ended)
            return _as_ending(ended, rows[number])
        if number < len(specs) and not _is_done(held, room.workspace):
            step.finish(ended)
            continue
        try:
            ending = await _keep(bench, held, room, step)
            await _announce(bench, held, room, step, ending)
            return ending
        except asyncio.CancelledError:
            if held.stopped is not None:
                step.say(held.stopped.detail)
            raise
        finally:
            step.finish(ended)
            for later in range(number + 1, len(specs) + 1):
                StepLog(held, rows[later]).finish(_SKIPPED)
    return _SUCCESS


def _is_done(held: HeldAttempt, workspace: Workspace) -> bool:
    """Whether a step has left the file that says that the rest of the job is not needed."""
    name = held.grant.spec.done_file
    return bool(name) and os.path.lexists(workspace.home / name)


async def _run_step(bench: Bench, held: HeldAttempt, room: _Room, spec: StepSpec, step: StepLog) -> Exit:
    """One command; if it is stopped, its end is told here."""
    assert room.workspace is not None
    step.start()
    try:
        ended = await run_script(bench, held, room.workspace, spec, step, room.secrets)
    except asyncio.CancelledError:
        if held.stopped is not None:
            step.say(held.stopped.detail)
            await _announce(bench, held, room, step, held.stopped)
            step.finish(held.stopped)
        raise
    if ended.detail:
        step.say(ended.detail)
    return ended


def _tell_stop(held: HeldAttempt, step: StepLog) -> None:
    """What stopped the attempt is the end of the step that it met."""
    if held.stopped is not None:
        step.say(held.stopped.detail)
        step.finish(held.stopped)


async def _keep(bench: Bench, held: HeldAttempt, room: _Room, step: StepLog) -> Ending:
    """After success: outputs, then caches. What goes wrong with outputs is the attempt's end."""
    assert room.workspace is not None
    folder = room.workspace.folder
    if ending := await _report(held, room, step):
        step.say(ending.detail)
        return ending
    outputs = await keep_outputs(bench, held, folder, step) if held.grant.spec.outputs else ()
    if isinstance(outputs, Ending):
        step.say(outputs.detail)
        return outputs
    caches = await save_caches(bench, folder, step, room.caches)
    return Ending(result=Result.SUCCESS, outputs=outputs, caches=tuple(caches))


async def _report(held: HeldAttempt, room: _Room, step: StepLog) -> Ending | None:
    """What the job's reports say goes with its end."""
    if room.workspace is None or not held.grant.spec.reports:
        return None
    return await read_reports(held, room.workspace.folder, step)


def _as_ending(ended: Exit, step: StepGrant) -> Ending:
    detail = ended.detail or f"step {step.name} ended with status {ended.status}"
    return Ending(result=ended.result, cause=ended.cause, detail=detail)


async def _close(room: _Room, held: HeldAttempt) -> None:
    """Remove the workspace if there is one, also when a late wish to stop arrives."""
    if room.workspace is None:
        return
    workspace, room.workspace = room.workspace, None
    closing = asyncio.ensure_future(workspace.close())
    while not closing.done():
        try:
            await asyncio.wait({closing})
        except asyncio.CancelledError:
            if held.stopped is None:
                await asyncio.wait({closing})
                raise
    if closing.exception() is not None:
        log.error("workspace_not_removed", attempt=held.grant.attempt, error=held.masked(str(closing.exception())))
