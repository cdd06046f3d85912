"""Reads yard files: the operator's projects, pipelines, triggers and workers, as YAML or JSON, checked as a whole."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import yaml

from buildyard.domain.access import Visibility
from buildyard.domain.errors import Invalid
from buildyard.domain.triggers import Upstream
from buildyard.domain.yard import Yard, YardPipeline, YardProject, YardTrigger, YardWorker
from buildyard.engine.document_fields import (
    Bad,
    Read,
    Reading,
    below,
    check_name,
    listing,
    mapping,
    name_text,
    pairs,
    text,
    truth,
)
from buildyard.engine.documents import read_document
from buildyard.engine.workflow_files import LABEL, WORKFLOW
from buildyard.engine.yard_hooks import read_hooks
from buildyard.engine.yard_repositories import REPOSITORY, definition_of, names_manifests
from buildyard.engine.yard_triggers import SLUG, ReadTrigger, read_trigger, slug

SHORTEST_SECRET = 16

ReadSecret = Callable[[str], str]
"""Gives the text of a file named relative to the yard file; raises OSError or ValueError with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What readers of parts need to know; `served` are projects that workers and hooks name, and where."""

    read_secret: ReadSecret
    allow_local: bool
    served: list[tuple[yaml.Node, str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A trigger and where it belongs."""

    project: str
    trigger: ReadTrigger


def read_yard(text: bytes, *, read_secret: ReadSecret, allow_local: bool = False, what: str = "the yard file") -> Yard:
    """Read a file; Invalid carries every fault found, each with its place. `what` is the file's name for people."""
    reading = Reading()
    context = _Context(read_secret=read_secret, allow_local=allow_local)
    root = read_document(text, what)
    readers: dict[str, Read] = {
        "projects": lambda reading, node, path: _projects(reading, node, path, context),
        "workers": lambda reading, node, path: _workers(reading, node, path, context),
        "hooks": lambda reading, node, path: read_hooks(
            reading, node, path, read_secret, lambda *one: context.served.append(one)
        ),
    }
    values = mapping(reading, root, "", readers)
    found, triggers = values.get("projects", ([], []))
    projects = _with_triggers(reading, found, triggers)
    workers = values.get("workers", ())
    for node, path, project in context.served:
        if project not in {one.slug for one in projects} and not reading.faults:
            reading.fault(node, path, f"there is no project {project!r} here")
    if reading.faults:
        raise Invalid(f"{what} has faults", tuple(reading.faults))
    return Yard(projects=tuple(projects), workers=tuple(workers), hooks=values.get("hooks", ()))


# --- projects -----------------------------------------------------------------------------------


def _projects(
    reading: Reading, node: yaml.Node, path: str, context: _Context
) -> tuple[list[YardProject], list[_Placed]]:
    projects, triggers = [], []
    for key, key_node, value in pairs(reading, node, path):
        at = below(path, key)
        if not SLUG.fullmatch(key):
            reading.fault(key_node, at, "the name of a project has letters, digits, - and _, and begins with a letter")
            continue
        project, its_triggers = _project(reading, key, value, at, context)
        projects.append(project)
        triggers += its_triggers
    return projects, triggers


def _project(
    reading: Reading, key: str, node: yaml.Node, path: str, context: _Context
) -> tuple[YardProject, list[_Placed]]:
    triggers: list[_Placed] = []
    readers: dict[str, Read] = {
        "name": name_text,
        "account": slug,
        "private": truth,
        "pipelines": lambda reading, node, path: _pipelines(reading, key, node, path, context, triggers),
        "triggers": listing(read_trigger),
    }
    values = mapping(reading, node, path, readers)
    own = [_Placed(project=key, trigger=one) for one in values.get("triggers", ()) if one is not None]
    for placed in own:
        if not placed.trigger.pipelines:
            reading.fault(placed.trigger.node, f"{placed.trigger.path}.pipelines", "is missing: what does it start?")
    project = YardProject(
        slug=key,
        name=values.get("name", key),
        account=values.get("account", "admin"),
        visibility=Visibility.PRIVATE if values.get("private") else Visibility.PUBLIC,
        pipelines=tuple(values.get("pipelines", ())),
        triggers=(),
    )
    return project, [*triggers, *own]


def _pipelines(
    reading: Reading, project: str, node: yaml.Node, path: str, context: _Context, triggers: list[_Placed]
) -> list[YardPipeline]:
    found = []
    for key, key_node, value in pairs(reading, node, path):
        at = below(path, key)
        if not SLUG.fullmatch(key):
            reading.fault(key_node, at, "the name of a pipeline has letters, digits, - and _, and begins with a letter")
            continue
        readers = {
            **{name: read for name, read in WORKFLOW.items() if name != "name"},
            "triggers": listing(read_trigger),
        }
        if names_manifests(value):
            readers = {**REPOSITORY, "triggers": listing(read_trigger)}
        values = mapping(reading, value, at, readers)
        made = definition_of(reading, value, at, values, allow_local=context.allow_local)
        for one in values.get("triggers", ()):
            if one is not None and one.pipelines:
                reading.fault(one.node, f"{one.path}.pipelines", "a trigger of a pipeline starts that one alone")
            elif one is not None:
                triggers.append(_Placed(project=project, trigger=replace(one, pipelines=(key,))))
        if made is not None:
            found.append(replace(made, slug=key))
    return found


