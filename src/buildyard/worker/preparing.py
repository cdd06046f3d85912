"""The scripts that prepare a job's workspace: part of step 0, after source and secrets are there, before the steps."""

from buildyard.domain.specs import StepSpec
from buildyard.domain.states import Result
from buildyard.ports import Exit, Workspace
from buildyard.worker.bench import Bench
from buildyard.worker.commands import run_script
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.step_log import StepLog


async def prepare(
    bench: Bench, held: HeldAttempt, workspace: Workspace, step: StepLog, secrets: dict[str, str]
) -> Ending | None:
    """Run the job's `prepare` scripts in order; the ending if one fails, and then none after it was run."""
    executor = held.grant.spec.require.executor or bench.config.executor
    for spec in held.grant.spec.prepare:
        if spec.executor not in ("", executor):
            continue
        step.say(f"prepare: {spec.name}")
        ended = await run_script(bench, held, workspace, spec, step, secrets)
        if ended.result is not Result.SUCCESS:
            return _as_ending(ended, spec)
    return None


def _as_ending(ended: Exit, spec: StepSpec) -> Ending:
    how = ended.detail or f"ended with status {ended.status}"
    return Ending(result=ended.result, cause=ended.cause, detail=f"the job could not be prepared: {spec.name}: {how}")
