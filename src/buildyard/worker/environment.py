"""The variables and the command line of a step, as a worker runs it."""

from buildyard.domain.specs import StepSpec
from buildyard.domain.step_rules import Surroundings, shell_of, variables_of
from buildyard.ports import Command
from buildyard.protocol import JobGrant
from buildyard.worker.config import WorkerConfig


def step_command(
    config: WorkerConfig, grant: JobGrant, step: StepSpec, script: str, inside: str, secrets: dict[str, str]
) -> Command:
    """How a step is run: `script` is the path of its script as the command sees it, `inside` that of the workspace.

    Variables of `secrets` win over the job's own of the same name.
    """
    where = Surroundings(
        attempt=str(grant.number),
        build=grant.build_uid,
        build_number=grant.build_number,
        executor=grant.spec.require.executor or config.executor,
        job=grant.job_uid,
        pipeline=grant.pipeline,
        project=grant.project,
        worker=config.name,
        workspace=inside,
    )
    return Command(
        argv=(*shell_of(step), script),
        environment=variables_of(grant.spec, step, where, config.variables, grant.environment) | secrets,
        timeout_s=step.timeout_s,
        silent_s=grant.spec.limits.silent_s,
        pty=step.pty,
    )
