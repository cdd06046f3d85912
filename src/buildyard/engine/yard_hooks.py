"""Reads the hooks of a yard file: the doors at which forges report, with their secrets in files."""

from collections.abc import Callable

import yaml

from buildyard.domain.hooks import HOOK_NAME, Forge, Hook, secret_fault
from buildyard.engine.document_fields import Bad, Read, Reading, below, listing, mapping, one_of, pairs, text
from buildyard.engine.yard_triggers import slug

MOST_SECRETS = 8

Served = Callable[[yaml.Node, str, str], None]
"""Is told each project that a hook names, and where."""


def read_hooks(
    reading: Reading, node: yaml.Node, path: str, read_secret: Callable[[str], str], served: Served
) -> tuple[Hook, ...]:
    """`{NAME: {forge, secret_files, projects}}`."""

    def secret(reading: Reading, node: yaml.Node, path: str) -> str:
        return _secret(text(reading, node, path), read_secret)

    def project(reading: Reading, node: yaml.Node, path: str) -> str:
        name: str = slug(reading, node, path)
        served(node, path, name)
        return name

    readers: dict[str, Read] = {
        "forge": lambda reading, node, path: Forge(one_of(*Forge)(reading, node, path)),
        "secret_files": listing(secret, most=MOST_SECRETS),
        "projects": listing(project),
    }
    found: list[Hook] = []
    for key, key_node, value in pairs(reading, node, path):
        at = below(path, key)
        if not HOOK_NAME.fullmatch(key):
            reading.fault(key_node, at, "the name of a hook has at most 64 letters, digits, -, _ and .")
            continue
        before = len(reading.faults)
        values = mapping(reading, value, at, readers)
        for name in ("forge", "secret_files"):
            if len(reading.faults) == before and not values.get(name):
                reading.fault(value, f"{at}.{name}", "is missing")
        if len(reading.faults) == before:
            projects = frozenset(values.get("projects", ()))
            found.append(
                Hook(name=key, forge=values["forge"], secrets=tuple(values["secret_files"]), projects=projects)
            )
    return tuple(found)


def _secret(name: str, read_secret: Callable[[str], str]) -> str:
    try:
        secret = read_secret(name).strip()
    except OSError as exc:
        raise Bad(f"cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise Bad(f"cannot be read: {exc}") from exc
    if fault := secret_fault(secret):
        raise Bad(f"the secret in it {fault}")
    return secret
