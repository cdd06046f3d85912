"""Hands a job its secrets: in variables, and as files in its home folder, which is no part of what is kept."""

import os

from buildyard.domain.errors import EngineError
from buildyard.domain.states import Cause
from buildyard.ports import Workspace
from buildyard.protocol import GrantedSecret
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.placing import place_private
from buildyard.worker.setup import failed
from buildyard.worker.step_log import StepLog


def hand_out(held: HeldAttempt, workspace: Workspace, log: StepLog, variables: dict[str, str]) -> Ending | None:
    """Write the files and add the variables to `variables`; the ending if a file cannot be written."""
    try:
        for secret in held.grant.secrets:
            variables[secret.variable] = _hand_out(workspace, secret)
            log.say(f"secret {secret.name}: {_where(secret)}")
    except (EngineError, OSError) as exc:
        return failed(exc, Cause.INPUTS)
    return None


def _hand_out(workspace: Workspace, secret: GrantedSecret) -> str:
    """The text of the secret's variable."""
    if not secret.path:
        return os.fsdecode(secret.value)
    place_private(workspace.home, secret.path, secret.mode, secret.value)
    return f"{workspace.inside_home}/{secret.path}"


def _where(secret: GrantedSecret) -> str:
    if not secret.path:
        return f"in the variable {secret.variable}"
    return f"in the file ~/{secret.path} (mode {secret.mode:04o}), whose path is in {secret.variable}"
