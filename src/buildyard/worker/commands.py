"""Runs a step's script in a workspace: its file, its command, its end when the attempt is stopped meanwhile."""

import asyncio

import structlog

from buildyard.domain.errors import EngineError
from buildyard.domain.specs import StepSpec
from buildyard.domain.states import Cause
from buildyard.ports import Exit, Workspace
from buildyard.worker.bench import Bench
from buildyard.worker.environment import step_command
from buildyard.worker.held import HeldAttempt
from buildyard.worker.placing import place_script, remove_script
from buildyard.worker.rooms import Place
from buildyard.worker.setup import failed
from buildyard.worker.step_log import StepLog

log = structlog.get_logger()


async def run_script(
    bench: Bench, held: HeldAttempt, workspace: Workspace, spec: StepSpec, step: StepLog, secrets: dict[str, str]
) -> Exit:
    """Run one script, its output in `step`. When this is cancelled, nothing of it runs any more once it returns."""
    script = ""
    try:
        script = place_script(workspace.folder, spec.run)
        where = f"{workspace.inside}/{script}"
        command = step_command(bench.config, held.grant, spec, where, workspace.inside, secrets)
        with bench.rooms.shown(held.grant.attempt, Place(workspace, command)):
            running = asyncio.ensure_future(workspace.run(command, step.write))
            ended = await _until_stopped(workspace, running)
    except (EngineError, OSError) as exc:
        ending = failed(exc, Cause.EXECUTOR)
        ended = Exit(status=126, result=ending.result, cause=ending.cause, detail=ending.detail)
    finally:
        if script:
            remove_script(workspace.folder, script)
    return ended


async def _until_stopped(workspace: Workspace, running: asyncio.Future[Exit]) -> Exit:
    """The command's end; when this is cancelled, its end after it was killed."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            await workspace.kill()
            await asyncio.wait({running}, timeout=0.05)
        if running.exception() is not None:
            log.warning("kill_failed", error=str(running.exception()))
        raise
