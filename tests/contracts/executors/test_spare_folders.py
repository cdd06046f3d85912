"""Folders that serve one workspace after the other show nothing of the one before."""

import os
from pathlib import Path

import pytest

from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.domain.states import Result, Stream
from buildyard.ports import Command, WorkspaceRequest

TRACES = {
    "files": "echo x > file; mkdir -p a/b; echo y > a/b/c; ln -s /etc link",
    "read-only folders": "mkdir -p deep/er; echo x > deep/er/file; chmod 500 deep/er deep",
    "modes": 'chmod 755 . "$HOME"; chmod 700 "$TMPDIR"',
    "home and temporary files": 'echo x > "$HOME/.profile"; echo y > "$TMPDIR/file"',
    "an attribute": 'python3 -c \'import os; os.setxattr(".", "user.trace", b"x")\' || true',
    "a replaced folder": 'rmdir "$HOME"; ln -s /etc "$HOME"',
    "a file beside": "echo x > ../beside",
}
LOOK = 'ls -A . "$HOME" "$TMPDIR" ..; stat -c %a . "$HOME" "$TMPDIR"; getfattr . 2>&1 || true'


async def say(executor: ProcessExecutor, key: str, script: str) -> str:
    """What a script prints in a workspace of its own."""
    workspace = await executor.open(WorkspaceRequest(key=key, marker=key))
    said = bytearray()

    def keep(_stream: Stream, data: bytes) -> None:
        said.extend(data)

    ended = await workspace.run(Command(argv=("bash", "-c", script)), keep)
    assert ended.result is Result.SUCCESS
    await workspace.close()
    return said.decode().replace(key, "KEY")


@pytest.mark.parametrize("trace", TRACES)
async def test_a_workspace_is_as_new_whatever_the_one_before_left(tmp_path: Path, trace: str) -> None:
    executor = ProcessExecutor(tmp_path)
    new = await say(executor, "first", LOOK)

    await say(executor, "second", TRACES[trace])

    assert await say(executor, "third", LOOK) == new
    await executor.close()
    assert not any((tmp_path / "spare").iterdir())


async def test_many_workspaces_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path)
    for round_number in range(2):
        opened = [await executor.open(WorkspaceRequest(key=f"{round_number}-{n}", marker="m")) for n in range(40)]
        assert len({os.stat(workspace.folder).st_ino for workspace in opened}) == 40
        for workspace in opened:
            await workspace.close()
    await executor.close()


async def test_spare_folders_of_a_dead_worker_are_swept(tmp_path: Path) -> None:
    left = tmp_path / "spare" / "old"
    (left / "files").mkdir(parents=True)
    (left / "owner").symlink_to("1.1.77")

    executor = ProcessExecutor(tmp_path)

    assert await executor.sweep() == 1
    assert not left.exists()
    await executor.close()
