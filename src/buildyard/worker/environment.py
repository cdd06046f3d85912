"""The variables and the command line of a step."""

from buildyard.domain.specs import StepSpec
from buildyard.ports import Command
from buildyard.protocol import JobGrant
from buildyard.worker.config import WorkerConfig

_DEFAULTS = {"CI": "true", "LANG": "C.UTF-8", "TERM": "dumb"}
_SHELLS = {
    "bash": ("bash", "--noprofile", "--norc", "-e"),
    "sh": ("sh", "-e"),
}
"""How known shells are started, so that the first failing command ends the script; others get the script alone."""


def step_command(config: WorkerConfig, grant: JobGrant, step: StepSpec, script: str, inside: str) -> Command:
    """How a step is run: `script` is the path of its script as the command sees it, `inside` that of the workspace."""
    shell = _SHELLS.get(step.shell) or tuple(step.shell.split())
    return Command(
        argv=(*shell, script),
        environment=_environment(config, grant, step, inside),
        timeout_s=step.timeout_s,
        silent_s=grant.spec.limits.silent_s,
    )


def _environment(config: WorkerConfig, grant: JobGrant, step: StepSpec, inside: str) -> dict[str, str]:
    """From the least to the most particular; what says who and where cannot be overridden."""
    return {
        **_DEFAULTS,
        **config.variables,
        **grant.environment,
        **grant.spec.environment,
        **step.environment,
        "BUILDYARD": "true",
        "BUILDYARD_ATTEMPT": str(grant.number),
        "BUILDYARD_BUILD_ID": grant.build_uid,
        "BUILDYARD_BUILD_NUMBER": str(grant.build_number),
        "BUILDYARD_JOB": grant.spec.name,
        "BUILDYARD_JOB_ID": grant.job_uid,
        "BUILDYARD_PIPELINE": grant.pipeline,
        "BUILDYARD_PROJECT": grant.project,
        "BUILDYARD_STEP": step.name,
        "BUILDYARD_WORKER": config.name,
        "BUILDYARD_WORKSPACE": inside,
    }
