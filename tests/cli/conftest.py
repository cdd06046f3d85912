"""Installations for the tests of the command line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installation import Installation, end

Write = Callable[[str, str], Path]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation that is not started yet; all its processes are ended afterwards."""
    made = Installation(tmp_path / "data")
    yield made
    end(made)


@pytest.fixture(scope="module")
def buildyard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running server that the tests of a module share."""
    made = Installation(tmp_path_factory.mktemp("shared") / "data")
    made.start()
    yield made
    end(made)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into the test's folder."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file
