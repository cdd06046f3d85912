"""Git sources: every way to name a commit, and what a workspace looks like afterwards."""

import asyncio
import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from buildyard.adapters.sources.git import GitFetcher
from buildyard.domain.errors import Invalid, NotFound, Unavailable
from buildyard.domain.sources import SourcePolicy
from buildyard.domain.specs import GitSource
from contracts.sources.serving import Repository, WebServer
from needs import need

Make = Callable[..., Repository]
LOCAL = SourcePolicy(allow_local=True, environment={"PATH": os.environ.get("PATH", "")})


@pytest.fixture
def fetcher(tmp_path: Path) -> GitFetcher:
    return GitFetcher(tmp_path / "mirrors", LOCAL)


def silent(_line: str) -> None:
    pass


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.iterdir()} - {".git"}


@pytest.mark.parametrize("shallow", [True, False])
async def test_the_default_branch_is_checked_out_as_a_clone_would(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path, shallow: bool
) -> None:
    found = await fetcher.fetch(GitSource(url=hello.url, shallow=shallow), tmp_path / "work", silent)

    work = Repository(tmp_path / "work")
    assert found.commit == hello.git("rev-parse", "main") == work.git("rev-parse", "HEAD")
    assert (found.branch, found.author, found.subject) == ("main", "Ada <ada@example.org>", "Write three")
    assert work.git("status", "--porcelain", "--branch") == "## main...origin/main"
    assert work.git("remote", "get-url", "origin") == hello.url
    assert len(work.git("log", "--format=%H").splitlines()) == (1 if shallow else 3)
    assert names(work.folder) == {"one", "two", "three"}


@pytest.mark.parametrize("shallow", [True, False])
@pytest.mark.parametrize(
    ("branch", "expected"),
    [("feature/x", "feature/x"), ("light", "light"), ("v1", "v1^{commit}"), ("refs/heads/feature/x", "feature/x")],
)
async def test_branches_and_tags_are_found_by_name(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path, branch: str, expected: str, shallow: bool
) -> None:
    source = GitSource(url=hello.url, branch=branch, shallow=shallow)

    found = await fetcher.fetch(source, tmp_path / "work", silent)

    assert found.commit == hello.git("rev-parse", expected)
    assert found.branch == ("feature/x" if "feature" in branch else "")


async def test_a_branch_wins_over_a_tag_of_its_name(fetcher: GitFetcher, hello: Repository, tmp_path: Path) -> None:
    hello.git("tag", "feature/x", "main")

    found = await fetcher.fetch(GitSource(url=hello.url, branch="feature/x"), tmp_path / "work", silent)

    assert found.commit == hello.git("rev-parse", "refs/heads/feature/x")


@pytest.mark.covers("workspace.checkout")
@pytest.mark.parametrize("shallow", [True, False])
@pytest.mark.parametrize("length", [7, 12, 40])
async def test_a_commit_that_is_no_tip_is_found_by_its_name_or_its_beginning(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path, length: int, shallow: bool
) -> None:
    whole = hello.git("rev-parse", "main~1")

    found = await fetcher.fetch(
        GitSource(url=hello.url, commit=whole[:length], shallow=shallow), tmp_path / "work", silent
    )

    assert found.commit == whole
    assert names(tmp_path / "work") == {"one", "two"}


@pytest.mark.parametrize("shallow", [True, False])
async def test_a_server_that_gives_only_tips_still_gives_older_commits(
    fetcher: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path, shallow: bool
) -> None:
    web.old_protocol = True
    commit = hello.git("rev-parse", "main~1")

    found = await fetcher.fetch(
        GitSource(url=web.url(hello), commit=commit, branch="main", shallow=shallow), tmp_path / "work", silent
    )

    assert found.commit == commit


