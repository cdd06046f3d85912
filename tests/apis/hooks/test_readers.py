"""What each forge's deliveries mean, from payloads in the shapes that they document."""

import json

import pytest

from apis.hooks.deliveries import (
    AFTER,
    BEFORE,
    MIDDLE,
    NOBODY,
    PULLS,
    PUSHES,
    SOURCES,
    Told,
    bitbucket_pull,
    bitbucket_push,
    gitea_pull,
    gitea_push,
    github_commit,
    github_pull,
    github_push,
    github_repository,
    gitlab_merge,
    gitlab_push,
    server_pull,
    server_push,
)
from buildyard.apis.hooks.fields import Ignored
from buildyard.apis.hooks.routes import READERS
from buildyard.domain.errors import Invalid
from buildyard.domain.hooks import Forge
from buildyard.domain.pushes import MOST_COMMITS, PullRequestEvent, PushEvent, keys_of, repository_key


def read_push(forge: Forge, told: Told) -> PushEvent:
    (event,) = read(forge, told)
    assert isinstance(event, PushEvent)
    return event


def read_pull(forge: Forge, told: Told) -> PullRequestEvent:
    (event,) = read(forge, told)
    assert isinstance(event, PullRequestEvent)
    return event


def read(forge: Forge, told: Told) -> tuple[PushEvent | PullRequestEvent, ...]:
    found = READERS[forge](told.event, told.body)
    assert not isinstance(found, Ignored), found
    return found


def ignored(forge: Forge, told: Told) -> str:
    found = READERS[forge](told.event, told.body)
    assert isinstance(found, Ignored), found
    return found.why


@pytest.mark.covers("hooks.forges")
@pytest.mark.parametrize("forge", Forge)
def test_a_push_says_branch_commits_and_repository(forge: Forge) -> None:
    push = read_push(forge, PUSHES[forge](message="Say hello"))

    assert (push.branch, push.tag, push.before, push.after) == ("main", "", BEFORE, AFTER)
    assert push.head.message == "Say hello"
    assert repository_key(SOURCES[forge]) in keys_of(push.repository)
    assert push.sender in {"Codertocat", "ada", "jsmith", "admin"}
    assert push.head.author.endswith(("<ada@example.org>", "<admin@example.com>"))
    assert push.head.committed_at is not None


@pytest.mark.covers("hooks.forges")
@pytest.mark.parametrize("forge", Forge)
def test_a_pull_request_says_its_head_and_its_base(forge: Forge) -> None:
    pull = read_pull(forge, PULLS[forge]())

    assert AFTER.startswith(pull.head_commit)
    assert pull.base_branch in {"main", "master"}
    assert not pull.is_fork
    assert pull.fetch_from == ""
    assert str(pull.number) in pull.fetch_ref or pull.fetch_ref == pull.head_branch
    assert pull.link.startswith("https://")


@pytest.mark.covers("hooks.forges")
def test_changed_files_are_known_where_the_forge_tells_them_all() -> None:
    assert read_push(Forge.GITHUB, github_push()).files == {"src/hello.c", "docs/hello.md"}
    assert read_push(Forge.GITEA, gitea_push()).files == {"docs/hello.md"}
    assert read_push(Forge.GITLAB, gitlab_push()).files == {"CHANGELOG", "app/controller/application.rb"}
    assert read_push(Forge.GITHUB, github_push(forced=True)).files is None
    assert read_push(Forge.GITHUB, github_push(commits=[])).files is None
    assert read_push(Forge.GITEA, gitea_push(total_commits=9)).files is None
    assert read_push(Forge.GITLAB, gitlab_push(total_commits_count=21)).files is None
    assert read_push(Forge.BITBUCKET, bitbucket_push()).files is None
    assert read_push(Forge.BITBUCKET_SERVER, server_push(message="x")).files is None


@pytest.mark.covers("hooks.forges")
def test_of_a_long_push_the_newest_commits_are_kept_and_the_files_are_not_known() -> None:
    commits = [github_commit(f"{number:040x}", f"Nr {number}", added=["a"]) for number in range(1, MOST_COMMITS + 5)]
    push = read_push(Forge.GITHUB, github_push(commits=commits, after=commits[-1]["id"]))

    assert len(push.commits) == MOST_COMMITS
    assert push.head.message == f"Nr {MOST_COMMITS + 4}"
    assert push.files is None


@pytest.mark.covers("hooks.forges")
@pytest.mark.parametrize("forge", sorted(set(Forge) - {Forge.BITBUCKET}))
def test_tags_are_no_branches(forge: Forge) -> None:
    push = read_push(forge, PUSHES[forge]("refs/tags/v1"))
    assert (push.branch, push.tag, push.ref) == ("", "v1", "tag v1")


@pytest.mark.covers("hooks.forges")
def test_bitbucket_tells_tags_apart_by_their_type_and_may_tell_many_changes() -> None:
    told = bitbucket_push("v1", "tag")
    assert read_push(Forge.BITBUCKET, told).tag == "v1"

    told.document["push"]["changes"] += bitbucket_push("next").document["push"]["changes"]
    assert [one.ref for one in read(Forge.BITBUCKET, told)] == ["tag v1", "branch next"]


