"""Rules for paths and patterns of a workspace."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.paths import MAX_PATH, Pattern, check_path, check_pattern, matcher, normal


@pytest.mark.parametrize(
    "text", ["dist", "dist/", "./dist", "a/b.c", ".cache", "a b", "ü/ñ", "...", "a..b", "[x]", "xx:y"]
)
def test_ordinary_relative_paths_are_good(text: str) -> None:
    assert check_path(text, "outputs[0]") == []
    assert check_pattern(text, "outputs[0]") == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("/etc/passwd", "relative"),
        ("~/.ssh", "relative"),
        ("..", r"\.\."),
        ("a/../../b", r"\.\."),
        ("../x", r"\.\."),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("C:/x", "drive"),
        ("C:x", "drive"),
        ("a\\b", "/ between"),
        (".", "inside"),
        ("./", "inside"),
        ("x" * 256, "255"),
        ("a/" * MAX_PATH, str(MAX_PATH)),
        ("\ud800", "Unicode"),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_with_the_reason(text: str, word: str) -> None:
    faults = check_pattern(text, "steps[0].outputPaths[1]")

    assert faults
    assert faults[0].path == "steps[0].outputPaths[1]"
    assert re.search(word, faults[0].message)
    assert check_path(text, "x")


def test_a_plain_path_takes_no_wildcards() -> None:
    assert check_path("dist/*", "cacheDirs[0]")
    assert not check_pattern("dist/*", "outputs[0]")


def test_every_fault_of_a_path_is_told() -> None:
    assert len(check_path("/a\\..\\b/../c", "x")) == 3


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("dist", ["dist", "dist/a", "dist/a/b"], ["dist2", "x/dist"]),
        ("dist/", ["dist", "dist/a"], ["dis"]),
        ("./dist//x", ["dist/x"], ["dist"]),
        ("*.whl", ["a.whl", ".whl", "a.whl/inner"], ["d/a.whl", "a.whl2"]),
        ("dist/*.whl", ["dist/a.whl"], ["dist/d/a.whl", "dist"]),
        ("**/*.o", ["a.o", "d/a.o", "d/e/a.o"], ["a.oo", "d/a.c"]),
        ("src/**/x", ["src/x", "src/a/x", "src/a/b/x"], ["x", "a/src/x"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("**", ["a", "a/b"], [".git", ".git/config"]),
        ("*", ["a", ".env"], [".git", ".git/x"]),
        (".git", [".git", ".git/config"], ["a"]),
        ("a?c", ["abc", "a?c"], ["ac", "a/c", "abbc"]),
        ("[ab]", ["[ab]"], ["a", "b"]),
        ("{a,b}", ["{a,b}"], ["a"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
    ],
)
def test_patterns_take_what_their_rules_say(pattern: str, taken: list[str], left: list[str]) -> None:
    takes = matcher([pattern])

    assert [path for path in taken if not takes(path)] == []
    assert [path for path in left if takes(path)] == []


def test_a_walk_may_leave_out_folders_in_which_nothing_can_match() -> None:
    pattern = Pattern("src/*/out/**/*.o")

    assert pattern.may_match_below("")
    assert pattern.may_match_below("src/a")
    assert pattern.may_match_below("src/a/out/b/c")
    assert not pattern.may_match_below("node_modules")
    assert not pattern.may_match_below("src/a/in")


NAMES = st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
SEGMENTS = st.one_of(st.just("**"), st.text(alphabet="ab.*?", min_size=1, max_size=4)).filter(
    lambda segment: segment not in (".", "..")
)


@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(SEGMENTS, min_size=1, max_size=4))
def test_a_match_is_never_hidden_from_a_walk(names: list[str], segments: list[str]) -> None:
    pattern = Pattern("/".join(segments))
    path = "/".join(names)

    if pattern.matches(path):
        assert all(pattern.may_match_below("/".join(names[:depth])) for depth in range(len(names)))


@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(SEGMENTS, min_size=1, max_size=4))
def test_matching_agrees_with_the_rules_written_as_a_regular_expression(names: list[str], segments: list[str]) -> None:
    written = ""
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        if segment == "**":
            written += "[^/]+" if last else "(?:[^/]+/)*"
        else:
            one = "".join({"*": "[^/]*", "?": "[^/]"}.get(c, re.escape(c)) for c in segment)
            written += one if last else f"{one}/"
    path = "/".join(names)

    assert Pattern("/".join(segments)).matches(path) == bool(re.fullmatch(f"(?:{written})(?:/.*)?", path))


def test_a_pattern_made_to_be_slow_is_not() -> None:
    assert not Pattern("/".join(["**", "*a*a*a*a*a*b"] * 40)).matches("/".join(["a" * 60] * 60))


def test_the_normal_spelling_has_no_empty_parts() -> None:
    assert normal("./a//b/./c/") == "a/b/c"
