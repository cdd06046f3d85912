"""The hooks of yard files."""

from pathlib import Path

import pytest

from buildyard.bootstrap.yard import load_yard
from buildyard.domain.errors import Invalid
from buildyard.domain.hooks import Forge
from buildyard.domain.triggers import Filters, Forks, Poll, PullRequest, Push
from buildyard.engine.yard_book import YardBook

SITE = """
projects:
  site:
    pipelines:
      build:
        source: {git: https://example.org/site.git}
        jobs: {make: {run: make}}
        triggers:
          - push: {branches: [main, "rel/*"], exclude_paths: docs/, skip_words: ["[no]"], cancel_superseded: true}
          - pull_request: {branches: main, forks: ignore}
          - poll: {interval: 2m, tags: "v*", fire_first: true}
"""


def hooks(folder: Path, text: str) -> YardBook:
    (folder / "good").write_text("a good secret\n")
    (folder / "token").write_text("whsec_MDEyMzQ1Njc4OWFiY2RlZg==\n")
    (folder / "short").write_text("short")
    (folder / "yard.yml").write_text(f"{SITE}hooks:\n{text}")
    return YardBook(current=load_yard(folder / "yard.yml", allow_local=False))


@pytest.mark.covers("hooks.yard")
def test_hooks_are_read_with_their_secrets(tmp_path: Path) -> None:
    found = hooks(
        tmp_path,
        "  one: {forge: github, secret_files: good}\n"
        "  two: {forge: gitlab, secret_files: [token, good], projects: [site]}\n",
    ).hooks()

    assert (found["one"].forge, found["one"].secrets) == (Forge.GITHUB, ("a good secret",))
    assert found["two"].secrets == ("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "a good secret")
    assert found["two"].projects == {"site"}
    assert "good secret" not in repr(found)
    assert YardBook().hooks() == {}


@pytest.mark.covers("hooks.yard")
@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("  x: {secret_files: good}", "hooks.x.forge", "is missing"),
        ("  x: {forge: github}", "hooks.x.secret_files", "is missing"),
        ("  x: {forge: github, secret_files: []}", "hooks.x.secret_files", ""),
        ("  x: {forge: cvs, secret_files: good}", "hooks.x.forge", "github"),
        ("  x: {forge: github, secret_files: nothing}", "hooks.x.secret_files", "cannot be read"),
        ("  x: {forge: github, secret_files: short}", "hooks.x.secret_files", "at least 8 characters"),
        ("  x: {forge: github, secret_files: good, projects: [other]}", "hooks.x.projects", "no project 'other'"),
        ("  x: {forge: github, secret_files: good, secret: y}", "hooks.x.secret", "unknown"),
        ("  x/y: {forge: github, secret_files: good}", "hooks", "the name of a hook"),
    ],
)
def test_faults_of_hooks_name_their_place(tmp_path: Path, text: str, path: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        hooks(tmp_path, text)
    assert [one.message for one in caught.value.faults if one.path.startswith(path) and says in one.message], (
        caught.value.faults
    )


@pytest.mark.covers("hooks.yard")
def test_triggers_of_forges_are_read_with_their_filters(tmp_path: Path) -> None:
    current = hooks(tmp_path, "  one: {forge: github, secret_files: good}").current
    assert current is not None
    push, pull, poll = (one.spec for one in current.projects[0].triggers)
    filters = Filters(branches=("main", "rel/*"), exclude_paths=("docs/",))
    assert push == Push(filters=filters, skip_words=("[no]",), cancel_superseded=True)
    assert pull == PullRequest(filters=Filters(branches=("main",)), forks=Forks.IGNORE)
    assert poll == Poll(interval_s=120, filters=Filters(tags=("v*",)), fire_first=True)
