"""What callers send, read from JSON: one function for each body, and what the query may say."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from buildyard.apis.build_server.bodies import Fields, refuse, text_fault
from buildyard.domain import transitions
from buildyard.domain.builds import State
from buildyard.domain.errors import Fault, Invalid, NotFound
from buildyard.domain.labels import Offer
from buildyard.domain.paths import check_path, check_pattern, normal
from buildyard.domain.sources import check_branch, check_commit, read_address
from buildyard.domain.specs import CacheSpec, GitSource, JobSpec, PipelineSpec, StepSpec
from buildyard.domain.states import Cause, Result
from buildyard.domain.workflow import graph_faults
from buildyard.engine.builds import Submission
from buildyard.engine.images import image_reference
from buildyard.engine.runner_results import Completion, NamedCache, NamedOutput

T = TypeVar("T")

NAME = 100
SLUG = 50
ACCOUNT = 200
REASON = 1000
MESSAGE = 65536
LARGEST = 2**63 - 1
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"[0-7]{3,4}")
_WHOLE = re.compile(r"-?[0-9]{1,30}")

STATUS = {"success": Result.SUCCESS, "failed": Result.FAILURE}
STAGE: dict[str, tuple[Result, Cause, str]] = {
    "run": (Result.FAILURE, Cause.NONE, ""),
    "source": (Result.ERROR, Cause.SOURCE, "the runner could not fetch the source"),
    "inputs": (Result.ERROR, Cause.INPUTS, "the runner could not lay in what earlier steps made"),
    "outputs": (Result.FAILURE, Cause.OUTPUTS, "the step did not make its outputs"),
    "storage": (Result.ERROR, Cause.STORAGE, "the outputs could not be stored"),
    "timeout": (Result.TIMEOUT, Cause.WALL, "wall time limit reached"),
    "log": (Result.LOG_LIMIT, Cause.NONE, "the log is over its limit"),
    "interrupted": (Result.ERROR, Cause.INTERRUPTED, "interrupted at the runner"),
}
"""What a runner's word for where a step failed means."""


@dataclass(frozen=True, slots=True)
class NewProject:
    """Body of `POST /api/projects`."""

    account: str
    name: str


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """Body of `POST /api/projects/{id}/workflows`. With `faults`, `spec` is good only for finding further ones."""

    name: str
    spec: PipelineSpec
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class NewBuild:
    """Body of `POST /api/projects/{id}/builds`."""

    workflow: str
    submission: Submission


@dataclass(frozen=True, slots=True)
class NewImage:
    """Body of `POST /api/docker-images`."""

    slug: str
    url: str
    public: bool


@dataclass(frozen=True, slots=True)
class WantedStep:
    """Body of `POST /api/runner/claim`."""

    offer: Offer
    wait_s: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    limit: int
    offset: int


def project(body: object) -> NewProject:
    """Read a new project."""
    fields = Fields(body, [])
    found = NewProject(
        fields.text("accountId", least=1, most=ACCOUNT, required=True),
        fields.text("name", least=1, most=NAME, required=True),
    )
    refuse(fields.faults)
    return found


def image(body: object) -> NewImage:
    """Read a new image."""
    fields = Fields(body, [])
    found = NewImage(
        fields.text("slug", least=1, most=SLUG, required=True),
        fields.text("imageUrl", least=1, required=True),
        fields.flag("public"),
    )
    fields.check("imageUrl", found.url, _image_faults)
    refuse(fields.faults)
    return found


def _image_faults(url: str, _at: str) -> list[Fault]:
    try:
        image_reference(url)
    except Invalid as exc:
        return list(exc.faults)
    return []


