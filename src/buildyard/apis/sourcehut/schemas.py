"""What this API's answers hold, in the words and the order of its document."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing wrong with a request."""

    reason: str
    field: str | UnsetType = UNSET


class Problems(msgspec.Struct, kw_only=True):
    """An answer that is not 2xx."""

    errors: list[Problem]


class Owner(msgspec.Struct, kw_only=True):
    """A user."""

    canonical_name: str
    name: str


class Task(msgspec.Struct, kw_only=True):
    """A task of a job."""

    name: str
    status: str
    log: str


class Job(msgspec.Struct, kw_only=True):
    """A job; what answers its submission has no status."""

    id: int
    status: str | UnsetType = UNSET
    setup_log: str
    tasks: list[Task]
    note: str | None
    runner: str | None
    tags: str | UnsetType | None = UNSET
    owner: Owner


class Jobs(msgspec.Struct, kw_only=True):
    """A page of jobs. `next` is the `start` of the following one."""

    next: str | None
    results: list[Job]
    total: int
    results_per_page: int


class Artifact(msgspec.Struct, kw_only=True):
    """A kept file; `url` is null once it was deleted."""

    id: int
    created: str
    path: str
    name: str
    url: str | None
    size: int


class Member(msgspec.Struct, kw_only=True):
    """A job of a group."""

    id: int
    status: str


class Group(msgspec.Struct, kw_only=True):
    """A job group."""

    id: int
    note: str | None
    owner: Owner
    jobs: list[Member]


def encode(body: Any) -> bytes:
    """An answer's bytes."""
    return msgspec.json.encode(body)
