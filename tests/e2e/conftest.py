"""What end-to-end tests share: a pipe on which jobs tell what they do, and the executors that work here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildyard.bootstrap.worker import probe_executors
from buildyard.domain.errors import EngineError
from buildyard.settings import Settings
from e2e.running import Oracle
from needs import need


@pytest.fixture
async def oracle(tmp_path: Path) -> AsyncIterator[Oracle]:
    """Hears what jobs do."""
    hearing = Oracle(tmp_path / "shared")
    yield hearing
    hearing.close()


@pytest.fixture(params=["process", "sandbox"])
async def executor(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of each executor that starts processes."""
    name: str = request.param
    await need_executor(name, tmp_path)
    return name


@pytest.fixture
async def sandbox(tmp_path: Path) -> str:
    """The name of the sandbox, which must work here."""
    await need_executor("sandbox", tmp_path)
    return "sandbox"


async def need_executor(name: str, folder: Path) -> None:
    """Skip where an executor does not work."""
    try:
        probes = await probe_executors(Settings(data=folder / "data"), folder / "probe")
    except EngineError as exc:
        need(False, str(exc))
    probe = next(probe for probe in probes.values() if probe.name == name)
    need(probe.usable, "; ".join(probe.missing))