def workflow(body: object, *, script_bytes: int) -> NewWorkflow:
    """Read a new workflow; its faults are given, not raised, since images remain to be looked up."""
    fields = Fields(body, [])
    name = fields.text("name", least=1, most=NAME, required=True)
    steps = [
        _step(Fields(step, fields.faults, f"steps[{i}]"), script_bytes)
        for i, step in enumerate(fields.items("steps", required=True))
    ]
    faults = fields.faults
    if not steps and not any(fault.path in ("steps", "body") for fault in faults):
        fields.note("steps", "must hold at least one step", "empty")
    faults += _graph_faults(steps, {fault.path for fault in faults})
    if any(fault.code == "too_large" for fault in faults):
        refuse(faults)
    return NewWorkflow(name, PipelineSpec(jobs=tuple(steps)), tuple(faults))


def _graph_faults(steps: list[JobSpec], known: set[str]) -> list[Fault]:
    """Faults of the graph; steps without a usable name get one each that nobody can depend on."""
    names = [step.name or f"\0{i}" for i, step in enumerate(steps)]
    found = graph_faults(names, [step.needs for step in steps])
    return [fault for fault in found if fault.path not in known]


def _step(fields: Fields, script_bytes: int) -> JobSpec:
    name = fields.text("name", least=1, most=NAME, required=True)
    slug = fields.text("imageSlug", least=1, required=True)
    needs = fields.texts("dependsOn", required=True)
    script = fields.text("runScript", least=1, required=True)
    if len(script.encode()) > script_bytes:
        fields.note("runScript", f"is over the limit of {script_bytes // 1024} KiB", "too_large")
        script = ""
    return JobSpec(
        name=name,
        image=slug,
        needs=tuple(needs),
        steps=(StepSpec(name="run", run=script),),
        caches=tuple(CacheSpec(path=path) for path in _paths(fields, "cacheDirs", plain=True)),
        outputs=tuple(_paths(fields, "outputPaths", plain=False)),
    )


def _paths(fields: Fields, name: str, *, plain: bool) -> list[str]:
    check = check_path if plain else check_pattern
    found: list[str] = []
    before = len(fields.faults)
    texts = fields.texts(name, required=True)
    known = {fault.path for fault in fields.faults[before:]}
    for i, text in enumerate(texts):
        at = fields.path(f"{name}[{i}]")
        faults = [] if at in known else check(text, at)
        fields.faults.extend(faults)
        if not faults and at not in known:
            found.append(normal(text))
    return list(dict.fromkeys(found))


def build(body: object, *, allow_local: bool) -> NewBuild:
    """Read a new build. Without a repository the commit and branch are only told, not fetched."""
    fields = Fields(body, [])
    workflow_id = fields.text("workflowId", least=1, required=True)
    url, branch, commit = fields.text("repoUrl"), fields.text("branch"), fields.text("commitHash")
    message, author = fields.text("commitMessage", most=MESSAGE), fields.text("commitAuthor", most=REASON)

    def check_url(text: str, at: str) -> list[Fault]:
        address = read_address(text, at, allow_local=allow_local)
        return [address] if isinstance(address, Fault) else []

    fields.check("repoUrl", url, check_url)
    fields.check("branch", branch, check_branch)
    fields.check("commitHash", commit, check_commit)
    refuse(fields.faults)
    source = GitSource(url=url, branch=branch, commit=commit) if url or branch or commit else None
    return NewBuild(workflow_id, Submission(source=source, message=message, author=author))


def reason(body: object) -> str:
    """Read why something is done."""
    fields = Fields(body, [])
    text = fields.text("reason", most=REASON)
    refuse(fields.faults)
    return text


def wanted_step(body: object) -> WantedStep:
    """Read what a runner offers and how long it waits. A script uses the tools of its machine, as `process` does."""
    fields = Fields(body, [])
    labels, system = fields.texts("labels", most=NAME), fields.text("system", most=NAME)
    wait = fields.whole("wait", low=0, high=60)
    refuse(fields.faults)
    return WantedStep(Offer(frozenset(labels), frozenset({"process"}), system), wait or 0)


def held_token(body: object) -> str:
    """Read the token of a step that is held already, if there is one."""
    fields = Fields(body, [])
    token = fields.text("token", most=REASON)
    refuse(fields.faults)
    return token


