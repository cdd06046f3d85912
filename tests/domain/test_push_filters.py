"""Globs, filters and skip words."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildyard.domain.push_filters import matches, refusal_of_push, wants_files, wants_ref, word_in
from buildyard.domain.pushes import Commit, PushEvent
from buildyard.domain.triggers import SKIP_WORDS, Filters


@pytest.mark.covers("filters.globs")
@pytest.mark.parametrize(
    ("glob", "fits", "not_fits"),
    [
        ("main", ["main"], ["main2", "Main", "x/main", ""]),
        ("release-*", ["release-", "release-1.2"], ["release-1/x", "release"]),
        ("feature/*", ["feature/a"], ["feature/a/b", "feature/"[:-1]]),
        ("feature/**", ["feature/a", "feature/a/b"], ["features/a"]),
        ("**", ["", "a", "a/b"], []),
        ("**/*.c", ["a.c", "src/a.c", "src/deep/a.c"], ["a.h", "a.cc"]),
        ("docs/", ["docs/a", "docs/a/b"], ["docs", "mydocs/a"]),
        ("src/**/test", ["src/test", "src/a/b/test"], ["src/atest", "test"]),
        ("v?.?", ["v1.2"], ["v1", "v10.2", "v/.1"]),
        ("a**b", ["ab", "a/x/b"], ["a/x/c"]),
        ("[x].c", ["[x].c"], ["x.c"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_globs_match_whole_texts(glob: str, fits: list[str], not_fits: list[str]) -> None:
    assert [text for text in fits if not matches(glob, text)] == []
    assert [text for text in not_fits if matches(glob, text)] == []


def as_expression(glob: str) -> str:
    """The same as a regular expression, which may take ages."""
    whole = f"{glob}**" if glob.endswith("/") else glob
    parts = re.split(r"((?:(?<=/)|^)\*\*/|\*\*|\*|\?)", whole)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(words.get(part, re.escape(part)) for part in parts)


@pytest.mark.covers("filters.globs")
@settings(max_examples=300, deadline=None)
@given(st.text("ab/*?", max_size=7), st.text("ab/", max_size=7))
def test_globs_mean_what_regular_expressions_would(glob: str, text: str) -> None:
    assert matches(glob, text) == (re.fullmatch(as_expression(glob), text, re.S) is not None)


@pytest.mark.covers("filters.globs")
def test_no_glob_takes_ages() -> None:
    assert not matches("*a" * 100 + "**/" * 20 + "b", "a" * 2000)


@pytest.mark.covers("filters.branches")
def test_branches_are_included_and_excluded() -> None:
    some = Filters(branches=("main", "release/*"), exclude_branches=("release/old*",))
    wanted = ["main", "topic", "release/1", "release/old1"]
    assert [name for name in wanted if wants_ref(some, branch=name)] == ["main", "release/1"]
    assert [name for name in wanted if wants_ref(Filters(), branch=name)] == wanted
    assert not wants_ref(Filters(), tag="v1")


@pytest.mark.covers("filters.branches")
def test_who_names_tags_alone_gets_no_branches() -> None:
    tags = Filters(tags=("v*",))
    assert wants_ref(tags, tag="v1")
    assert not wants_ref(tags, tag="x1")
    assert not wants_ref(tags, branch="main")
    both = Filters(tags=("v*",), exclude_branches=("wip/**",))
    assert wants_ref(both, branch="main")
    assert not wants_ref(both, branch="wip/a")


@pytest.mark.covers("filters.paths")
def test_one_wanted_file_is_enough_and_unknown_files_count() -> None:
    code = Filters(paths=("src/**", "*.toml"), exclude_paths=("src/docs/",))
    assert wants_files(code, {"README", "src/a.c"})
    assert wants_files(code, {"setup.toml"})
    assert not wants_files(code, {"README", "src/docs/a.c"})
    assert not wants_files(code, set())
    assert wants_files(code, None)
    assert wants_files(Filters(exclude_paths=("docs/",)), {"docs/a", "b"})
    assert not wants_files(Filters(exclude_paths=("docs/",)), {"docs/a"})


@pytest.mark.covers("filters.skip_words")
def test_words_of_the_head_commit_skip() -> None:
    head = Commit(id="b" * 40, message="Fix a word\n\n[Skip CI] for once")
    push = PushEvent(repository=(), branch="main", after=head.id, commits=(Commit(id="a" * 40, message="x"), head))
    assert word_in(head.message, SKIP_WORDS) == "[skip ci]"
    assert "[skip ci]" in refusal_of_push(Filters(), SKIP_WORDS, push)
    assert refusal_of_push(Filters(), ("[no build]",), push) == ""
    earlier = PushEvent(repository=(), branch="main", after="c" * 40, commits=(head, Commit(id="c" * 40)))
    assert refusal_of_push(Filters(), SKIP_WORDS, earlier) == ""
