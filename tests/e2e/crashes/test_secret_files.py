"""Files of secrets do not outlive a killed worker's jobs."""

import os
from pathlib import Path

import pytest

from buildyard.client.messages import NewSecret
from e2e.running import has_logged, script, served, submit, until

VALUE = b"AbCdEfGhIjKlMnOp\n"


def holders(folder: Path) -> list[Path]:
    """The files below a folder, which may be changing, that hold the value."""
    found = []
    for path in (Path(inside) / name for inside, _, names in os.walk(folder) for name in names):
        try:
            if path.is_file() and not path.is_symlink() and VALUE.strip() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


@pytest.mark.covers("secrets.swept")
async def test_a_file_of_a_secret_is_gone_after_a_kill_of_the_worker_once_it_is_back(tmp_path: Path) -> None:
    async with served(tmp_path / "data", BUILDYARD_EXECUTOR="process", BUILDYARD_WORKERS="1") as yard:
        client = yard.client()
        await client.set_secret(NewSecret(name="KEY", value=VALUE, kind="file", account="admin"))
        waiting = 'cat "$KEY"; echo ready; while :; do sleep 0.1; done'
        build = await submit(client, job=script("job", waiting, secrets=["KEY"], retry={"count": 0}))
        await has_logged(client, build, "job", b"ready")
        assert len(holders(yard.data)) == 1

        await yard.kill_worker()
        await client.cancel(build.uid, "")
        await yard.worker_pid()

        await until(lambda: None if holders(yard.data) else True)
        assert holders(yard.data) == []
