"""Git repositories made for the test and a web server that serves them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.sources.serving import Repository, WebServer, serving
from needs import need_program


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Repository]:
    """Makes repositories below `tmp_path/served`."""
    need_program("git")

    def made(name: str, *options: str) -> Repository:
        repository = Repository(tmp_path / "served" / name)
        repository.folder.mkdir(parents=True)
        repository.git("init", "-q", "-b", "main", *options)
        return repository

    return made


@pytest.fixture
def hello(make: Callable[[str], Repository]) -> Repository:
    """Three commits on main, a branch, two tags."""
    repository = make("hello")
    repository.commit("one")
    repository.git("tag", "light")
    repository.commit("two")
    repository.git("tag", "-a", "-m", "A tag", "v1")
    repository.commit("three")
    repository.git("checkout", "-qb", "feature/x")
    repository.commit("four")
    repository.git("checkout", "-q", "main")
    return repository


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with serving(WebServer(tmp_path / "served")) as server:
        yield server
