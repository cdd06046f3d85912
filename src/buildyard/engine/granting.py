"""What a leased job is given of secrets. They travel in the grant only; nothing here stores or says a value."""

from dataclasses import replace

import msgspec

from buildyard.domain.access import Actor
from buildyard.domain.errors import Fault, Invalid, Unavailable
from buildyard.domain.ids import AttemptId, JobId, PipelineVersionId
from buildyard.domain.secrets import INSTALL, Handing, SecretValue, handing, variable_fault
from buildyard.domain.specs import SecretUse
from buildyard.engine.keyring import Keyring
from buildyard.protocol import GrantedSecret, JobGrant
from buildyard.store import attempts, audit, pipelines, projects, secrets
from buildyard.store.attempts import GrantFacts
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project
from buildyard.store.secrets import Sealed, Secret
from buildyard.store.transactions import Transaction


class _Refused(Exception):
    """Why a job is given nothing at all."""


async def with_secrets(tx: Transaction, actor: Actor, keys: Keyring, grants: list[JobGrant]) -> list[JobGrant]:
    """The grants of jobs that a worker is about to get, with the secrets that they name.

    The audit log gets one entry for each attempt and secret. Only what a worker claims passes here: scripts for
    single steps are given no secrets.
    """
    return [await _with_secrets(tx, actor, keys, grant) if grant.spec.secrets else grant for grant in grants]


async def _with_secrets(tx: Transaction, actor: Actor, keys: Keyring, grant: JobGrant) -> JobGrant:
    facts = await attempts.grant_facts(tx, JobId(grant.job))
    try:
        found = await _find_all(tx, grant, facts)
        given = [_open(keys, *one) for one in found]
        _check(given)
    except _Refused as exc:
        return msgspec.structs.replace(grant, refused=str(exc))
    for use, secret, _ in sorted(found, key=lambda one: one[1].id):
        if await secrets.add_use(tx, secret.id, AttemptId(grant.attempt)):
            details = {"name": use.name, "build": grant.build_uid, "job": grant.spec.name, "attempt": grant.number}
            await audit.add(tx, actor, "secret.use", secret.uid, project=facts.project, details=details)
    return msgspec.structs.replace(grant, secrets=given)


async def _find_all(tx: Transaction, grant: JobGrant, facts: GrantFacts) -> list[tuple[SecretUse, Secret, Sealed]]:
    wanted = [use for use in grant.spec.secrets if grant.trusted or not use.optional]
    if wanted and not grant.trusted:
        names = ", ".join(use.name for use in wanted)
        raise _Refused(f"this build is not trusted, so its jobs are given no secrets; this one names {names}")
    account = (await projects.get(tx, facts.project)).account
    found = []
    for use in wanted:
        meant = await secrets.find_meant(tx, use.name, account=account, project=facts.project, pipeline=facts.pipeline)
        if meant is not None:
            found.append((use, *meant))
        elif not use.optional:
            raise _Refused(f"the job names the secret {use.name}, and there is none of that name")
    return found


def _open(keys: Keyring, use: SecretUse, secret: Secret, sealed: Sealed) -> GrantedSecret:
    """Decrypt a secret for a job."""
    try:
        value = keys.unseal(sealed.key, secret.uid, sealed.data)
    except Unavailable as exc:
        raise _Refused(f"the secret {use.name} cannot be read: {exc}") from None
    how = handing(replace(use, name=secret.name), secret.kind, path=secret.path, mode=secret.mode, uid=secret.uid)
    return GrantedSecret(
        name=use.name,
        value=_as_given(use, how, value),
        variable=how.variable,
        path=how.path,
        mode=how.mode,
        kind=secret.kind,
        installed=use.given == INSTALL,
    )


def _as_given(use: SecretUse, how: Handing, value: SecretValue) -> bytes:
    data = value.reveal()
    if how.variable and (fault := variable_fault(how.variable)):
        raise _Refused(f"the secret {use.name}: {how.variable} {fault}")
    if not how.path and b"\0" in data:
        raise _Refused(f"the secret {use.name} holds NUL bytes, so it can only be given as a file")
    return data


def _check(given: list[GrantedSecret]) -> None:
    """Two secrets cannot be in one place."""
    places = [("variable", one.variable) for one in given if one.variable] + [
        ("file", one.path) for one in given if one.path
    ]
    for kind, name in places:
        if places.count((kind, name)) > 1:
            raise _Refused(f"two secrets of the job would be in the {kind} {name}")


async def require_secrets(tx: Transaction, project: Project, pipeline: Pipeline, version: PipelineVersionId) -> None:
    """Raise Invalid unless there is every secret that jobs of the version cannot do without."""
    missing = [
        name
        for name in await pipelines.secrets_of(tx, version)
        if await secrets.find_meant(tx, name, account=project.account, project=project.id, pipeline=pipeline.id) is None
    ]
    if missing:
        message = f"there is no secret {', '.join(missing)} for {project.slug}:{pipeline.slug}"
        hint = f"set it with `buildyard secret set {missing[0]} --project {project.slug}`"
        raise Invalid(f"{message}; {hint}", tuple(Fault("secrets", message, "unknown_secret") for _ in missing[:1]))
