"""The two log stores, each over the same folder as often as a test opens it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from buildyard.adapters.logs.chunked import ChunkedLogs
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.adapters.logs.objects import S3LogStore
from buildyard.adapters.object_store import connect_s3

Opener = Callable[[], ChunkedLogs]


@pytest.fixture(params=["local", "s3"])
async def open_logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens the store under test; what was opened is closed at the end of the test."""
    opened: list[ChunkedLogs] = []
    url = request.getfixturevalue("s3_url") if request.param == "s3" else ""
    prefix = f"logs-{uuid4().hex}/"

    def opener() -> ChunkedLogs:
        if url:
            bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint=url)
            opened.append(S3LogStore(tmp_path / "logs", bucket, prefix=prefix))
        else:
            opened.append(LocalLogStore(tmp_path / "logs"))
        return opened[-1]

    yield opener
    for store in opened:
        await store.close()


@pytest.fixture
def logs(open_logs: Opener) -> ChunkedLogs:
    """The store under test."""
    return open_logs()