@pytest.mark.covers("hooks.deleted")
def test_a_deleted_branch_has_no_commit_after() -> None:
    deleted = [
        read_push(Forge.GITHUB, github_push(after=NOBODY, commits=[], deleted=True)),
        read_push(Forge.GITEA, gitea_push(after=NOBODY, commits=[], total_commits=0)),
        read_push(Forge.GITLAB, gitlab_push(after=NOBODY, checkout_sha=None, commits=[])),
        read_push(Forge.BITBUCKET, bitbucket_push(new=None, commits=[])),
        read_push(Forge.BITBUCKET_SERVER, server_push(kind="DELETE", toHash=NOBODY)),
    ]
    assert [(one.branch, one.after) for one in deleted] == [("main", "")] * 5


@pytest.mark.covers("hooks.forges")
def test_a_new_branch_has_no_commit_before() -> None:
    assert read_push(Forge.GITLAB, gitlab_push(before=NOBODY)).before == ""
    assert read_push(Forge.BITBUCKET, bitbucket_push(old=None)).before == ""


@pytest.mark.covers("hooks.forks")
def test_forks_are_told_from_branches_of_the_repository() -> None:
    other = github_repository("mallory/Hello-World", 5)
    assert read_pull(Forge.GITHUB, github_pull(head_repository=other)).is_fork
    assert read_pull(Forge.GITHUB, github_pull(repo=None)).is_fork
    assert read_pull(Forge.GITLAB, gitlab_merge(source_project_id=77)).is_fork
    assert read_pull(Forge.GITLAB, gitlab_merge(source_project_id=None)).is_fork
    assert read_pull(Forge.BITBUCKET_SERVER, server_pull(source=85)).is_fork

    fork = read_pull(Forge.BITBUCKET, bitbucket_pull(source="mallory/hello"))
    assert fork.is_fork
    assert fork.fetch_from == "https://bitbucket.org/mallory/hello.git"


@pytest.mark.covers("hooks.forks")
def test_a_pull_request_pushed_without_a_branch_counts_as_a_strangers() -> None:
    assert read_pull(Forge.GITEA, gitea_pull(label="", ref="refs/pull/2/head")).is_fork
    assert read_pull(Forge.FORGEJO, gitea_pull(ref="refs/pull/2/head")).is_fork


@pytest.mark.covers("hooks.forges")
def test_pull_requests_start_something_only_when_their_commits_are_new() -> None:
    assert read_pull(Forge.GITLAB, gitlab_merge("update", oldrev=BEFORE)).head_commit == AFTER
    assert "new commits" in ignored(Forge.GITLAB, gitlab_merge("update"))
    assert "closed" in ignored(Forge.GITHUB, github_pull("closed"))
    assert "label_updated" in ignored(Forge.GITEA, gitea_pull("label_updated"))
    assert "pr:merged" in ignored(Forge.BITBUCKET_SERVER, server_pull("pr:merged"))
    assert read_pull(Forge.BITBUCKET, bitbucket_pull("pullrequest:updated")).once


@pytest.mark.covers("hooks.unknown")
@pytest.mark.parametrize("forge", Forge)
def test_events_that_nothing_is_known_of_start_nothing(forge: Forge) -> None:
    assert "start nothing" in ignored(forge, Told("star_gazing", {}))


@pytest.mark.covers("hooks.ping")
def test_pings_are_known() -> None:
    for forge, told in (
        (Forge.GITHUB, Told("ping", {"zen": "x"})),
        (Forge.BITBUCKET_SERVER, Told("diagnostics:ping", {})),
    ):
        found = READERS[forge](told.event, told.body)
        assert isinstance(found, Ignored)
        assert found.is_ping


@pytest.mark.covers("hooks.bad_bodies")
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"after": "abc"}, "after must be the whole name of a commit"),
        ({"after": AFTER.upper()}, "after must be the whole name of a commit"),
        ({"after": 7}, r"Expected `str`, got `int` - at `\$.after`"),
        ({"ref": "refs/heads/a..b"}, "ref is not a name that git allows"),
        ({"ref": "refs/heads/-upload-pack=x"}, "ref is not a name that git allows"),
        ({"repository": None}, r"at `\$.repository`"),
        ({"commits": [{"id": "x"}]}, r"commits\[\].id must be the whole name"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changed: dict[str, object], says: str) -> None:
    told = github_push(**changed)
    with pytest.raises(Invalid, match=says):
        READERS[Forge.GITHUB](told.event, told.body)


@pytest.mark.covers("hooks.bad_bodies")
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"ref": "\\ud800"}', b"null", b"7"])
@pytest.mark.parametrize("forge", Forge)
def test_broken_bodies_are_invalid(forge: Forge, body: bytes) -> None:
    for make in (PUSHES, PULLS):
        with pytest.raises(Invalid):
            READERS[forge](make[forge]().event, body)


@pytest.mark.covers("hooks.bad_bodies")
def test_texts_are_bounded_and_fit_for_databases() -> None:
    commit = {**github_commit(AFTER, "a\0b" + "x" * 100_000), "url": "javascript:alert(1)", "timestamp": "yesterday"}
    commit |= {"author": {"name": "A\0\nB" * 1000, "email": "e"}, "added": ["p\0q" * 9000]}
    push = read_push(Forge.GITHUB, github_push(commits=[commit]))

    assert "\0" not in json.dumps([push.head.message, push.head.author, *(push.files or ())])
    assert len(push.head.message) <= 16_384
    assert "\n" not in push.head.author
    assert (push.head.link, push.head.committed_at) == ("", None)


@pytest.mark.covers("hooks.forges")
def test_the_oldest_commit_comes_first() -> None:
    assert [one.id for one in read_push(Forge.BITBUCKET, bitbucket_push()).commits] == [MIDDLE, AFTER]
    assert [one.id for one in read_push(Forge.GITHUB, github_push()).commits] == [MIDDLE, AFTER]
