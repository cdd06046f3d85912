"""Manifests: one image, sources and an ordered list of tasks that share a home folder; the rules of their values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import getaddresses
from fnmatch import fnmatchcase

from buildyard.domain.errors import Fault
from buildyard.domain.notifications import MOST_RECIPIENTS, Action, Condition, is_mail_address
from buildyard.domain.paths import check_path
from buildyard.domain.sources import check_http_url, check_source
from buildyard.domain.specs import GitSource

MOST_ARTIFACTS = 8
"""With more of them none is kept; a manifest may name more."""

CONDITIONS = (Condition.SUCCESS, Condition.FAILURE, Condition.ALWAYS)
ACTIONS = (Action.EMAIL, Action.WEBHOOK)

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_OTHER_SYSTEM = re.compile(r"(hg|svn|bzr|fossil|darcs|pijul)(\+[a-z]+)?://|(hg|svn)\+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OWN_FILES = frozenset({".buildenv", ".complete-build", ".ssh", ".gnupg", ".secrets", ".git"})
"""Names in the home folder that mean something to Buildyard, or to the programs that it starts there."""

EnvironmentValue = str | bool | None | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository of packages: `url` holds its address and what else its package manager needs, as written."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A script with a name and a log of its own."""

    name: str
    script: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestTrigger:
    """Who is told of the end: mail to `to` and `cc` (addresses as in a header), or a POST to `url`."""

    action: Action
    condition: Condition
    to: str = ""
    cc: str = ""
    in_reply_to: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Which pushes submit the manifest. `allow_refs` are globs of full or short names; none stands for all."""

    enabled: bool = True
    allow_refs: tuple[str, ...] = ()

    def allows(self, ref: str) -> bool:
        """Whether a push to `ref` (`refs/heads/main`) submits."""
        short = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        names = {True: ref, False: short}
        return self.enabled and (
            not self.allow_refs or any(fnmatchcase(names[glob.startswith("refs/")], glob) for glob in self.allow_refs)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest without faults. `notes` are sentences for the job's log: what of it has no effect."""

    image: str
    arch: str = ""
    packages: tuple[str, ...] = ()
    repositories: tuple[Repository, ...] = ()
    sources: tuple[str, ...] = ()
    environment: Mapping[str, EnvironmentValue] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    shell: bool = False
    artifacts: tuple[str, ...] = ()
    oauth: str = ""
    tasks: tuple[Task, ...] = ()
    triggers: tuple[ManifestTrigger, ...] = ()
    submitter: Submitter | None = None
    notes: tuple[str, ...] = ()


# --- sources ------------------------------------------------------------------------------------


def folder_of(source: str) -> str:
    """The folder that a source (`URL#ref`) is cloned into: the last part of its path, without `.git`."""
    url = source.partition("#")[0].rstrip("/")
    return re.split(r"[/:]", url)[-1].removesuffix(".git")


def git_source(source: str) -> GitSource:
    """The place that `URL#ref` means. A ref of 7 to 64 hexadecimal digits is a commit, else a branch or a tag.

    The whole history comes with it, since scripts ask for the last tag.
    """
    url, _, ref = source.partition("#")
    commit = ref if _COMMIT.fullmatch(ref) else ""
    return GitSource(url=url.removeprefix("git+"), branch="" if commit else ref, commit=commit, shallow=False)


def source_faults(source: str, at: str, *, allow_local: bool) -> list[Fault]:
    """Everything wrong with a source that can be seen without the network."""
    if match := _OTHER_SYSTEM.match(source):
        system = match[1] or match[3]
        return [Fault(at, f"only git repositories can be fetched, not {system} ones", "unsupported_source")]
    found = [
        Fault(at, fault.message, fault.code) for fault in check_source(git_source(source), at, allow_local=allow_local)
    ]
    return found or _folder_faults(folder_of(source), at)


def _folder_faults(folder: str, at: str) -> list[Fault]:
    if folder in _OWN_FILES or folder.startswith(".buildyard"):
        return [Fault(at, f"would be cloned into {folder}, which has a meaning of its own", "folder")]
    wrong = [fault.message for fault in check_path(folder, at)]
    return [Fault(at, f"its last part cannot be the name of a folder: {wrong[0]}", "folder")] if wrong else []


# --- triggers -----------------------------------------------------------------------------------


def mailboxes(header: str) -> tuple[str, ...]:
    """The bare addresses of a header such as `Bob <bob@example.org>, list@example.org`; empty ones for what is none."""
    return tuple(address for _, address in getaddresses([header])) if header.strip() else ()


def trigger_faults(trigger: ManifestTrigger, at: str, *, allow_local: bool) -> list[Fault]:
    """Everything wrong with a trigger that can be seen without asking anybody; `at` is its path."""
    if trigger.condition not in CONDITIONS:
        return [Fault(f"{at}.condition", f"must be one of {', '.join(CONDITIONS)}", "condition")]
    if trigger.action is Action.WEBHOOK:
        if not trigger.url:
            return [Fault(f"{at}.url", "is missing: a webhook needs an address", "missing")]
        return check_http_url(trigger.url, f"{at}.url", allow_local=allow_local)
    if trigger.action is Action.EMAIL:
        return _mail_faults(trigger, at)
    return [Fault(f"{at}.action", f"unknown trigger type {str(trigger.action)!r}", "action")]


def _mail_faults(trigger: ManifestTrigger, at: str) -> list[Fault]:
    faults = [
        Fault(f"{at}.{name}", "must not hold line breaks or control characters", "header")
        for name, value in (("to", trigger.to), ("cc", trigger.cc), ("in_reply_to", trigger.in_reply_to))
        if _CONTROL.search(value) or not value.isprintable()
    ]
    if faults:
        return faults
    if not trigger.to.strip():
        return [Fault(f"{at}.to", "is missing: mail needs an address", "missing")]
    boxes = {"to": mailboxes(trigger.to), "cc": mailboxes(trigger.cc)}
    if sum(len(found) for found in boxes.values()) > MOST_RECIPIENTS:
        return [Fault(f"{at}.to", f"must not have more than {MOST_RECIPIENTS} recipients with cc", "count")]
    return [
        Fault(f"{at}.{name}", "must be mail addresses, with commas between them", "address")
        for name, found in boxes.items()
        if not all(is_mail_address(address) for address in found)
    ]