async def test_a_commit_that_only_a_pull_request_has_is_found(
    fetcher: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    hello.git("checkout", "-q", "--detach")
    commit = hello.commit("proposal")
    hello.git("update-ref", "refs/pull/7/head", commit)
    hello.git("checkout", "-q", "main")

    by_name = GitSource(url=web.url(hello), branch="refs/pull/7/head")
    by_commit = GitSource(url=web.url(hello), commit=commit[:9], shallow=False)

    assert (await fetcher.fetch(by_name, tmp_path / "a", silent)).commit == commit
    assert (await fetcher.fetch(by_commit, tmp_path / "b", silent)).commit == commit


async def test_a_whole_checkout_has_every_branch_and_tag(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path
) -> None:
    await fetcher.fetch(GitSource(url=hello.url, shallow=False), tmp_path / "work", silent)

    work = Repository(tmp_path / "work")
    assert work.git("describe") == hello.git("describe")
    assert work.git("rev-parse", "origin/feature/x") == hello.git("rev-parse", "feature/x")


@pytest.mark.parametrize("shallow", [True, False])
async def test_the_workspace_does_not_need_the_mirror(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path, shallow: bool
) -> None:
    await fetcher.fetch(GitSource(url=hello.url, shallow=shallow), tmp_path / "work", silent)
    await asyncio.to_thread(subprocess.run, ["rm", "-rf", str(tmp_path / "mirrors")], check=True)

    work = Repository(tmp_path / "work")
    assert work.git("fsck", "--full") == ""
    assert not (work.folder / ".git" / "objects" / "info" / "alternates").exists()
    linked = [path for path in work.folder.rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert linked == []


async def test_what_was_fetched_before_is_not_fetched_again(
    fetcher: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    source = GitSource(url=web.url(hello))
    first = await fetcher.fetch(source, tmp_path / "a", silent)
    asked = len(web.fetches)
    await fetcher.fetch(source, tmp_path / "b", silent)
    listing_only = len(web.fetches) - asked
    exact = GitSource(url=web.url(hello), commit=first.commit)
    asked = len(web.fetches)
    await fetcher.fetch(exact, tmp_path / "c", silent)

    assert listing_only == 1
    assert len(web.fetches) == asked
    new = hello.commit("five")
    assert (await fetcher.fetch(source, tmp_path / "d", silent)).commit == new


async def test_a_branch_that_was_rewritten_is_followed(fetcher: GitFetcher, hello: Repository, tmp_path: Path) -> None:
    source = GitSource(url=hello.url, branch="feature/x", shallow=False)
    await fetcher.fetch(source, tmp_path / "a", silent)
    hello.git("branch", "-D", "feature/x")
    hello.git("branch", "feature", "main~1")

    with pytest.raises(NotFound, match="no branch or tag feature/x"):
        await fetcher.fetch(source, tmp_path / "b", silent)
    moved = await fetcher.fetch(GitSource(url=hello.url, branch="feature", shallow=False), tmp_path / "c", silent)

    assert moved.commit == hello.git("rev-parse", "feature")


async def test_repositories_with_sha256_names_work(fetcher: GitFetcher, make: Make, tmp_path: Path) -> None:
    repository = make("modern", "--object-format=sha256")
    commit = repository.commit("one")

    found = await fetcher.fetch(GitSource(url=repository.url), tmp_path / "a", silent)
    again = await fetcher.fetch(GitSource(url=repository.url, commit=commit, shallow=False), tmp_path / "b", silent)

    assert found.commit == again.commit == commit
    assert len(commit) == 64


async def test_what_does_not_exist_is_said_in_plain_words(
    fetcher: GitFetcher, hello: Repository, make: Make, web: WebServer, tmp_path: Path
) -> None:
    absent = "0123456789" * 4
    sources = {
        "no branch or tag nope": GitSource(url=hello.url, branch="nope"),
        f"no commit {absent}": GitSource(url=hello.url, commit=absent),
        "no commit 0123456": GitSource(url=web.url(hello), commit="0123456"),
        "does not exist": GitSource(url=web.url(Repository(tmp_path / "served" / "nothing"))),
        "may be empty": GitSource(url=make("empty").url),
    }

    for number, (words, source) in enumerate(sources.items()):
        with pytest.raises(NotFound, match=words):
            await fetcher.fetch(source, tmp_path / str(number), silent)


async def test_an_unreachable_server_is_unavailable(fetcher: GitFetcher, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await fetcher.fetch(GitSource(url="http://127.0.0.1:1/x"), tmp_path / "work", silent)


async def test_credentials_reach_the_server_and_nobody_else(
    fetcher: GitFetcher, hello: Repository, web: WebServer, tmp_path: Path
) -> None:
    web.login = "Basic " + base64.b64encode(b"bob:hunter22").decode()
    said: list[str] = []

    await fetcher.fetch(GitSource(url=web.url(hello, "bob:hunter22")), tmp_path / "work", said.append)
    with pytest.raises(NotFound) as refused:
        await fetcher.fetch(GitSource(url=web.url(hello, "bob:wrong123")), tmp_path / "no", said.append)

    left = await asyncio.to_thread(subprocess.run, ["grep", "-rlE", "hunter22|wrong123", str(tmp_path)], check=False)
    assert left.returncode == 1
    assert not [line for line in [*said, str(refused.value)] if "hunter22" in line or "wrong123" in line]


async def test_progress_is_told_without_drowning_the_reader(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path
) -> None:
    for number in range(300):
        (hello.folder / f"file{number}").write_text(str(number) * 100)
    commit = hello.commit("last")
    said: list[str] = []

    await fetcher.fetch(GitSource(url=hello.url), tmp_path / "work", said.append)

    assert said[0] == f"fetching {hello.url}"
    assert commit in said[-1]
    assert len(said) < 30
    assert not [line for line in said if "\r" in line or "\x1b" in line]


@pytest.mark.covers("workspace.checkout")
async def test_submodules_are_filled_by_their_commit_relative_and_nested(
    fetcher: GitFetcher, make: Make, tmp_path: Path
) -> None:
    inner, middle, outer = make("inner"), make("middle"), make("outer")
    pinned = inner.commit("deep")
    inner.commit("later")
    middle.git("submodule", "add", "-q", "../inner", "deps/inner")
    middle.git("-C", "deps/inner", "checkout", "-q", pinned)
    middle.commit("mid")
    outer.git("submodule", "add", "-q", middle.url, "vendor/middle")
    outer.git("submodule", "add", "-q", inner.url, "unwanted")
    outer.git("config", "-f", ".gitmodules", "submodule.unwanted.update", "none")
    outer.commit("top")

    await fetcher.fetch(GitSource(url=outer.url), tmp_path / "work", silent)
    await fetcher.fetch(GitSource(url=outer.url, submodules=False), tmp_path / "bare", silent)

    work = Repository(tmp_path / "work")
    assert names(work.folder / "vendor/middle/deps/inner") == {"deep"}
    assert names(work.folder / "unwanted") == set()
    assert work.git("status", "--porcelain") == ""
    assert work.git("submodule", "status", "vendor/middle").startswith(middle.git("rev-parse", "HEAD"))
    assert names(tmp_path / "bare" / "vendor/middle") == set()


async def test_a_submodule_that_cannot_be_fetched_is_named(fetcher: GitFetcher, make: Make, tmp_path: Path) -> None:
    inner, outer = make("inner"), make("outer")
    inner.commit("deep")
    outer.git("submodule", "add", "-q", inner.url, "lib")
    outer.git("config", "-f", ".gitmodules", "submodule.lib.url", "../nothing")
    outer.commit("top")

    with pytest.raises(NotFound, match="submodule lib: "):
        await fetcher.fetch(GitSource(url=outer.url), tmp_path / "work", silent)


async def test_a_repository_that_contains_itself_comes_to_an_end(
    fetcher: GitFetcher, make: Make, tmp_path: Path
) -> None:
    outer = make("outer")
    first = outer.commit("one")
    (outer.folder / ".gitmodules").write_text('[submodule "me"]\n\tpath = me\n\turl = ./\n')
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{first},me")
    outer.git("add", ".gitmodules")
    outer.git("commit", "-qm", "Point at the first commit")

    await fetcher.fetch(GitSource(url=outer.url), tmp_path / "work", silent)

    assert names(tmp_path / "work" / "me") == {"one"}


async def test_a_repository_of_another_user_can_be_a_local_source(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path
) -> None:
    need(os.geteuid() == 0, "root, to give files to another user")
    await asyncio.to_thread(subprocess.run, ["chown", "-R", "65534:65534", str(hello.folder)], check=True)

    found = await fetcher.fetch(GitSource(url=hello.url), tmp_path / "work", silent)

    assert found.subject == "Write three"


async def test_a_workspace_that_holds_a_repository_already_is_refused(
    fetcher: GitFetcher, hello: Repository, tmp_path: Path
) -> None:
    await fetcher.fetch(GitSource(url=hello.url), tmp_path / "work", silent)

    with pytest.raises((Invalid, Unavailable)):
        await fetcher.fetch(GitSource(url=hello.url), tmp_path / "work", silent)
