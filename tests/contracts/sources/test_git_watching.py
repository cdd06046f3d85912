"""Looking at real repositories: where branches and tags stand, and by which commits they moved."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from buildyard.adapters.sources.git_watching import GitWatcher
from buildyard.domain.errors import Invalid, NotFound, Unavailable
from buildyard.domain.pushes import MOST_COMMITS, Commits
from buildyard.domain.sources import SourcePolicy
from contracts.sources.serving import Repository, WebServer


@pytest.fixture
def watcher(tmp_path: Path) -> GitWatcher:
    return GitWatcher(tmp_path / "looks", SourcePolicy(allow_local=True))


@pytest.mark.covers("poll.sources")
async def test_heads_are_those_of_branches_and_tags(hello: Repository, web: WebServer, watcher: GitWatcher) -> None:
    expected = {
        "refs/heads/main": hello.git("rev-parse", "main"),
        "refs/heads/feature/x": hello.git("rev-parse", "feature/x"),
        "refs/tags/light": hello.git("rev-parse", "light"),
        "refs/tags/v1": hello.git("rev-parse", "v1^{commit}"),
    }
    hello.git("update-ref", "refs/pull/1/head", "main")

    assert await watcher.heads(hello.url) == expected
    assert await watcher.heads(web.url(hello)) == expected


@pytest.mark.covers("poll.sources")
async def test_news_are_the_commits_with_their_files(
    hello: Repository, web: WebServer, watcher: GitWatcher, tmp_path: Path
) -> None:
    before = hello.git("rev-parse", "HEAD")
    hello.commit("docs/a b.md")
    hello.git("mv", "one", "eins")
    after = hello.commit("src/\u00e4.c")

    for url in (hello.url, web.url(hello)):
        news = await watcher.news(url, "refs/heads/main", before, after)
        assert news.whole
        assert [one.message for one in news.commits] == ["Write docs/a b.md", "Write src/\u00e4.c"]
        assert [set(one.files or ()) for one in news.commits] == [{"docs/a b.md"}, {"one", "eins", "src/\u00e4.c"}]
        assert news.commits[1].id == after
        assert {one.author for one in news.commits} == {"Ada <ada@example.org>"}
        assert news.commits[0].committed_at
    assert list((tmp_path / "looks").iterdir()) == []


@pytest.mark.covers("poll.sources")
async def test_what_a_merge_brings_counts(hello: Repository, watcher: GitWatcher) -> None:
    before = hello.git("rev-parse", "HEAD")
    hello.git("merge", "-q", "--no-ff", "-m", "Merge it", "feature/x")
    news = await watcher.news(hello.url, "refs/heads/main", before, hello.git("rev-parse", "HEAD"))

    assert [(one.message, one.files) for one in news.commits] == [("Write four", ("four",)), ("Merge it", ("four",))]


@pytest.mark.covers("poll.sources")
async def test_of_a_new_branch_the_newest_commit_is_told_and_no_files(hello: Repository, watcher: GitWatcher) -> None:
    after = hello.git("rev-parse", "feature/x")
    for before in ("", "f" * 40):
        news = await watcher.news(hello.url, "refs/heads/feature/x", before, after)
        assert [(one.id, one.message, one.files) for one in news.commits] == [(after, "Write four", None)]
        assert not news.whole


@pytest.mark.covers("poll.sources")
async def test_a_long_history_is_cut(make: Callable[[str], Repository], watcher: GitWatcher) -> None:
    repository = make("long")
    before = repository.commit("first")
    for number in range(MOST_COMMITS + 3):
        repository.git("commit", "-q", "--allow-empty", "-m", f"Nr {number}")
    news = await watcher.news(repository.url, "refs/heads/main", before, repository.git("rev-parse", "HEAD"))

    assert not news.whole
    assert news.commits[-1].message == f"Nr {MOST_COMMITS + 2}"


@pytest.mark.covers("poll.sources")
async def test_a_branch_that_moved_on_meanwhile_has_no_news(hello: Repository, watcher: GitWatcher) -> None:
    assert await watcher.news(hello.url, "refs/heads/main", "", "e" * 40) == Commits()


@pytest.mark.covers("poll.sources")
async def test_odd_messages_and_names_stay_apart(hello: Repository, watcher: GitWatcher) -> None:
    before = hello.git("rev-parse", "HEAD")
    hello.git("commit", "-q", "--allow-empty", "-m", "\x01" + "a" * 40 + "\n\n\nend")
    after = hello.commit("a" * 40)
    news = await watcher.news(hello.url, "refs/heads/main", before, after)

    assert [one.files for one in news.commits] == [(), ("a" * 40,)] or news.commits[0].files is None
    assert [one.message.endswith("end") for one in news.commits] == [True, False]


@pytest.mark.covers("poll.sources", "poll.errors")
async def test_addresses_are_held_to_the_same_rules_as_sources(
    hello: Repository, web: WebServer, tmp_path: Path, watcher: GitWatcher
) -> None:
    strict = GitWatcher(tmp_path / "strict", SourcePolicy())
    for url in (hello.url, web.url(hello), web.url(hello, host="localhost"), "ext::sh -c id", "--upload-pack=x"):
        with pytest.raises(Invalid):
            await strict.heads(url)
    with pytest.raises(NotFound):
        await watcher.heads("file:///nowhere/at/all")
    web.redirect_to = "http://127.0.0.1:1/"
    with pytest.raises(Invalid, match="redirects"):
        await watcher.heads(web.url(hello))


@pytest.mark.covers("poll.errors")
async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    watcher = GitWatcher(tmp_path / "looks", SourcePolicy(allow_local=True), timeout_s=0.5)
    async with silent:
        with pytest.raises(Unavailable, match="did not answer within"):
            await watcher.heads(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/x.git")
    assert list((tmp_path / "looks").iterdir()) == []
