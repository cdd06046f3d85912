"""Reads GitHub's deliveries, and Gitea's and Forgejo's, which have the same shape.

https://docs.github.com/en/webhooks/webhook-events-and-payloads and https://docs.gitea.com/usage/webhooks
"""

import msgspec

from buildyard.apis.hooks import fields
from buildyard.apis.hooks.fields import Ignored, Person, Told
from buildyard.domain.errors import Invalid
from buildyard.domain.pushes import MOST_COMMITS, Commit, PullRequestEvent, PushEvent

MOST_TOLD = 2048
"""GitHub tells at most so many commits of one push."""

OPENED = {"opened", "synchronize", "synchronized", "reopened"}


class Repository(msgspec.Struct):
    """A repository; `id` tells it from others of the forge."""

    id: int
    full_name: str = ""
    clone_url: str | None = None
    ssh_url: str | None = None
    git_url: str | None = None
    html_url: str | None = None


class PushedCommit(msgspec.Struct):
    """A commit of a push."""

    id: str
    message: str | None = None
    timestamp: str | None = None
    url: str | None = None
    author: Person | None = None
    committer: Person | None = None
    added: list[str] | None = None
    removed: list[str] | None = None
    modified: list[str] | None = None


class Push(msgspec.Struct):
    """The event `push`. `total_commits` is Gitea's; `compare` GitHub's, `compare_url` Gitea's."""

    ref: str
    before: str
    after: str
    repository: Repository
    commits: list[PushedCommit] | None = None
    total_commits: int | None = None
    forced: bool = False
    compare: str | None = None
    compare_url: str | None = None
    sender: Person | None = None


class Side(msgspec.Struct):
    """The head or base of a pull request; the repository of a head may be gone."""

    ref: str
    sha: str
    label: str | None = None
    repo: Repository | None = None


class PullRequest(msgspec.Struct):
    """A pull request."""

    head: Side
    base: Side
    title: str | None = None
    html_url: str | None = None


class PullRequestChange(msgspec.Struct):
    """The event `pull_request`."""

    action: str
    number: int
    pull_request: PullRequest
    repository: Repository
    sender: Person | None = None


def read(event: str, body: bytes) -> Told:
    """What a delivery means; `event` is the header that names it."""
    match event:
        case "ping":
            fields.decoded(dict[str, object], body)
            return Ignored("the hook works", is_ping=True)
        case "push":
            return _push(fields.decoded(Push, body))
        case "pull_request" | "pull_request_sync":
            return _pull_request(fields.decoded(PullRequestChange, body))
        case _:
            return Ignored(f"events of the kind {fields.line(event, 60)!r} start nothing")


def _push(push: Push) -> Told:
    branch, tag = fields.branch_or_tag(push.ref, "ref")
    if not (branch or tag):
        return Ignored("only pushes to branches and tags start anything")
    told = push.commits or []
    commits = tuple(_commit(one) for one in told[-MOST_COMMITS:])
    total = len(told) if push.total_commits is None else push.total_commits
    return (
        PushEvent(
            repository=_addresses(push.repository),
            branch=branch,
            tag=tag,
            before=fields.commit_id(push.before, "before"),
            after=fields.commit_id(push.after, "after"),
            commits=commits,
            whole=total == len(commits) < MOST_TOLD and not push.forced,
            sender=push.sender.account if push.sender else "",
            link=fields.link(push.compare or push.compare_url),
        ),
    )


def _commit(commit: PushedCommit) -> Commit:
    author = commit.author.written if commit.author else ""
    return Commit(
        id=fields.some_commit(commit.id, "commits[].id"),
        message=fields.message(commit.message),
        author=author,
        committer=commit.committer.written if commit.committer else author,
        committed_at=fields.moment(commit.timestamp),
        files=fields.paths(commit.added, commit.removed, commit.modified),
        link=fields.link(commit.url),
    )


def _pull_request(change: PullRequestChange) -> Told:
    if change.action not in OPENED:
        return Ignored(f"a pull request that was {fields.line(change.action, 60)!r} starts nothing")
    if not 0 < change.number < 2**53:
        raise Invalid("number must be that of a pull request")
    head, base = change.pull_request.head, change.pull_request.base
    return (
        PullRequestEvent(
            repository=_addresses(change.repository),
            number=change.number,
            head_commit=fields.some_commit(head.sha, "pull_request.head.sha"),
            head_branch=fields.line(head.ref),
            base_branch=fields.short_name(base.ref, "pull_request.base.ref"),
            fetch_ref=f"refs/pull/{change.number}/head",
            is_fork=_is_fork(head, change.repository),
            title=fields.line(change.pull_request.title),
            sender=change.sender.account if change.sender else "",
            link=fields.link(change.pull_request.html_url),
        ),
    )


def _is_fork(head: Side, repository: Repository) -> bool:
    """Whether the head may be of somebody who must not write to the repository.

    Gitea lets people who only read a repository make a pull request by pushing to `refs/for/…` of it: such a head
    has the repository itself, but no branch of its own.
    """
    own = head.repo is not None and head.repo.id == repository.id
    return not own or not head.label or head.ref.startswith("refs/")


def _addresses(repository: Repository) -> tuple[str, ...]:
    return fields.addresses(repository.clone_url, repository.ssh_url, repository.git_url, repository.html_url)
