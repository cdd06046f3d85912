"""Reads manifests: YAML with an image, sources, and tasks in order.

Every fault is told at once with its place. Values are taken as written, as in workflow files. Keys that are not
known have no effect and are noted, for manifests carry anchors and keys of other services.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

import yaml

from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.manifests import (
    ACTIONS,
    CONDITIONS,
    EnvironmentValue,
    Manifest,
    ManifestTrigger,
    Repository,
    Submitter,
    Task,
    folder_of,
    source_faults,
    trigger_faults,
)
from buildyard.domain.notifications import Action, Condition
from buildyard.domain.paths import check_path, normal
from buildyard.domain.workflow import NAME_LENGTH
from buildyard.engine.document_fields import (
    Bad,
    Read,
    Reading,
    below,
    listing,
    mapping,
    matching,
    one_of,
    pairs,
    text,
    truth,
)
from buildyard.engine.documents import read_document

MANIFEST_BYTES = 16_384
HOME = "/home/build/"
PUSHES = "git.sr.ht"
"""The key below `submitter` that is about pushes."""

_TOO_LARGE = f"Manifest must be less than {MANIFEST_BYTES} bytes"
_TASK_NAME = re.compile(r"[a-z0-9_-]{1,128}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FIXED = frozenset({"BASHOPTS", "BASHPID", "BASH_VERSINFO", "EUID", "FUNCNAME", "GROUPS", "PPID", "SHELLOPTS", "UID"})
"""Variables that bash lets nobody set."""

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,254}")
_ARCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PACKAGE = re.compile(r"[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]{0,254}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,99}")
_GRANT = re.compile(r"[a-z0-9.-]+(/[A-Z_]+(:(RO|RW))?)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def read_manifest(text: str, *, allow_local: bool = False) -> Manifest:
    """Read a manifest; Invalid carries every fault found. `allow_local`: see `domain.sources.check_source`."""
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) >= MANIFEST_BYTES:
        raise Invalid(_TOO_LARGE, (Fault("", _TOO_LARGE, "too_large"),))
    root = read_document(encoded, "the manifest")
    reading = Reading()
    known, notes = _known(reading, root)
    values = mapping(reading, known, "", _MANIFEST)
    given = {key.value for key, _ in known.value}
    if isinstance(root, yaml.MappingNode):
        _check_given(reading, values, given)
    _check_places(reading, known, values, allow_local=allow_local)
    if reading.faults:
        raise Invalid("the manifest has faults", tuple(reading.faults))
    return Manifest(**{**values, "notes": notes})


def _known(reading: Reading, root: yaml.Node) -> tuple[yaml.MappingNode, tuple[str, ...]]:
    """The mapping's known keys that have a value; what is to be said about others."""
    found = pairs(reading, root, "")
    notes = []
    for key, _, _ in found:
        if key not in _MANIFEST:
            near = difflib.get_close_matches(key, _MANIFEST, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            notes.append(f"the key {key[:NAME_LENGTH]!r} of the manifest is not known and has no effect{hint}")
    kept = [(key_node, value) for key, key_node, value in found if key in _MANIFEST and not _is_nothing(value)]
    return yaml.MappingNode(root.tag, kept, root.start_mark, root.end_mark), tuple(notes)


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")


def _check_given(reading: Reading, values: dict[str, Any], given: set[str]) -> None:
    """What every manifest has."""
    if "image" not in given:
        reading.faults.append(Fault("image", "Missing image in manifest", "missing"))
    no_tasks = "tasks" not in given or values.get("tasks") == ()
    if no_tasks and not values.get("shell") and not any(fault.path.startswith("tasks") for fault in reading.faults):
        reading.faults.append(Fault("tasks", "Attempted to create manifest with no tasks", "missing"))


def _check_places(reading: Reading, known: yaml.MappingNode, values: dict[str, Any], *, allow_local: bool) -> None:
    """Addresses that a manifest names: those of sources, and of triggers."""
    nodes = {key.value: value for key, value in known.value}
    folders: set[str] = set()
    for at, node, source in _placed("sources", nodes, values):
        faults = source_faults(source, at, allow_local=allow_local)
        if not faults and folder_of(source) in folders:
            faults = [Fault(at, f"would be cloned into {folder_of(source)}, as another source is", "duplicate")]
        folders.add(folder_of(source))
        for fault in faults:
            reading.fault(node, fault.path, fault.message, fault.code)
    for at, node, trigger in _placed("triggers", nodes, values):
        for fault in trigger_faults(trigger, at, allow_local=allow_local):
            reading.fault(node, fault.path, fault.message, fault.code)


def _placed(key: str, nodes: dict[str, yaml.Node], values: dict[str, Any]) -> Iterator[tuple[str, yaml.Node, Any]]:
    """The entries of a list that could be read, with their paths and nodes."""
    for i, value in enumerate(values.get(key, ())):
        if value is not None:
            yield f"{key}[{i}]", nodes[key].value[i], value


# --- single values ------------------------------------------------------------------------------


def _package(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if not _PACKAGE.fullmatch(value):
        raise Bad(f"must be the name of one package, not {value[:NAME_LENGTH]!r}")
    return value


def _secret(reading: Reading, node: yaml.Node, path: str) -> str:
    """A UUID, in lower case, or a name."""
    value = text(reading, node, path)
    if _UUID.fullmatch(value):
        return value.lower()
    if not 3 <= len(value) <= 512 or _CONTROL.search(value):
        raise Bad("must be the UUID of a secret, or its name of 3 to 512 characters")
    return value


def _artifact(reading: Reading, node: yaml.Node, path: str) -> str:
    """A file below the home folder, however that is written."""
    value = text(reading, node, path)
    inner = value.removeprefix("~/").removeprefix(HOME)
    for fault in check_path(inner, path):
        where = "must lie below the home folder" if "relative" in fault.message else fault.message
        reading.fault(node, path, where, fault.code)
    return normal(inner)


def _oauth(reading: Reading, node: yaml.Node, path: str) -> str:
    """Grants with spaces between them, such as `builds.sr.ht/JOBS:RO`."""
    grants = text(reading, node, path).split()
    for grant in grants:
        if not _GRANT.fullmatch(grant):
            raise Bad(f"{grant[:NAME_LENGTH]!r} is not a grant such as builds.sr.ht/JOBS:RO")
    return " ".join(grants)


# --- mappings and lists -------------------------------------------------------------------------


def _tasks(reading: Reading, node: yaml.Node, path: str) -> tuple[Task, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise Bad("must be a list of tasks, each a name with a script")
    tasks: dict[str, Task] = {}
    for i, item in enumerate(node.value):
        at = f"{path}[{i}]"
        task = _task(reading, item, at)
        if task is not None and task.name in tasks:
            reading.fault(item, at, f"Duplicate task {task.name!r}", "duplicate")
        elif task is not None:
            tasks[task.name] = task
    return tuple(tasks.values())


def _task(reading: Reading, node: yaml.Node, path: str) -> Task | None:
    single = isinstance(node, yaml.MappingNode) and len(node.value) == 1
    name_node, script_node = node.value[0] if single else (node, node)
    scalars = isinstance(name_node, yaml.ScalarNode) and isinstance(script_node, yaml.ScalarNode)
    if not single or not scalars or _is_nothing(script_node):
        reading.fault(node, path, "Expected task to be a string: string", "task")
        return None
    name = str(name_node.value)
    if not _TASK_NAME.fullmatch(name):
        rule = "it must have 1 to 128 lower-case letters, digits, _ and -"
        reading.fault(name_node, path, f"Task name {name[:NAME_LENGTH]!r} is invalid ({rule})", "task_name")
        return None
    try:
        return Task(name=name, script=text(reading, script_node, path))
    except Bad as exc:
        reading.fault(script_node, path, str(exc))
        return None


def _environment(reading: Reading, node: yaml.Node, path: str) -> dict[str, EnvironmentValue]:
    values: dict[str, EnvironmentValue] = {}
    for name, name_node, value in pairs(reading, node, path):
        at = below(path, name)
        if not _VARIABLE.fullmatch(name):
            reading.fault(name_node, at, "is not a name for a variable (letters, digits and _)")
        elif name in _FIXED:
            reading.fault(name_node, at, "is a variable that the shell lets nobody set")
        else:
            try:
                values[name] = _environment_value(reading, value, at)
            except Bad as exc:
                reading.fault(value, at, str(exc))
    return values


def _environment_value(reading: Reading, node: yaml.Node, path: str) -> EnvironmentValue:
    """`true` and `false` are truths, nothing is None, a list is one of texts; all else is text as written."""
    if isinstance(node, yaml.SequenceNode):
        return tuple(_shell_text(reading, item, f"{path}[{i}]") for i, item in enumerate(node.value))
    if isinstance(node, yaml.MappingNode):
        raise Bad("must be text, a number, true, false or a list of these, not a mapping")
    if _is_nothing(node):
        return None
    if node.tag.endswith(":bool") and node.value.lower() in ("true", "false"):
        return bool(node.value.lower() == "true")
    return text(reading, node, path)


def _shell_text(reading: Reading, node: yaml.Node, path: str) -> str:
    """An entry of a list as a shell sees it."""
    value = _environment_value(reading, node, path)
    if isinstance(value, tuple):
        raise Bad("must not be a list within a list")
    if isinstance(value, bool):
        return "true" if value else "false"
    return value or ""


def _repositories(reading: Reading, node: yaml.Node, path: str) -> tuple[Repository, ...]:
    found = []
    for name, name_node, value in pairs(reading, node, path):
        at = below(path, name)
        try:
            url = text(reading, value, at)
        except Bad as exc:
            reading.fault(value, at, str(exc))
            continue
        if not _REPOSITORY.fullmatch(name) or ".." in name:
            reading.fault(name_node, at, "is not a name for a repository (letters, digits, ., _, +, - and /)")
        elif not url.strip() or _CONTROL.search(url):
            reading.fault(value, at, "must be an address, and what else the package manager needs, on one line")
        else:
            found.append(Repository(name=name, url=url.strip()))
    return tuple(found)


def _artifacts(reading: Reading, node: yaml.Node, path: str) -> tuple[str, ...]:
    """Files whose names (not paths) tell them apart."""
    found: tuple[str, ...] = _entries(_artifact)(reading, node, path)
    names = [one and one.rsplit("/", 1)[-1] for one in found]
    for i, name in enumerate(names):
        if name and name in names[:i]:
            reading.fault(node.value[i], f"{path}[{i}]", f"another artifact is named {name!r}, too", "duplicate")
    return found


def _entries(read: Read) -> Read:
    """A reader of lists that puts None for what could not be read, so that places stay."""

    def entries(reading: Reading, node: yaml.Node, path: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise Bad("must be a list")
        return tuple(_or_none(read, reading, item, f"{path}[{i}]") for i, item in enumerate(node.value))

    return entries


def _or_none(read: Read, reading: Reading, node: yaml.Node, path: str) -> Any:
    try:
        return read(reading, node, path)
    except Bad as exc:
        reading.fault(node, path, str(exc))
        return None


def _trigger(reading: Reading, node: yaml.Node, path: str) -> ManifestTrigger | None:
    before = len(reading.faults)
    values = mapping(reading, node, path, _TRIGGER)
    for key in ("action", "condition"):
        if key not in values and len(reading.faults) == before:
            reading.fault(node, f"{path}.{key}", "is missing", "missing")
    if len(reading.faults) > before:
        return None
    return ManifestTrigger(**values)


def _action(reading: Reading, node: yaml.Node, path: str) -> Action:
    value = text(reading, node, path)
    if value not in ACTIONS:
        raise Bad(f"unknown trigger type {value[:NAME_LENGTH]!r}")
    return Action(value)


def _condition(reading: Reading, node: yaml.Node, path: str) -> Condition:
    return Condition(one_of(*CONDITIONS)(reading, node, path))


def _submitter(reading: Reading, node: yaml.Node, path: str) -> Submitter | None:
    """What is said about pushes; other submitters are not ours."""
    for name, _, value in pairs(reading, node, path):
        if name == PUSHES and not _is_nothing(value):
            rule = mapping(reading, value, below(path, name), _PUSHES)
            return Submitter(enabled=rule.get("enabled", True), allow_refs=rule.get("allow-refs", ()))
    return None


def _ref(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if not value or len(value) > 250 or _CONTROL.search(value):
        raise Bad("must be a pattern of names of refs, such as refs/heads/main or refs/tags/*")
    return value


_TRIGGER: dict[str, Read] = {
    "action": _action,
    "condition": _condition,
    "to": text,
    "cc": text,
    "in_reply_to": text,
    "url": text,
}
_PUSHES: dict[str, Read] = {"enabled": truth, "allow-refs": listing(_ref, single=False)}
_MANIFEST: dict[str, Read] = {
    "image": matching(_IMAGE, "the name of an image"),
    "arch": matching(_ARCH, "the name of an architecture such as x86_64"),
    "packages": listing(_package, single=False),
    "repositories": _repositories,
    "sources": _entries(text),
    "environment": _environment,
    "secrets": listing(_secret, most=100, single=False),
    "shell": truth,
    "artifacts": _artifacts,
    "oauth": _oauth,
    "tasks": _tasks,
    "triggers": _entries(_trigger),
    "submitter": _submitter,
}
