"""Hands a job its secrets: in variables, and as files in its home folder, which is no part of what is kept."""

import os
import shlex

from buildyard.domain.errors import EngineError
from buildyard.domain.secrets import SecretKind
from buildyard.domain.specs import StepSpec
from buildyard.domain.states import Cause, Result
from buildyard.ports import Workspace
from buildyard.protocol import GrantedSecret
from buildyard.worker.bench import Bench
from buildyard.worker.commands import run_script
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.placing import place_private
from buildyard.worker.setup import failed
from buildyard.worker.step_log import StepLog

FIRST_KEY = ".ssh/id_rsa"
_NO_GPG = 77


def hand_out(held: HeldAttempt, workspace: Workspace, log: StepLog, variables: dict[str, str]) -> Ending | None:
    """Write the files and add the variables to `variables`; the ending if a file cannot be written."""
    try:
        for secret in held.grant.secrets:
            text = _hand_out(workspace, secret)
            if secret.variable:
                variables[secret.variable] = text
            log.say(f"secret {secret.name}: {_where(secret)}")
        _offer_first_key(held, workspace, log)
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
    whose = f", whose path is in {secret.variable}" if secret.variable else ""
    return f"in the file ~/{secret.path} (mode {secret.mode:04o}){whose}"


def _installed(held: HeldAttempt, kind: SecretKind) -> list[GrantedSecret]:
    return [secret for secret in held.grant.secrets if secret.installed and secret.kind == kind]


def _offer_first_key(held: HeldAttempt, workspace: Workspace, log: StepLog) -> None:
    """The first SSH key is also where ssh looks by itself, unless something else is there."""
    keys = _installed(held, SecretKind.SSH_KEY)
    if keys and not os.path.lexists(workspace.home / FIRST_KEY):
        place_private(workspace.home, FIRST_KEY, 0o600, keys[0].value)
        log.say(f"secret {keys[0].name}: also in the file ~/{FIRST_KEY}")


async def import_keys(
    bench: Bench, held: HeldAttempt, workspace: Workspace, log: StepLog, variables: dict[str, str]
) -> Ending | None:
    """Import PGP keys with the gpg that the job sees; the ending if it refuses one. Without gpg the file stays."""
    for secret in _installed(held, SecretKind.PGP_KEY):
        file = shlex.quote(f"{workspace.inside_home}/{secret.path}")
        script = f"command -v gpg >/dev/null 2>&1 || exit {_NO_GPG}\ngpg --batch --import {file}\nrm -f {file}\n"
        spec = StepSpec(name="import", run=script, shell="sh")  # noqa: S604 - the name of a program, no truth
        ended = await run_script(bench, held, workspace, spec, log, variables)
        if ended.result is Result.SUCCESS:
            log.say(f"secret {secret.name}: imported with gpg, and the file removed")
        elif ended.status == _NO_GPG and ended.result is Result.FAILURE:
            log.say(f"secret {secret.name}: not imported, for there is no gpg here; the file stays")
        else:
            how = ended.detail or f"gpg ended with status {ended.status}"
            detail = f"the PGP key {secret.name} could not be imported: {how}"
            return Ending(result=ended.result, cause=ended.cause, detail=detail)
    return None
