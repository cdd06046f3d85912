"""Reads the side services of a job in workflow files."""

import re
from typing import Any

import yaml

from buildyard.domain.specs import READY_S, ServiceSpec
from buildyard.engine.document_fields import Bad, Read, Reading, below, listing, mapping, pairs, seconds, text

MOST_SERVICES = 20
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


def read_services(reading: Reading, node: yaml.Node, path: str) -> tuple[ServiceSpec, ...]:
    """`{NAME: {image, command, env, ready, timeout}}`; a name is also the one by which steps reach the service."""
    entries = pairs(reading, node, path)
    if len(entries) > MOST_SERVICES:
        raise Bad(f"must not have more than {MOST_SERVICES} services")
    found = []
    for name, key, value in entries:
        at = below(path, name)
        if not _NAME.fullmatch(name) or name == "localhost":
            reading.fault(key, at, "is not a name for a service (lower-case letters, digits and -)")
            continue
        values = mapping(reading, value, at, _SERVICE)
        if isinstance(value, yaml.MappingNode) and not values.get("image"):
            reading.fault(value, f"{at}.image", "is missing")
        found.append(
            ServiceSpec(
                name=name,
                image=values.get("image", ""),
                command=values.get("command", ()),
                environment=values.get("env", {}),
                ready=values.get("ready", ""),
                ready_s=values.get("timeout", READY_S),
            )
        )
    return tuple(found)


def _environment(reading: Reading, node: yaml.Node, path: str) -> dict[str, str]:
    values: dict[str, Any] = {}
    for name, key, value in pairs(reading, node, path):
        if not _VARIABLE.fullmatch(name):
            reading.fault(key, below(path, name), "is not a name for a variable (letters, digits and _)")
            continue
        values[name] = text(reading, value, below(path, name))
    return values


_SERVICE: dict[str, Read] = {
    "image": text,
    "command": listing(text, single=False),
    "env": _environment,
    "ready": text,
    "timeout": seconds,
}
