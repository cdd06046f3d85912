"""Secrets of the one who asks, never their values, and giving them to others."""

from typing import TYPE_CHECKING, Any

from buildyard.apis.sourcehut.graphql.context import Context, Info, Resolvers
from buildyard.apis.sourcehut.graphql.scalars import cursor_of, start_of
from buildyard.apis.sourcehut.graphql.users import user
from buildyard.domain.secrets import PATHS, SecretKind
from buildyard.engine.own_secrets import list_own_secrets, share_secret
from buildyard.engine.profiles import load_profiles

if TYPE_CHECKING:
    from buildyard.store.secrets import Secret

PAGE = 25
KINDS = {
    SecretKind.SSH_KEY: "SSHKey",
    SecretKind.PGP_KEY: "PGPKey",
    SecretKind.FILE: "SecretFile",
    SecretKind.VARIABLE: "SecretFile",
    SecretKind.REGISTRY: "SecretFile",
}
"""The schema knows three kinds; a job gets the others as files too if it asks for them so."""


def secret(found: "Secret") -> dict[str, object]:
    """A secret as the schema has it."""
    return {
        "__typename": KINDS[found.kind],
        "id": found.id,
        "created": found.created_at,
        "uuid": found.uid,
        "name": found.name or None,
        "from": found.from_user,
        "path": f"~/{found.path or PATHS[found.kind].format(name=found.name or found.uid)}",
        "mode": found.mode,
    }


async def secrets(_source: Any, info: Info, *, cursor: str | None = None) -> dict[str, object]:
    """A page of the asker's secrets, newest first."""
    context = info.context
    start = start_of("secrets", cursor)
    found = await context.engine.read(list_own_secrets, context.actor, start=start, limit=PAGE + 1)
    context.spend(objects=len(found))
    following = found[PAGE].id if len(found) > PAGE else None
    return {"results": [secret(one) for one in found[:PAGE]], "cursor": cursor_of("secrets", following)}


async def from_user(source: dict[str, Any], info: Info) -> dict[str, object] | None:
    """Who gave a secret, if somebody did."""
    found = await info.context.load(load_profiles, source["from"]) if source["from"] else None
    return user(found) if found else None


async def share(_source: Any, info: Info, *, uuid: str, user: str) -> dict[str, object]:
    """Give a copy of a secret to somebody."""
    context: Context = info.context
    name = user.removeprefix("~")
    return secret(await context.engine.run(share_secret, context.actor, uuid, name, context.engine.keys))


RESOLVERS: Resolvers = {
    "Query": {"secrets": secrets},
    "Mutation": {"shareSecret": share},
    "SSHKey": {"fromUser": from_user},
    "PGPKey": {"fromUser": from_user},
    "SecretFile": {"fromUser": from_user},
}