def found_commit(body: object) -> str:
    """Read the commit that a runner found."""
    fields = Fields(body, [])
    commit = fields.text("commitHash", least=1, required=True)
    fields.check("commitHash", commit, check_commit)
    refuse(fields.faults)
    return commit


def completion(body: object) -> Completion:
    """Read the report of a step's end."""
    fields = Fields(body, [])
    result = fields.word("status", STATUS, Result.FAILURE, required=True)
    failed, cause, detail = fields.word("stage", STAGE, STAGE["run"])
    exit_status = fields.whole("exitStatus", low=0, high=255)
    report = Completion(
        end=_end(result, failed, cause, detail, exit_status),
        token=fields.text("token", most=REASON),
        log=fields.text("logs").encode(),
        exit_status=exit_status,
        named_outputs=tuple(fields.texts("outputPaths", most=2000)),
        outputs=tuple(_named(fields, "artifacts", _output)),
        caches=tuple(_named(fields, "caches", _cache)),
    )
    refuse(fields.faults)
    return report


def _end(result: Result, failed: Result, cause: Cause, detail: str, exit_status: int | None) -> State:
    if result is Result.SUCCESS:
        return transitions.finished(result)
    ended = f"the script ended with status {exit_status}" if exit_status is not None else ""
    return transitions.finished(failed, cause, detail or ended)


def _named(fields: Fields, name: str, read: Callable[[Fields], T]) -> list[T]:
    return [read(Fields(one, fields.faults, f"{name}[{i}]")) for i, one in enumerate(fields.items(name))]


def _output(fields: Fields) -> NamedOutput:
    path, sha256 = _path_and_digest(fields)
    mode = fields.text("mode") or "644"
    if not _MODE.fullmatch(mode):
        fields.note("mode", "must be octal digits", "mode")
        mode = "644"
    return NamedOutput(path, sha256, int(mode, 8) & 0o777)


def _cache(fields: Fields) -> NamedCache:
    return NamedCache(*_path_and_digest(fields))


def _path_and_digest(fields: Fields) -> tuple[str, str]:
    path, sha256 = fields.text("path", least=1, required=True), fields.text("sha256", required=True)
    fields.check("path", path, check_path)
    if sha256 and not _SHA256.fullmatch(sha256):
        fields.note("sha256", "must be 64 hexadecimal digits", "sha256")
    return normal(path), sha256


# --- paths and queries --------------------------------------------------------------------------


def uid(text: str, what: str) -> str:
    """An identifier from a path; what is none cannot exist."""
    if not _UUID.fullmatch(text):
        raise NotFound(f"{what} not found")
    return text


def page(query: Mapping[str, str], *, default: int, most: int) -> Page:
    """`limit` (more than `most` counts as `most`) and `offset`."""
    faults: list[Fault] = []
    limit, offset = whole(query, "limit", default, faults), whole(query, "offset", 0, faults)
    refuse(faults)
    return Page(min(limit, most), offset)


def whole(query: Mapping[str, str], name: str, default: int, faults: list[Fault]) -> int:
    """An integer of the query from 0 on."""
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text):
        faults.append(Fault(name, "must be an integer", "type"))
    elif not 0 <= int(text) <= LARGEST:
        faults.append(Fault(name, f"must be from 0 to {LARGEST}", "range"))
    else:
        return int(text)
    return default


def words(query: Mapping[str, str], name: str, *, required: bool = False) -> str | None:
    """A text of the query."""
    text = query.get(name)
    if text is None and not required:
        return None
    complaint = text_fault(text or "", least=int(required), most=1000)
    if complaint is not None:
        refuse([Fault(name, "is required" if text is None else complaint[0], complaint[1])])
    return text


def flag(query: Mapping[str, str], name: str) -> bool | None:
    """A boolean of the query."""
    text = query.get(name)
    if text is None:
        return None
    if text not in ("true", "false"):
        refuse([Fault(name, "must be true or false", "type")])
    return text == "true"
