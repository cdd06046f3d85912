"""Typed reading of a document's nodes: mappings, lists, texts, numbers, times, sizes; faults get their place."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from buildyard.domain.errors import Fault
from buildyard.domain.paths import normal
from buildyard.domain.workflow import NAME_LENGTH
from buildyard.engine.documents import MERGE, place

MOST_SECONDS = 7 * 24 * 3600

_DURATION = re.compile(r"(?=\d)(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?")
_SIZE = re.compile(r"(\d{1,15})(?:\s*([KMGT])i?B)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Bad(Exception):
    """A value that does not fit; a reader raises it, and `mapping` and `listing` note it as a fault."""


@dataclass
class Reading:
    """One document while it is read: the faults found so far."""

    faults: list[Fault] = field(default_factory=list)

    def fault(self, node: yaml.Node, path: str, message: str, code: str = "invalid") -> None:
        """Note what is wrong with a node."""
        where = place(node)
        self.faults.append(Fault(path, f"{message} ({where})" if where else message, code))


Read = Callable[[Reading, yaml.Node, str], Any]
"""From a node and its path to a value; raises Bad, or notes faults itself and gives what could be read."""


# --- mappings and lists -------------------------------------------------------------------------


def mapping(reading: Reading, node: yaml.Node, path: str, readers: Mapping[str, Read]) -> dict[str, Any]:
    """The values of the keys that `readers` knows; faults are noted, and a faulty value is left out."""
    values: dict[str, Any] = {}
    for key, key_node, value_node in pairs(reading, node, path):
        at = below(path, key)
        if key not in readers:
            near = difflib.get_close_matches(key, readers, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(readers))}"
            reading.fault(key_node, at, f"unknown key; {hint}", "unknown_key")
            continue
        try:
            values[key] = readers[key](reading, value_node, at)
        except Bad as exc:
            reading.fault(value_node, at, str(exc))
    return values


def pairs(reading: Reading, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """Keys and values of a mapping, merged ones (`<<`) included; the mapping's own win."""
    if not isinstance(node, yaml.MappingNode):
        reading.fault(node, path, f"must be a mapping of keys to values, not {_kind(node)}")
        return []
    own: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    merged: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if key.tag == MERGE:
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                for pair in pairs(reading, part, path):
                    merged.setdefault(pair[0], pair)
        elif not isinstance(key, yaml.ScalarNode):
            reading.fault(key, path, "a key must be text")
        elif key.value in own:
            reading.fault(key, below(path, key.value), "this key stands here twice", "duplicate_key")
        else:
            own[key.value] = (key.value, key, value)
    return [*own.values(), *(pair for name, pair in merged.items() if name not in own)]


def below(path: str, key: str) -> str:
    """The path of a key: `jobs.build`, or `jobs['unit tests']`."""
    plain = re.fullmatch(r"[\w-]+", key)
    shown = key if plain else f"[{key[:NAME_LENGTH]!r}]"
    return f"{path}.{shown}" if path and plain else f"{path}{shown}"


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if node.tag.endswith(":null") else "a single value"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def listing(read: Read, *, most: int = 1000, single: bool = True) -> Read:
    """A reader of lists; a `single` value may stand without its list."""

    def items(reading: Reading, node: yaml.Node, path: str) -> tuple[Any, ...]:
        if single and not isinstance(node, yaml.SequenceNode):
            return (read(reading, node, path),)
        if not isinstance(node, yaml.SequenceNode):
            raise Bad(f"must be a list, not {_kind(node)}")
        if len(node.value) > most:
            raise Bad(f"must not have more than {most} entries")
        values = []
        for i, item in enumerate(node.value):
            try:
                values.append(read(reading, item, f"{path}[{i}]"))
            except Bad as exc:
                reading.fault(item, f"{path}[{i}]", str(exc))
        return tuple(values)

    return items


# --- single values ------------------------------------------------------------------------------


def text(_reading: Reading, node: yaml.Node, _path: str) -> str:
    """Any scalar as it is written."""
    if not isinstance(node, yaml.ScalarNode):
        raise Bad(f"must be text, not {_kind(node)}")
    if node.tag.endswith(":null"):
        raise Bad("has no value; write '' for an empty text")
    value = str(node.value)
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise Bad("must not hold NUL characters or broken Unicode")
    return value


def name_text(reading: Reading, node: yaml.Node, path: str) -> str:
    """A name as `check_name` has it."""
    value = text(reading, node, path)
    check_name(value)
    return value


def check_name(value: str) -> None:
    """Raise Bad unless people can read this as a name."""
    if not value.strip() or len(value) > NAME_LENGTH or _CONTROL.search(value):
        raise Bad(f"must have 1 to {NAME_LENGTH} characters, none of them a control character")


def matching(pattern: re.Pattern[str], what: str) -> Read:
    """A reader of texts that fit a pattern whole; `what` says so to people."""

    def read(reading: Reading, node: yaml.Node, path: str) -> str:
        value = text(reading, node, path)
        if not pattern.fullmatch(value):
            raise Bad(f"must be {what}, not {value[:NAME_LENGTH]!r}")
        return value

    return read


def one_of(*words: str) -> Read:
    """A reader of one word of a closed set."""

    def read(reading: Reading, node: yaml.Node, path: str) -> str:
        value = text(reading, node, path)
        if value not in words:
            raise Bad(f"must be one of {', '.join(words)}, not {value[:NAME_LENGTH]!r}")
        return value

    return read


def whole(low: int, high: int) -> Read:
    """A reader of whole numbers within bounds."""

    def read(reading: Reading, node: yaml.Node, path: str) -> int:
        value = text(reading, node, path)
        if not re.fullmatch(r"[+-]?\d{1,12}", value) or not low <= int(value) <= high:
            raise Bad(f"must be a whole number from {low} to {high}, not {value[:NAME_LENGTH]!r}")
        return int(value)

    return read


def truth(reading: Reading, node: yaml.Node, path: str) -> bool:
    """`true` or `false`, as YAML and people spell them."""
    value = text(reading, node, path).lower()
    if value not in ("true", "false", "yes", "no", "on", "off"):
        raise Bad(f"must be true or false, not {value[:NAME_LENGTH]!r}")
    return value in ("true", "yes", "on")


def seconds(reading: Reading, node: yaml.Node, path: str) -> int:
    """`90`, `90s`, `10m`, `1h30m`."""
    value = text(reading, node, path).replace(" ", "")
    match = _DURATION.fullmatch(value)
    total = sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if not 1 <= total <= MOST_SECONDS:
        raise Bad(f"must be a time like 90, 90s, 10m or 1h30m, at most 7 days, not {value[:NAME_LENGTH]!r}")
    return total


def size(reading: Reading, node: yaml.Node, path: str) -> int:
    """`1048576`, `512MiB`, `4GB` (powers of 1024 either way)."""
    value = text(reading, node, path)
    match = _SIZE.fullmatch(value)
    size = int(match[1]) << (10 * " KMGT".index(match[2] or " ")) if match else 0
    if not 1 <= size < 1 << 50:
        raise Bad(f"must be a size like 512MiB or 4GiB, not {value[:NAME_LENGTH]!r}")
    return size


def path_text(check: Callable[[str, str], list[Fault]]) -> Read:
    """A reader of paths or patterns, normalised; `check` is one of domain.paths."""

    def read(reading: Reading, node: yaml.Node, path: str) -> str:
        value = text(reading, node, path)
        for fault in check(value, path):
            reading.fault(node, fault.path, fault.message, fault.code)
        return normal(value)

    return read
