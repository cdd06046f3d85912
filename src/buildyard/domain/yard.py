"""What a yard file says, read and checked: projects with their pipelines and triggers, and the workers' tokens."""

from dataclasses import dataclass, field

from buildyard.domain.access import Visibility
from buildyard.domain.hooks import Hook
from buildyard.domain.notifications import Rule
from buildyard.domain.specs import GitSource, PipelineSpec
from buildyard.domain.triggers import Spec

DEFINED_BY = "yard file"
"""Who defined what the yard file holds; other APIs leave it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YardTrigger:
    """A trigger, by its name on the server, and the slugs of the project's pipelines that it starts."""

    name: str
    spec: Spec
    pipelines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class YardPipeline:
    """A pipeline with every matrix written out, and what it builds if nothing else is said.

    With `manifests` its repository says what its builds do.
    """

    slug: str
    spec: PipelineSpec
    source: GitSource | None
    notify: tuple[Rule, ...] = ()
    manifests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class YardProject:
    """A project of an account, with all that the file says of it."""

    slug: str
    name: str
    account: str
    visibility: Visibility
    pipelines: tuple[YardPipeline, ...]
    triggers: tuple[YardTrigger, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class YardWorker:
    """A worker that signs in with a secret; its labels are fixed, and it serves one project if that is named."""

    name: str
    secret: str = field(repr=False)
    labels: tuple[str, ...]
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """A whole file."""

    projects: tuple[YardProject, ...] = ()
    workers: tuple[YardWorker, ...] = ()
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that taking a yard file into force changes: `act` is add, change, enable or disable."""

    act: str
    kind: str
    name: str
    detail: str = ""
