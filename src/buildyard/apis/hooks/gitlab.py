"""Reads GitLab's deliveries: https://docs.gitlab.com/user/project/integrations/webhook_events/"""

import msgspec

from buildyard.apis.hooks import fields
from buildyard.apis.hooks.fields import Ignored, Person, Told
from buildyard.domain.errors import Invalid
from buildyard.domain.pushes import MOST_COMMITS, Commit, PullRequestEvent, PushEvent


class Project(msgspec.Struct):
    """A project's addresses."""

    git_http_url: str | None = None
    git_ssh_url: str | None = None
    web_url: str | None = None


class PushedCommit(msgspec.Struct):
    """A commit of a push."""

    id: str
    message: str | None = None
    timestamp: str | None = None
    url: str | None = None
    author: Person | None = None
    added: list[str] | None = None
    removed: list[str] | None = None
    modified: list[str] | None = None


class Push(msgspec.Struct):
    """`Push Hook` and `Tag Push Hook`. At most 20 commits are told; of a new branch none."""

    ref: str
    before: str
    after: str
    project: Project
    checkout_sha: str | None = None
    commits: list[PushedCommit] | None = None
    total_commits_count: int | None = None
    user_username: str | None = None
    user_name: str | None = None


class LastCommit(msgspec.Struct):
    """The head of a merge request."""

    id: str
    message: str | None = None


class MergeRequest(msgspec.Struct):
    """A merge request; `oldrev` is there if its commits changed."""

    iid: int
    source_branch: str
    target_branch: str
    source_project_id: int | None
    target_project_id: int
    last_commit: LastCommit
    action: str | None = None
    oldrev: str | None = None
    title: str | None = None
    url: str | None = None


class MergeRequestChange(msgspec.Struct):
    """`Merge Request Hook`."""

    project: Project
    object_attributes: MergeRequest
    user: Person | None = None


def read(event: str, body: bytes) -> Told:
    """What a delivery means; `event` is the header that names it."""
    match event:
        case "Push Hook" | "Tag Push Hook":
            return _push(fields.decoded(Push, body))
        case "Merge Request Hook":
            return _merge_request(fields.decoded(MergeRequestChange, body))
        case _:
            return Ignored(f"events of the kind {fields.line(event, 60)!r} start nothing")


def _push(push: Push) -> Told:
    branch, tag = fields.branch_or_tag(push.ref, "ref")
    if not (branch or tag):
        return Ignored("only pushes to branches and tags start anything")
    after = fields.commit_id(push.after, "after")
    if after and push.checkout_sha:
        after = fields.some_commit(push.checkout_sha, "checkout_sha")
    told = push.commits or []
    commits = tuple(_commit(one) for one in told[-MOST_COMMITS:])
    return (
        PushEvent(
            repository=_addresses(push.project),
            branch=branch,
            tag=tag,
            before=fields.commit_id(push.before, "before"),
            after=after,
            commits=commits,
            whole=push.total_commits_count == len(commits),
            sender=fields.line(push.user_username or push.user_name),
            link=commits[-1].link if commits else "",
        ),
    )


def _commit(commit: PushedCommit) -> Commit:
    author = commit.author.written if commit.author else ""
    return Commit(
        id=fields.some_commit(commit.id, "commits[].id"),
        message=fields.message(commit.message),
        author=author,
        committer=author,
        committed_at=fields.moment(commit.timestamp),
        files=fields.paths(commit.added, commit.removed, commit.modified),
        link=fields.link(commit.url),
    )


def _merge_request(change: MergeRequestChange) -> Told:
    request = change.object_attributes
    moved = request.action in ("open", "reopen") or (request.action == "update" and bool(request.oldrev))
    if not moved:
        return Ignored("a merge request starts something when it is opened, opened again, or has new commits")
    if not 0 < request.iid < 2**53:
        raise Invalid("object_attributes.iid must be the number of a merge request")
    return (
        PullRequestEvent(
            repository=_addresses(change.project),
            number=request.iid,
            head_commit=fields.some_commit(request.last_commit.id, "object_attributes.last_commit.id"),
            head_branch=fields.line(request.source_branch),
            base_branch=fields.short_name(request.target_branch, "object_attributes.target_branch"),
            fetch_ref=f"refs/merge-requests/{request.iid}/head",
            is_fork=request.source_project_id != request.target_project_id,
            title=fields.line(request.title),
            sender=change.user.account if change.user else "",
            link=fields.link(request.url),
        ),
    )


def _addresses(project: Project) -> tuple[str, ...]:
    return fields.addresses(project.git_http_url, project.git_ssh_url, project.web_url)