# --- triggers -----------------------------------------------------------------------------------


def _with_triggers(reading: Reading, projects: list[YardProject], placed: list[_Placed]) -> list[YardProject]:
    """The projects with their triggers named, if all that these start and follow is there."""
    known = {f"{project.slug}/{pipeline.slug}" for project in projects for pipeline in project.pipelines}
    names = _names(reading, placed)
    made: dict[str, list[YardTrigger]] = {project.slug: [] for project in projects}
    follows: dict[str, list[str]] = {}
    for one, name in zip(placed, names, strict=True):
        trigger = one.trigger
        for i, pipeline in enumerate(trigger.pipelines):
            if f"{one.project}/{pipeline}" not in known and not reading.faults:
                reading.fault(trigger.node, f"{trigger.path}.pipelines[{i}]", f"there is no pipeline {pipeline!r} here")
        spec = trigger.spec
        if isinstance(spec, Upstream):
            spec = replace(spec, pipeline=spec.pipeline if "/" in spec.pipeline else f"{one.project}/{spec.pipeline}")
            if spec.pipeline not in known and not reading.faults:
                reading.fault(trigger.node, f"{trigger.path}.pipeline", f"there is no pipeline {spec.pipeline!r} here")
            follows.setdefault(spec.pipeline, []).extend(f"{one.project}/{pipeline}" for pipeline in trigger.pipelines)
            if _leads_to(follows, spec.pipeline, spec.pipeline):
                message = f"builds of {spec.pipeline} would start each other for ever"
                reading.fault(trigger.node, trigger.path, message, "cycle")
        made[one.project].append(YardTrigger(name=name, spec=spec, pipelines=tuple(dict.fromkeys(trigger.pipelines))))
    return [replace(project, triggers=tuple(made[project.slug])) for project in projects]


def _names(reading: Reading, placed: list[_Placed]) -> list[str]:
    """A name for each trigger, unique on the server: its own, or one made from project, pipeline and kind."""
    taken: set[str] = set()
    for one in placed:
        if one.trigger.name and one.trigger.name in taken:
            message = f"another trigger is named {one.trigger.name!r}: names are unique on the server"
            reading.fault(one.trigger.node, f"{one.trigger.path}.name", message, "duplicate_name")
        if one.trigger.name:
            taken.add(one.trigger.name)
    return [one.trigger.name or _free_name(one, taken) for one in placed]


def _free_name(one: _Placed, taken: set[str]) -> str:
    where = f"{one.project}-{one.trigger.pipelines[0]}" if len(one.trigger.pipelines) == 1 else one.project
    wanted = f"{where}-{one.trigger.kind}"
    name = next(name for n in itertools.count(1) if (name := wanted if n == 1 else f"{wanted}-{n}") not in taken)
    taken.add(name)
    return name


def _leads_to(follows: dict[str, list[str]], start: str, wanted: str) -> bool:
    """Whether builds of a pipeline lead, directly or not, to builds of another."""
    seen: set[str] = set()
    waiting = list(follows.get(start, ()))
    while waiting:
        one = waiting.pop()
        if one == wanted:
            return True
        if one not in seen:
            seen.add(one)
            waiting += follows.get(one, ())
    return False


# --- workers ------------------------------------------------------------------------------------


def _workers(reading: Reading, node: yaml.Node, path: str, context: _Context) -> list[YardWorker]:
    found: list[YardWorker] = []
    for key, key_node, value in pairs(reading, node, path):
        at = below(path, key)
        try:
            check_name(key)
        except Bad as exc:
            reading.fault(key_node, at, f"the name of a worker {exc}")
            continue
        readers: dict[str, Read] = {
            "password_file": lambda reading, node, path: _secret(reading, node, path, context),
            "labels": listing(LABEL),
            "project": lambda reading, node, path: _served(reading, node, path, context),
        }
        values = mapping(reading, value, at, readers)
        if "password_file" not in values:
            if not any(fault.path.startswith(f"{at}.password_file") for fault in reading.faults):
                reading.fault(value, f"{at}.password_file", "is missing")
            continue
        secret = values["password_file"]
        if any(one.secret == secret for one in found):
            reading.fault(value, f"{at}.password_file", "another worker has the same password", "duplicate")
        found.append(
            YardWorker(name=key, secret=secret, labels=values.get("labels", ()), project=values.get("project", ""))
        )
    return found


def _secret(reading: Reading, node: yaml.Node, path: str, context: _Context) -> str:
    name = text(reading, node, path)
    try:
        secret = context.read_secret(name).strip()
    except OSError as exc:
        raise Bad(f"cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise Bad(f"cannot be read: {exc}") from exc
    if len(secret) < SHORTEST_SECRET or any(character.isspace() for character in secret):
        raise Bad(f"must hold one word of at least {SHORTEST_SECRET} characters")
    return secret


def _served(reading: Reading, node: yaml.Node, path: str, context: _Context) -> str:
    name: str = slug(reading, node, path)
    context.served.append((node, path, name))
    return name
