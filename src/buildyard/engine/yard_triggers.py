"""Reads the triggers of a yard file."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from buildyard.domain.states import Result
from buildyard.domain.triggers import (
    Cron,
    Filters,
    Forks,
    Manual,
    Missed,
    Parameter,
    ParameterType,
    Poll,
    PullRequest,
    Push,
    Spec,
    Upstream,
    fault_of,
)
from buildyard.engine.cron import cron_fault
from buildyard.engine.document_fields import (
    Bad,
    Read,
    Reading,
    below,
    listing,
    mapping,
    matching,
    name_text,
    one_of,
    pairs,
    seconds,
    text,
    truth,
    whole,
)
from buildyard.engine.workflow_files import environment

SLUG = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,59}")
slug = matching(SLUG, "a name of letters, digits, - and _, at most 60, that does not begin with a digit or -")
trigger_name = matching(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"), "a name of letters, digits, -, _ and .")
_VARIABLE = re.compile(r"(?!BUILDYARD)[A-Za-z_][A-Za-z0-9_]{0,199}")
_FULL_SLUG = re.compile(rf"{SLUG.pattern}(/{SLUG.pattern})?")
_HIGHEST = 10**12 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTrigger:
    """A trigger as it is written: without a name, or without pipelines, if the file leaves them out."""

    node: yaml.Node
    path: str
    kind: str
    name: str
    pipelines: tuple[str, ...]
    spec: Spec


def read_trigger(reading: Reading, node: yaml.Node, path: str) -> ReadTrigger | None:
    """`{KIND: …}`; a `cron` may be its line alone, a `push` or `manual` may be empty."""
    entries = pairs(reading, node, path)
    if len(entries) != 1:
        if isinstance(node, yaml.MappingNode):
            raise Bad(f"must have one key, its kind: {', '.join(_KINDS)}")
        return None
    kind, key_node, value = entries[0]
    at = below(path, kind)
    if kind not in _KINDS:
        reading.fault(key_node, at, f"unknown kind of trigger; known are {', '.join(_KINDS)}", "unknown_key")
        return None
    readers, make = _KINDS[kind]
    before = len(reading.faults)
    values = _values(reading, value, at, kind, {**_ALL, **readers})
    if len(reading.faults) > before:
        return None
    name, pipelines = values.pop("name", ""), values.pop("pipelines", ())
    try:
        spec = make(values)
    except Bad as exc:
        reading.fault(value, at, str(exc))
        return None
    return ReadTrigger(node=value, path=at, kind=kind, name=name, pipelines=pipelines, spec=spec)


def _values(reading: Reading, node: yaml.Node, path: str, kind: str, readers: dict[str, Read]) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith(":null") or node.value == "":
            return {}
        if kind == "cron":
            return {"line": text(reading, node, path)}
    return mapping(reading, node, path, readers)


def _filters(values: dict[str, Any]) -> Filters:
    return Filters(**{key: values.pop(key) for key in _FILTERS if key in values})


def _push(values: dict[str, Any]) -> Spec:
    return Push(filters=_filters(values), **values)


def _pull_request(values: dict[str, Any]) -> Spec:
    return PullRequest(filters=_filters(values), **values)


def _poll(values: dict[str, Any]) -> Spec:
    if "interval" in values:
        values["interval_s"] = values.pop("interval")
    return Poll(filters=_filters(values), **values)


def _cron(values: dict[str, Any]) -> Spec:
    if "line" not in values:
        raise Bad("has no line, such as line: '0 3 * * *'")
    made = Cron(**values)
    for fault in cron_fault(made.line, made.timezone):
        if fault:
            raise Bad(fault)
    return made


def _upstream(values: dict[str, Any]) -> Spec:
    if "pipeline" not in values:
        raise Bad("has no pipeline to follow")
    return Upstream(**values)


def _manual(values: dict[str, Any]) -> Spec:
    return Manual(**values)


# --- parts of a trigger -------------------------------------------------------------------------


def _word(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if not value.strip() or len(value) > 500:
        raise Bad("must have 1 to 500 characters")
    return value


def _interval(reading: Reading, node: yaml.Node, path: str) -> int:
    value: int = seconds(reading, node, path)
    if value < 10:
        raise Bad("must be at least 10 seconds")
    return value


def _forks(reading: Reading, node: yaml.Node, path: str) -> Forks:
    return Forks(one_of(*Forks)(reading, node, path))


def _missed(reading: Reading, node: yaml.Node, path: str) -> Missed:
    return Missed(one_of(*Missed)(reading, node, path))


def _result(reading: Reading, node: yaml.Node, path: str) -> Result:
    words = {result.word: result for result in Result}
    return words[one_of(*words)(reading, node, path)]


def _pattern(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    try:
        re.compile(value)
    except re.error as exc:
        raise Bad(f"is not a regular expression: {exc}") from exc
    return value


def _variable(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if not _VARIABLE.fullmatch(value):
        raise Bad("is not a name for a variable (letters, digits and _; not BUILDYARD…)")
    return value


def _parameters(reading: Reading, node: yaml.Node, path: str) -> tuple[Parameter, ...]:
    found = []
    for name, key, value in pairs(reading, node, path):
        at = below(path, name)
        try:
            _variable(reading, key, at)
        except Bad as exc:
            reading.fault(key, at, str(exc))
            continue
        before = len(reading.faults)
        values = mapping(reading, value, at, _PARAMETER)
        if len(reading.faults) == before:
            found += _parameter(reading, value, at, Parameter(name=name, **_renamed(values)))
    return tuple(found)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    names = {"min": "minimum", "max": "maximum"}
    return {names.get(key, key): value for key, value in values.items()}


def _parameter(reading: Reading, node: yaml.Node, path: str, made: Parameter) -> list[Parameter]:
    """The parameter, if its parts go together."""
    fits = {"choices": ParameterType.CHOICE, "minimum": ParameterType.INT, "maximum": ParameterType.INT}
    for key, kind in fits.items():
        if getattr(made, key) not in (None, ()) and made.type is not kind:
            reading.fault(node, path, f"only a parameter of type {kind} has {key}")
            return []
    if made.pattern and made.type not in (ParameterType.STRING, ParameterType.TEXT):
        reading.fault(node, path, "only a parameter of type string or text has a pattern")
        return []
    if made.type is ParameterType.CHOICE and not made.choices:
        reading.fault(node, path, "a parameter of type choice has choices")
        return []
    problem = fault_of(made, made.default) if made.default else ""
    if problem:
        reading.fault(node, f"{path}.default", problem)
        return []
    return [made]


_FILTERS: dict[str, Read] = {
    "branches": listing(_word),
    "exclude_branches": listing(_word),
    "tags": listing(_word),
    "paths": listing(_word),
    "exclude_paths": listing(_word),
}
_PARAMETER: dict[str, Read] = {
    "type": lambda reading, node, path: ParameterType(one_of(*ParameterType)(reading, node, path)),
    "label": name_text,
    "required": truth,
    "default": text,
    "choices": listing(_word),
    "pattern": _pattern,
    "min": whole(-_HIGHEST, _HIGHEST),
    "max": whole(-_HIGHEST, _HIGHEST),
}
_ABOUT_CHANGES: dict[str, Read] = {**_FILTERS, "skip_words": listing(_word), "cancel_superseded": truth}
_ALL: dict[str, Read] = {"name": trigger_name, "pipelines": listing(slug)}
_KINDS: dict[str, tuple[dict[str, Read], Callable[[dict[str, Any]], Spec]]] = {
    "push": (_ABOUT_CHANGES, _push),
    "pull_request": ({**_ABOUT_CHANGES, "forks": _forks}, _pull_request),
    "poll": (
        {
            **_ABOUT_CHANGES,
            "interval": _interval,
            "fire_first": truth,
        },
        _poll,
    ),
    "cron": ({"line": text, "timezone": text, "missed": _missed, "parameters": environment}, _cron),
    "upstream": (
        {
            "pipeline": matching(_FULL_SLUG, "a pipeline, or project/pipeline"),
            "results": listing(_result),
            "parameter": _variable,
            "untrusted": truth,
        },
        _upstream,
    ),
    "manual": ({"button": name_text, "parameters": _parameters}, _manual),
}
