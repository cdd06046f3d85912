"""Reads which secrets a job of a workflow file names, and how it wants them."""

import re
from collections import Counter

import yaml

from buildyard.domain.secrets import home_path, name_fault, path_faults, variable_fault
from buildyard.domain.specs import SecretUse
from buildyard.engine.document_fields import Bad, Read, Reading, listing, mapping, one_of, text, truth

_MODE = re.compile(r"0?[0-7]{3}|0o[0-7]{3}")


def _name(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if fault := name_fault(value):
        raise Bad(f"the name of a secret {fault}")
    return value


def _variable(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if fault := variable_fault(value):
        raise Bad(fault)
    return value


def _path(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    for fault in path_faults(value, path):
        reading.fault(node, fault.path, fault.message, fault.code)
    return home_path(value)


def _mode(reading: Reading, node: yaml.Node, path: str) -> int:
    value = text(reading, node, path)
    if not _MODE.fullmatch(value):
        raise Bad(f"must be permission bits such as 0600, not {value[:20]!r}")
    return int(value.removeprefix("0o"), 8)


def _use(reading: Reading, node: yaml.Node, path: str) -> SecretUse:
    """A name, or `{name, as, variable, path, mode, optional}`."""
    if isinstance(node, yaml.ScalarNode):
        return SecretUse(name=_name(reading, node, path))
    values = mapping(reading, node, path, _USE)
    if "name" not in values:
        if isinstance(node, yaml.MappingNode) and not any(fault.path == f"{path}.name" for fault in reading.faults):
            reading.fault(node, f"{path}.name", "is missing")
        return SecretUse(name="")
    given = values.pop("as", "file" if values.keys() & {"path", "mode"} else "")
    if given == "env" and values.keys() & {"path", "mode"}:
        reading.fault(node, path, "only a file has a path and a mode")
    return SecretUse(given=given, **values)


def read_secrets(reading: Reading, node: yaml.Node, path: str) -> tuple[SecretUse, ...]:
    """The secrets of a job; none twice."""
    uses: tuple[SecretUse, ...] = listing(_use, most=100)(reading, node, path)
    for name, count in Counter(use.name for use in uses if use.name).items():
        if count > 1:
            reading.fault(node, path, f"names the secret {name} twice")
    return uses


_USE: dict[str, Read] = {
    "name": _name,
    "as": one_of("env", "file"),
    "variable": _variable,
    "path": _path,
    "mode": _mode,
    "optional": truth,
}
