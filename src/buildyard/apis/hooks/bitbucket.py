"""Reads Bitbucket Cloud's deliveries: https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/

It never says which files changed, and shows the heads of pull requests in the repositories that they come from only.
"""

import re

import msgspec

from buildyard.apis.hooks import fields
from buildyard.apis.hooks.fields import Ignored, Told
from buildyard.domain.errors import Invalid
from buildyard.domain.pushes import MOST_COMMITS, Commit, PullRequestEvent, PushEvent

SITE = "bitbucket.org"
_FULL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")


class Link(msgspec.Struct):
    """An address of a page."""

    href: str | None = None


class Links(msgspec.Struct):
    """Addresses of pages; only these are of use."""

    html: Link | None = None


class Repository(msgspec.Struct):
    """A repository."""

    full_name: str
    uuid: str | None = None
    links: Links | None = None


class User(msgspec.Struct):
    """Who did it."""

    nickname: str | None = None
    display_name: str | None = None


class Author(msgspec.Struct):
    """Who wrote a commit, as git has it."""

    raw: str | None = None


class Target(msgspec.Struct):
    """A commit."""

    hash: str
    message: str | None = None
    date: str | None = None
    author: Author | None = None
    links: Links | None = None


class Reference(msgspec.Struct):
    """A branch or tag before or after a push."""

    type: str
    name: str
    target: Target | None = None


class Change(msgspec.Struct):
    """One branch or tag that a push moved; `commits` are the newest, the newest first."""

    new: Reference | None = None
    old: Reference | None = None
    commits: list[Target] | None = None
    links: Links | None = None


class Changes(msgspec.Struct):
    """What a push moved."""

    changes: list[Change]


class Push(msgspec.Struct):
    """`repo:push`."""

    push: Changes
    repository: Repository
    actor: User | None = None


class Branch(msgspec.Struct):
    """A branch of a pull request."""

    name: str


class Head(msgspec.Struct):
    """A commit of a pull request, possibly by the beginning of its name."""

    hash: str


class Side(msgspec.Struct):
    """Source or destination of a pull request; a source may be gone."""

    branch: Branch
    commit: Head | None = None
    repository: Repository | None = None


class PullRequest(msgspec.Struct):
    """A pull request."""

    id: int
    source: Side
    destination: Side
    title: str | None = None
    links: Links | None = None


class PullRequestChange(msgspec.Struct):
    """`pullrequest:created` and `pullrequest:updated`."""

    pullrequest: PullRequest
    repository: Repository
    actor: User | None = None


def read(event: str, body: bytes) -> Told:
    """What a delivery means; `event` is the header that names it."""
    match event:
        case "repo:push":
            return _push(fields.decoded(Push, body))
        case "pullrequest:created" | "pullrequest:updated":
            return _pull_request(fields.decoded(PullRequestChange, body))
        case _:
            return Ignored(f"events of the kind {fields.line(event, 60)!r} start nothing")


def _push(push: Push) -> Told:
    found = tuple(_moved(push, change) for change in push.push.changes)
    return found or Ignored("nothing was pushed")


def _moved(push: Push, change: Change) -> PushEvent:
    reference = change.new or change.old
    if reference is None:
        raise Invalid("push.changes[] must have new or old")
    name = fields.short_name(reference.name, "push.changes[].name")
    is_tag = reference.type in ("tag", "annotated_tag")
    return PushEvent(
        repository=_addresses(push.repository),
        branch="" if is_tag else name,
        tag=name if is_tag else "",
        before=_target(change.old),
        after=_target(change.new),
        commits=_commits(change),
        sender=_name(push.actor),
        link=_link(change.links),
    )


def _target(reference: Reference | None) -> str:
    if reference is None:
        return ""
    if reference.target is None:
        raise Invalid("push.changes[].target must be a commit")
    return fields.some_commit(reference.target.hash, "push.changes[].target.hash")


def _commits(change: Change) -> tuple[Commit, ...]:
    told = list(reversed((change.commits or [])[:MOST_COMMITS]))
    head = change.new.target if change.new else None
    if head is not None and all(one.hash != head.hash for one in told):
        told.append(head)
    return tuple(
        Commit(
            id=fields.some_commit(one.hash, "push.changes[].commits[].hash"),
            message=fields.message(one.message),
            author=fields.line(one.author.raw) if one.author else "",
            committer=fields.line(one.author.raw) if one.author else "",
            committed_at=fields.moment(one.date),
            link=_link(one.links),
        )
        for one in told
    )


def _pull_request(change: PullRequestChange) -> Told:
    request = change.pullrequest
    source = request.source
    if source.commit is None or source.repository is None:
        return Ignored("the source of the pull request is gone")
    if not 0 < request.id < 2**53:
        raise Invalid("pullrequest.id must be the number of a pull request")
    if not re.fullmatch(r"[0-9a-f]{12,64}", source.commit.hash):
        raise Invalid("pullrequest.source.commit.hash must be the name of a commit")
    is_fork = source.repository.full_name.lower() != change.repository.full_name.lower()
    return (
        PullRequestEvent(
            repository=_addresses(change.repository),
            number=request.id,
            head_commit=source.commit.hash,
            head_branch=fields.short_name(source.branch.name, "pullrequest.source.branch.name"),
            base_branch=fields.short_name(request.destination.branch.name, "pullrequest.destination.branch.name"),
            fetch_ref=source.branch.name,
            fetch_from=f"https://{SITE}/{_full_name(source.repository)}.git" if is_fork else "",
            is_fork=is_fork,
            once=True,
            title=fields.line(request.title),
            sender=_name(change.actor),
            link=_link(request.links),
        ),
    )


def _full_name(repository: Repository) -> str:
    if not _FULL_NAME.fullmatch(repository.full_name) or ".." in repository.full_name:
        raise Invalid("full_name must be workspace/repository")
    return repository.full_name


def _addresses(repository: Repository) -> tuple[str, ...]:
    name = _full_name(repository)
    return (f"https://{SITE}/{name}.git", f"git@{SITE}:{name}.git")


def _name(user: User | None) -> str:
    return fields.line(user.nickname or user.display_name) if user else ""


def _link(links: Links | None) -> str:
    return fields.link(links.html.href) if links and links.html else ""
