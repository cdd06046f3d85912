"""Reads the deliveries of Bitbucket Server and Data Center.

https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html
"""

import msgspec

from buildyard.apis.hooks import fields
from buildyard.apis.hooks.fields import Ignored, Told
from buildyard.domain.errors import Invalid
from buildyard.domain.pushes import MOST_COMMITS, Commit, PullRequestEvent, PushEvent

OPENED = {"pr:opened", "pr:from_ref_updated"}


class Link(msgspec.Struct):
    """An address."""

    href: str | None = None


class Links(msgspec.Struct):
    """Addresses; `clone` has one for each protocol."""

    clone: list[Link] | None = None
    pages: list[Link] | None = msgspec.field(name="self", default=None)


class Repository(msgspec.Struct):
    """A repository."""

    id: int
    links: Links | None = None


class Actor(msgspec.Struct, rename="camel"):
    """Who did it."""

    name: str | None = None
    display_name: str | None = None


class Reference(msgspec.Struct):
    """The full name of a ref."""

    id: str


class Change(msgspec.Struct, rename="camel"):
    """One ref that a push moved."""

    ref: Reference
    from_hash: str
    to_hash: str
    type: str


class Person(msgspec.Struct, rename="camel"):
    """Who wrote a commit."""

    name: str | None = None
    email_address: str | None = None


class PushedCommit(msgspec.Struct, rename="camel"):
    """A commit, as version 8 and later tell it."""

    id: str
    message: str | None = None
    author: Person | None = None
    committer: Person | None = None
    committer_timestamp: int | None = None


class RefsChanged(msgspec.Struct, rename="camel"):
    """`repo:refs_changed`; `commits` are those of its first ref, the newest first."""

    repository: Repository
    changes: list[Change]
    actor: Actor | None = None
    commits: list[PushedCommit] | None = None
    to_commit: PushedCommit | None = None


class Side(msgspec.Struct, rename="camel"):
    """Where a pull request comes from or goes to."""

    id: str
    latest_commit: str
    repository: Repository


class PullRequest(msgspec.Struct, rename="camel"):
    """A pull request."""

    id: int
    from_ref: Side
    to_ref: Side
    title: str | None = None
    links: Links | None = None


class PullRequestChange(msgspec.Struct, rename="camel"):
    """`pr:opened` and `pr:from_ref_updated`."""

    pull_request: PullRequest
    actor: Actor | None = None


def read(event: str, body: bytes) -> Told:
    """What a delivery means; `event` is the header that names it."""
    if event == "diagnostics:ping":
        return Ignored("the hook works", is_ping=True)
    if event == "repo:refs_changed":
        return _push(fields.decoded(RefsChanged, body))
    if event in OPENED:
        return _pull_request(fields.decoded(PullRequestChange, body))
    return Ignored(f"events of the kind {fields.line(event, 60)!r} start nothing")


def _push(push: RefsChanged) -> Told:
    found = [_moved(push, change, first=number == 0) for number, change in enumerate(push.changes)]
    events = tuple(one for one in found if one is not None)
    return events or Ignored("only pushes to branches and tags start anything")


def _moved(push: RefsChanged, change: Change, *, first: bool) -> PushEvent | None:
    branch, tag = fields.branch_or_tag(change.ref.id, "changes[].ref.id")
    if not (branch or tag):
        return None
    after = fields.commit_id(change.to_hash, "changes[].toHash")
    told = list(reversed((push.commits or [])[:MOST_COMMITS])) if first else []
    if push.to_commit is not None and all(one.id != push.to_commit.id for one in told):
        told.append(push.to_commit)
    commits = tuple(_commit(one) for one in told)
    return PushEvent(
        repository=_addresses(push.repository),
        branch=branch,
        tag=tag,
        before=fields.commit_id(change.from_hash, "changes[].fromHash"),
        after=after if change.type != "DELETE" else "",
        commits=commits if any(one.id == after for one in commits) else (),
        sender=_name(push.actor),
    )


def _commit(commit: PushedCommit) -> Commit:
    stamp = commit.committer_timestamp or 0
    return Commit(
        id=fields.some_commit(commit.id, "commits[].id"),
        message=fields.message(commit.message),
        author=_written(commit.author),
        committer=_written(commit.committer),
        committed_at=fields.milliseconds(stamp),
    )


def _written(person: Person | None) -> str:
    return fields.Person(name=person.name, email=person.email_address).written if person else ""


def _pull_request(change: PullRequestChange) -> Told:
    request = change.pull_request
    if not 0 < request.id < 2**53:
        raise Invalid("pullRequest.id must be the number of a pull request")
    base_branch, _tag = fields.branch_or_tag(request.to_ref.id, "pullRequest.toRef.id")
    if not base_branch:
        return Ignored("only pull requests to branches start anything")
    return (
        PullRequestEvent(
            repository=_addresses(request.to_ref.repository),
            number=request.id,
            head_commit=fields.some_commit(request.from_ref.latest_commit, "pullRequest.fromRef.latestCommit"),
            head_branch=fields.line(request.from_ref.id.removeprefix(fields.HEADS)),
            base_branch=base_branch,
            fetch_ref=f"refs/pull-requests/{request.id}/from",
            is_fork=request.from_ref.repository.id != request.to_ref.repository.id,
            title=fields.line(request.title),
            sender=_name(change.actor),
            link=_link(request.links),
        ),
    )


def _addresses(repository: Repository) -> tuple[str, ...]:
    told = repository.links.clone if repository.links and repository.links.clone else []
    return fields.addresses(*(one.href for one in told))


def _name(actor: Actor | None) -> str:
    return fields.line(actor.name or actor.display_name) if actor else ""


def _link(links: Links | None) -> str:
    return fields.link(links.pages[0].href) if links and links.pages else ""
