"""Tokens that jobs get of this server: as long-lived as the attempt, for its project, and for jobs alone."""

import base64
import hmac

import msgspec

from buildyard.domain.access import Actor
from buildyard.domain.ids import SECOND, AttemptId, BuildId, Moment
from buildyard.domain.specs import TokenUse
from buildyard.engine.identity import token_digest
from buildyard.protocol import GrantedSecret, JobGrant
from buildyard.store import attempts, audit, builds, identity
from buildyard.store.transactions import Transaction

SCOPES = frozenset({"jobs:read", "jobs:write"})
"""What a job's token may be for: no more than whoever may have the job run may do anyway."""

_MARGIN_S = 3600


async def with_tokens(tx: Transaction, actor: Actor, grants: list[JobGrant]) -> list[JobGrant]:
    """The grants of jobs that a worker is about to get, with the tokens that they ask for.

    A token counts until its attempt has ended, however it ends. A repeated grant holds the same one: it follows from
    the fencing token, which only the worker's process and the server know.
    """
    return [await _with_token(tx, actor, grant, grant.spec.token) if grant.spec.token else grant for grant in grants]


async def _with_token(tx: Transaction, actor: Actor, grant: JobGrant, use: TokenUse) -> JobGrant:
    build = await builds.get(tx, BuildId(grant.build))
    if not grant.trusted or build.submitter is None:
        why = "nobody submitted this build" if grant.trusted else "this build is not trusted"
        return msgspec.structs.replace(grant, notes=[*grant.notes, f"{use.variable}: no token, for {why}"])
    scopes = tuple(scope for scope in use.scopes if scope in SCOPES)
    secret = _secret_of(grant)
    digest = token_digest(secret)
    if await identity.find_token(tx, digest) is None:
        attempt = await attempts.get(tx, AttemptId(grant.attempt))
        token = await identity.add_token(
            tx,
            digest,
            build.submitter,
            name=f"build {grant.build}, attempt {grant.number}",
            scopes=scopes,
            project=build.project,
            labels=(),
            expires_at=Moment(attempt.leased_at + (grant.spec.limits.wall_s + _MARGIN_S) * SECOND),
            attempt=attempt.id,
        )
        details = {"build": grant.build_uid, "attempt": grant.number, "scopes": list(scopes)}
        await audit.add(tx, actor, "token.lend", token.id, project=build.project, details=details)
    given = GrantedSecret(name="token of this job", value=secret.encode(), variable=use.variable)
    return msgspec.structs.replace(grant, secrets=[*grant.secrets, given])


def _secret_of(grant: JobGrant) -> str:
    derived = hmac.digest(grant.token.encode(), b"token of the job", "sha256")
    return f"by_{base64.urlsafe_b64encode(derived).decode().rstrip('=')}"
