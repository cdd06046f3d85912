"""The parts of a workflow file that hold work up: `locks` and `approval` of a job, `concurrency` of all its builds."""

import re
from dataclasses import dataclass

import yaml

from buildyard.domain.access import Role
from buildyard.domain.blocking import unknown_variables
from buildyard.domain.specs import SHARED, Approval, Concurrency, LockScope
from buildyard.engine.document_fields import (
    Bad,
    Read,
    Reading,
    below,
    listing,
    mapping,
    matching,
    one_of,
    seconds,
    text,
    truth,
    whole,
)

MOST_HOLDERS = 10_000
MOST_LOCKS = 20
MOST_APPROVERS = 100
MESSAGE_LENGTH = 500
WORKER = "worker"

_LOCK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/+-]{0,99}")
_USERNAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_GROUP = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9._:/+${}-]{0,199}")


@dataclass(frozen=True, slots=True)
class LockEntry:
    """A lock as a file names it; `scope` None is the worker's."""

    name: str
    scope: LockScope | None
    most: int


def read_locks(reading: Reading, node: yaml.Node, path: str) -> tuple[LockEntry, ...]:
    """Names, or `{name, scope, count, shared}`; each lock once."""
    entries: tuple[LockEntry | None, ...] = listing(_lock, most=MOST_LOCKS)(reading, node, path)
    found = tuple(one for one in entries if one is not None)
    if len({(one.name, one.scope) for one in found}) != len(found):
        raise Bad("holds a lock twice")
    return found


def _lock(reading: Reading, node: yaml.Node, path: str) -> LockEntry | None:
    if isinstance(node, yaml.ScalarNode):
        return LockEntry(_lock_name(reading, node, path), LockScope.PROJECT, 1)
    values = mapping(reading, node, path, _LOCK)
    if "name" not in values:
        reading.fault(node, f"{path}.name", "is missing, or is not the name of a lock")
        return None
    if values.get("shared") and "count" in values:
        reading.fault(node, f"{path}.count", "a lock is either shared or counted")
    word = values.get("scope", LockScope.PROJECT)
    most = SHARED if values.get("shared") else values.get("count", 1)
    return LockEntry(values["name"], None if word == WORKER else LockScope(word), most)


def read_approval(reading: Reading, node: yaml.Node, path: str) -> Approval:
    """`{users, roles, expires, message}`; somebody must be named."""
    before = len(reading.faults)
    values = mapping(reading, node, path, _APPROVAL)
    if not values.get("users") and not values.get("roles") and len(reading.faults) == before:
        reading.fault(node, below(path, "users"), "is missing: an approval names users, roles or both")
    return Approval(
        users=values.get("users", ()),
        roles=values.get("roles", ()),
        expires_s=values.get("expires"),
        message=values.get("message", ""),
    )


def _message(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if len(value) > MESSAGE_LENGTH or not value.isprintable():
        raise Bad(f"must be one line of at most {MESSAGE_LENGTH} characters")
    return value


def read_concurrency(reading: Reading, node: yaml.Node, path: str) -> Concurrency | None:
    """A group's name, or `{group, limit, cancel}`."""
    if isinstance(node, yaml.ScalarNode):
        return Concurrency(group=_group(reading, node, path))
    before = len(reading.faults)
    values = mapping(reading, node, path, _CONCURRENCY)
    if "group" not in values:
        if len(reading.faults) == before:
            reading.fault(node, below(path, "group"), "is missing")
        return None
    return Concurrency(
        group=values["group"], limit=values.get("limit", 1), cancel_older=values.get("cancel") == "older"
    )


def _group(reading: Reading, node: yaml.Node, path: str) -> str:
    value = matching(_GROUP, "the name of a group: letters, digits, . _ : / + - and $branch, $commit, $pipeline")(
        reading, node, path
    )
    if unknown := unknown_variables(value):
        raise Bad(f"there is no ${unknown[0]} here; known are $branch, $commit, $pipeline")
    return str(value)


_lock_name = matching(_LOCK_NAME, "the name of a lock (letters, digits and . _ : / + -)")
_LOCK: dict[str, Read] = {
    "name": _lock_name,
    "scope": one_of(*LockScope, WORKER),
    "count": whole(1, MOST_HOLDERS),
    "shared": truth,
}
_APPROVAL: dict[str, Read] = {
    "users": listing(matching(_USERNAME, "the name of a user"), most=MOST_APPROVERS),
    "roles": listing(one_of(*(role.name.lower() for role in Role))),
    "expires": seconds,
    "message": _message,
}
_CONCURRENCY: dict[str, Read] = {
    "group": _group,
    "limit": whole(1, MOST_HOLDERS),
    "cancel": one_of("older", "none"),
}
