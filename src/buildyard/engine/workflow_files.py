"""Reads workflow files: the small schema for jobs that repositories and people hand in, as YAML or JSON.

Every fault of a file is reported at once, with its path and its place. Scalars are taken as they are
written, so that `3.10` and `yes` mean what they look like.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.labels import feature_label
from buildyard.domain.notifications import Rule
from buildyard.domain.paths import check_path, check_pattern
from buildyard.domain.sources import check_source
from buildyard.domain.specs import (
    CacheSpec,
    GitSource,
    JobSpec,
    Limits,
    LockSpec,
    PipelineSpec,
    ReportSpec,
    Requirement,
    Retry,
    StepSpec,
)
from buildyard.domain.states import Result
from buildyard.domain.workflow import MOST_JOBS, MOST_MATRIX_CELLS, NAME_LENGTH, expand, graph_faults
from buildyard.engine.blocker_fields import read_approval, read_concurrency, read_locks
from buildyard.engine.document_fields import (
    Bad,
    Read,
    Reading,
    below,
    check_name,
    listing,
    mapping,
    matching,
    name_text,
    one_of,
    pairs,
    path_text,
    seconds,
    size,
    text,
    truth,
    whole,
)
from buildyard.engine.documents import read_document
from buildyard.engine.notify_files import read_rules
from buildyard.engine.service_fields import read_services
from buildyard.engine.workflow_secrets import read_secrets

SCRIPT_BYTES = 512 * 1024
MOST_GRAPH_FAULTS = 200
"""A long cycle would otherwise be told once for each of its jobs."""

REPORTS = ("junit", "cobertura", "lcov", "metrics")
NETWORKS = ("default", "none", "host")
RETRIED = (Result.FAILURE, Result.LOG_LIMIT, Result.OUTPUT_LIMIT, Result.TIMEOUT, Result.ERROR)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/=+-]{0,99}")
_SHELL = re.compile(r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """What a file says: its name (may be empty), jobs with every matrix written out, a source if any, whom to tell."""

    name: str
    spec: PipelineSpec
    source: GitSource | None
    notify: tuple[Rule, ...] = ()


def read_workflow(
    text: bytes, *, matrix: Mapping[str, tuple[str, ...]] | None = None, allow_local: bool = False
) -> Workflow:
    """Read a file; Invalid carries every fault found.

    `matrix` replaces the values of the axes that it names, in every job that has them. `allow_local`: see
    `domain.sources.check_source`.
    """
    reading = Reading()
    root = read_document(text, "the workflow")
    values = mapping(reading, root, "", WORKFLOW)
    found = definition(reading, root, "", values, matrix=matrix or {}, allow_local=allow_local)
    if reading.faults or found is None:
        raise Invalid("the workflow has faults", tuple(reading.faults))
    return found


def definition(
    reading: Reading,
    node: yaml.Node,
    path: str,
    values: dict[str, Any],
    *,
    matrix: Mapping[str, tuple[str, ...]],
    allow_local: bool,
) -> Workflow | None:
    """What the values of a mapping with the keys WORKFLOW come to; None if there are faults, which are noted."""
    before = len(reading.faults)
    if isinstance(node, yaml.MappingNode) and _node_at(node, "jobs") is node:
        reading.fault(node, below(path, "jobs"), "is missing: a workflow has at least one job")
    jobs = _with_axes(reading, node, below(path, "jobs"), values.get("jobs", []), matrix)
    source: GitSource | None = values.get("source")
    if source:
        _check_source(reading, node, path, source, allow_local=allow_local)
    reading.faults += _graph(node, path, jobs)
    if len(reading.faults) > before:
        return None
    outer = values.get("env", {})
    spec = PipelineSpec(
        jobs=tuple(replace(job, environment={**outer, **job.environment}) for job in jobs),
        concurrency=values.get("concurrency"),
    )
    expanded = _expanded(reading, node, below(path, "jobs"), spec)
    if expanded is None:
        return None
    return Workflow(name=values.get("name", ""), spec=expanded, source=source, notify=values.get("notify", ()))


def _with_axes(
    reading: Reading, node: yaml.Node, path: str, jobs: list[JobSpec], matrix: Mapping[str, tuple[str, ...]]
) -> list[JobSpec]:
    """The jobs with the values of the named axes replaced; every named axis must be that of a job."""
    for axis in sorted(matrix.keys() - {axis for job in jobs for axis in job.matrix}):
        reading.fault(node, path, f"no job has the axis {axis!r} whose values are to be replaced")
    changed = [
        replace(job, matrix={axis: matrix.get(axis, values) for axis, values in job.matrix.items()}) for job in jobs
    ]
    for job in changed:
        if math.prod(len(values) for values in job.matrix.values()) > MOST_MATRIX_CELLS:
            at = f"{below(path, job.name)}.matrix"
            reading.fault(_node_at(node, "jobs", job.name), at, f"must not have more than {MOST_MATRIX_CELLS} cells")
    return changed


def _check_source(reading: Reading, node: yaml.Node, path: str, source: GitSource, *, allow_local: bool) -> None:
    for fault in check_source(source, "source", allow_local=allow_local):
        at = "source.git" if fault.path == "source.url" else fault.path
        shown = f"{path}.{at}" if path else at
        reading.fault(_node_at(node, *at.split(".")), shown, fault.message, fault.code)


def _graph(node: yaml.Node, path: str, jobs: list[JobSpec]) -> list[Fault]:
    """Faults of the graph, in the words and at the places of the file."""
    reading = Reading()
    within = below(path, "jobs")
    found = graph_faults([job.name for job in jobs], [job.needs for job in jobs], field="needs")
    for fault in found[:MOST_GRAPH_FAULTS]:
        match = re.fullmatch(r"steps\[(\d+)\]\.needs(?:\[(\d+)\])?", fault.path)
        if match is None:
            continue
        name = jobs[int(match[1])].name
        suffix = "" if match[2] is None else f"[{match[2]}]"
        place = _node_at(node, "jobs", name, "needs", *([int(match[2])] if match[2] else []))
        reading.fault(place, f"{below(within, name)}.needs{suffix}", fault.message, fault.code)
    if len(found) > MOST_GRAPH_FAULTS:
        reading.fault(node, within, f"and {len(found) - MOST_GRAPH_FAULTS} more faults of this kind")
    return reading.faults


def _node_at(node: yaml.Node, *keys: str | int) -> yaml.Node:
    """The node that lies deepest on the way that `keys` name."""
    for key in keys:
        if isinstance(key, int):
            children = dict(enumerate(node.value)) if isinstance(node, yaml.SequenceNode) else {}
            below_here = children.get(key)
        else:
            below_here = next((value for name, _, value in pairs(Reading(), node, "") if name == key), None)
        if below_here is None:
            return node
        node = below_here
    return node


def _expanded(reading: Reading, node: yaml.Node, path: str, spec: PipelineSpec) -> PipelineSpec | None:
    """Write every matrix out; the names of the cells can be too long, too many, or those of other jobs."""
    cells = sum(math.prod(len(values) for values in job.matrix.values()) for job in spec.jobs)
    if cells > MOST_JOBS:
        message = f"there are {cells} jobs with every matrix written out; at most {MOST_JOBS} are allowed"
        reading.fault(_node_at(node, "jobs"), path, message)
        return None
    expanded = expand(spec)
    names = [job.name for job in expanded.jobs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"with every matrix written out, two jobs are named {twice!r}"
        reading.fault(_node_at(node, "jobs"), path, message)
        return None
    return expanded


def _script(reading: Reading, node: yaml.Node, path: str) -> str:
    value = text(reading, node, path)
    if not value.strip():
        raise Bad("must not be empty")
    if len(value.encode()) > SCRIPT_BYTES:
        raise Bad(f"must not be longer than {SCRIPT_BYTES // 1024} KiB")
    return value


def _cpus(reading: Reading, node: yaml.Node, path: str) -> float:
    value = text(reading, node, path)
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?", value) or not 0.01 <= float(value) <= 1024:
        raise Bad(f"must be a number from 0.01 to 1024, not {value[:NAME_LENGTH]!r}")
    return float(value)


def _result(reading: Reading, node: yaml.Node, path: str) -> Result:
    words = {result.word: result for result in RETRIED}
    return words[one_of(*words)(reading, node, path)]


# --- parts of a job -----------------------------------------------------------------------------


def environment(reading: Reading, node: yaml.Node, path: str) -> dict[str, str]:
    """Variables and their values."""
    return {name: str(value) for name, value in _variables(reading, node, path, text).items()}


def _variables(reading: Reading, node: yaml.Node, path: str, read: Read) -> dict[str, Any]:
    """A mapping whose keys are names of variables, each value read by `read`."""
    values: dict[str, Any] = {}
    for key, key_node, value_node in pairs(reading, node, path):
        at = below(path, key)
        if not _VARIABLE.fullmatch(key):
            reading.fault(key_node, at, "is not a name for a variable (letters, digits and _)")
            continue
        try:
            values[key] = read(reading, value_node, at)
        except Bad as exc:
            reading.fault(value_node, at, str(exc))
    return values


def _matrix(reading: Reading, node: yaml.Node, path: str) -> dict[str, tuple[str, ...]]:
    axes: dict[str, tuple[str, ...]] = _variables(reading, node, path, listing(name_text))
    for name, values in axes.items():
        if not values:
            reading.fault(node, below(path, name), "must have at least one value")
        elif len(set(values)) != len(values):
            reading.fault(node, below(path, name), "holds a value twice")
    return axes


def _cache(reading: Reading, node: yaml.Node, path: str) -> CacheSpec:
    """`path`, or `{path, key_files}`."""
    if isinstance(node, yaml.ScalarNode):
        return CacheSpec(path=path_text(check_path)(reading, node, path))
    values = mapping(reading, node, path, _CACHE)
    if "path" not in values and isinstance(node, yaml.MappingNode):
        reading.fault(node, f"{path}.path", "is missing")
    return CacheSpec(**{"path": "", **values})


def _report(reading: Reading, node: yaml.Node, path: str) -> ReportSpec:
    """`{type, path, required}`."""
    before = len(reading.faults)
    values = mapping(reading, node, path, _REPORT)
    for key in ("type", "path"):
        if key not in values and len(reading.faults) == before:
            reading.fault(node, f"{path}.{key}", "is missing")
    return ReportSpec(**{"type": "", "path": "", **values})


def _step(reading: Reading, node: yaml.Node, path: str) -> StepSpec:
    """A script, or `{run, name, shell, env, timeout}`; a step without a name is named by its number later."""
    if isinstance(node, yaml.ScalarNode):
        return StepSpec(name="", run=_script(reading, node, path))
    before = len(reading.faults)
    values = mapping(reading, node, path, _STEP)
    if "run" not in values and len(reading.faults) == before:
        reading.fault(node, f"{path}.run", "is missing")
    return StepSpec(
        name=values.get("name", ""),
        run=values.get("run", ""),
        shell=values.get("shell", "bash"),
        environment=values.get("env", {}),
        timeout_s=values.get("timeout"),
    )


def _limits(reading: Reading, node: yaml.Node, path: str) -> dict[str, Any]:
    names = {"memory": "memory_bytes", "log": "log_bytes", "output": "output_bytes"}
    return {names.get(key, key): value for key, value in mapping(reading, node, path, _LIMITS).items()}


def _retry(reading: Reading, node: yaml.Node, path: str) -> Retry:
    """A number, or `{count, on}`."""
    if isinstance(node, yaml.ScalarNode):
        return Retry(count=whole(0, 10)(reading, node, path), on=(Result.ERROR, Result.FAILURE, Result.TIMEOUT))
    return Retry(**mapping(reading, node, path, _RETRY))


def _git(reading: Reading, node: yaml.Node, path: str) -> GitSource | None:
    """`{git: URL, branch, commit, shallow, submodules}`."""
    values = mapping(reading, node, path, _SOURCE)
    if "git" not in values:
        if isinstance(node, yaml.MappingNode):
            reading.fault(node, f"{path}.git", "is missing")
        return None
    return GitSource(url=values.pop("git"), **values)


def _jobs(reading: Reading, node: yaml.Node, path: str) -> list[JobSpec]:
    entries = pairs(reading, node, path)
    if not entries and isinstance(node, yaml.MappingNode):
        raise Bad("is empty: a workflow has at least one job")
    if len(entries) > MOST_JOBS:
        raise Bad(f"must not have more than {MOST_JOBS} jobs")
    return [_job(reading, name, key, value, below(path, name)) for name, key, value in entries]


def _job(reading: Reading, name: str, key: yaml.Node, node: yaml.Node, path: str) -> JobSpec:
    try:
        check_name(name)
    except Bad as exc:
        reading.fault(key, path, f"the name of a job {exc}")
    before = len(reading.faults)
    values = mapping(reading, node, path, _JOB)
    if "steps" in values and "run" in values:
        reading.fault(node, f"{path}.run", "a job has either steps or run")
    elif not (values.get("steps") or values.get("run")) and len(reading.faults) == before:
        reading.fault(node, f"{path}.steps", "is missing: a job has steps, or run")
    return _job_of(name, values)


def _job_of(name: str, values: dict[str, Any]) -> JobSpec:
    steps = values.get("steps") or (StepSpec(name="run", run=values.get("run", "")),)
    times = {"timeout": "wall_s", "silent_timeout": "silent_s"}
    limits = values.get("limits", {}) | {name: values[key] for key, name in times.items() if key in values}
    return JobSpec(
        name=name,
        steps=tuple(replace(step, name=step.name or f"step {i}") for i, step in enumerate(steps, 1)),
        require=_requirement(values),
        locks=tuple(
            LockSpec(name=one.name, scope=one.scope, most=one.most) for one in values.get("locks", ()) if one.scope
        ),
        limits=Limits(**limits),
        environment=values.get("env", {}),
        **{key: values[key] for key in _AS_THEY_ARE if key in values},
    )


def _requirement(values: dict[str, Any]) -> Requirement:
    labels = (*values.get("labels", ()), *(feature_label(feature) for feature in values.get("features", ())))
    locks = tuple((one.name, one.most) for one in values.get("locks", ()) if one.scope is None)
    return Requirement(labels=labels, executor=values.get("executor", ""), system=values.get("system", ""), locks=locks)


_AS_THEY_ARE = (
    "needs",
    "image",
    "secrets",
    "services",
    "caches",
    "outputs",
    "reports",
    "retry",
    "priority",
    "allow_failure",
    "network",
    "matrix",
    "approval",
)


LABEL = matching(_WORD, "a label")
_CACHE: dict[str, Read] = {"path": path_text(check_path), "key_files": listing(path_text(check_pattern))}
_REPORT: dict[str, Read] = {
    "type": one_of(*REPORTS),
    "path": path_text(check_pattern),
    "required": truth,
}
_STEP: dict[str, Read] = {
    "name": name_text,
    "run": _script,
    "shell": matching(_SHELL, "the name of a program that takes the script"),
    "env": environment,
    "timeout": seconds,
}
_LIMITS: dict[str, Read] = {
    "cpus": _cpus,
    "memory": size,
    "pids": whole(1, 4_194_304),
    "log": size,
    "output": size,
}
_RETRY: dict[str, Read] = {"count": whole(0, 10), "on": listing(_result)}
_SOURCE: dict[str, Read] = {
    "git": text,
    "branch": text,
    "commit": text,
    "shallow": truth,
    "submodules": truth,
}
_JOB: dict[str, Read] = {
    "image": text,
    "services": read_services,
    "needs": listing(name_text, most=MOST_JOBS),
    "matrix": _matrix,
    "steps": listing(_step, single=False),
    "run": _script,
    "env": environment,
    "secrets": read_secrets,
    "caches": listing(_cache),
    "outputs": listing(path_text(check_pattern)),
    "reports": listing(_report),
    "labels": listing(LABEL),
    "features": listing(matching(_WORD, "a feature such as kvm")),
    "executor": matching(_WORD, "the name of an executor"),
    "system": matching(_WORD, "the name of a system such as x86_64-linux"),
    "timeout": seconds,
    "silent_timeout": seconds,
    "limits": _limits,
    "retry": _retry,
    "priority": whole(-1000, 1000),
    "allow_failure": truth,
    "network": one_of(*NETWORKS),
    "locks": read_locks,
    "approval": read_approval,
}
WORKFLOW: dict[str, Read] = {
    "name": name_text,
    "notify": read_rules,
    "env": environment,
    "source": _git,
    "concurrency": read_concurrency,
    "jobs": _jobs,
}
