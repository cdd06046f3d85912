"""How a step's script is run, by whichever means: its shell and its variables."""

from collections.abc import Mapping
from dataclasses import dataclass

from buildyard.domain.specs import JobSpec, StepSpec

DEFAULTS = {"CI": "true", "LANG": "C.UTF-8", "TERM": "dumb"}
IN_TERMINAL = {"TERM": "xterm-256color"}
"""What a step in a pseudo-terminal gets instead, so that programs print colours."""

_SHELLS = {
    "bash": ("bash", "--noprofile", "--norc", "-e"),
    "sh": ("sh", "-e"),
}
"""How known shells are started, so that the first failing command ends the script; others get the script alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a step is told of where it runs; `workspace` is the path as the step sees it."""

    attempt: str
    build: str
    build_number: int
    executor: str
    job: str
    pipeline: str
    project: str
    worker: str
    workspace: str


def shell_of(step: StepSpec) -> tuple[str, ...]:
    """The words before the path of the script."""
    return _SHELLS.get(step.shell) or tuple(step.shell.split())


def variables_of(spec: JobSpec, step: StepSpec, where: Surroundings, *outer: Mapping[str, str]) -> dict[str, str]:
    """From the least to the most particular: `outer` (the worker's, then the server's), the job's, the step's.

    What says who and where cannot be overridden.
    """
    found = DEFAULTS | (IN_TERMINAL if step.pty else {})
    for variables in (*outer, spec.environment, step.environment):
        found |= variables
    return found | {
        "BUILDYARD": "true",
        "BUILDYARD_ATTEMPT": where.attempt,
        "BUILDYARD_BUILD_ID": where.build,
        "BUILDYARD_BUILD_NUMBER": str(where.build_number),
        "BUILDYARD_EXECUTOR": where.executor,
        "BUILDYARD_JOB": spec.name,
        "BUILDYARD_JOB_ID": where.job,
        "BUILDYARD_PIPELINE": where.pipeline,
        "BUILDYARD_PROJECT": where.project,
        "BUILDYARD_STEP": step.name,
        "BUILDYARD_WORKER": where.worker,
        "BUILDYARD_WORKSPACE": where.workspace,
    }
