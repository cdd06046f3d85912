"""The home folder of a job: where files that belong neither to the sources nor to the outputs are put."""

import asyncio

import pytest

from buildyard.ports import Executor, WorkspaceRequest
from buildyard.worker.placing import place_private
from contracts.executors.watching import Listener, run


@pytest.mark.covers("executors.contract", "secrets.file")
async def test_the_home_folder_is_private_outside_the_workspace_and_gone_with_it(real_executor: Executor) -> None:
    workspace = await real_executor.open(WorkspaceRequest(key="home", marker="home"))
    place_private(workspace.home, ".ssh/key", 0o600, b"the key\n")
    heard = Listener()
    script = 'cat ~/.ssh/key; stat -c %a ~/.ssh ~/.ssh/key; echo more >> ~/.ssh/key; echo "$HOME"'

    ended = await run(workspace, script, heard)
    home = workspace.home
    await workspace.close()

    assert ended.status == 0, heard.errors
    assert heard.output.decode() == f"the key\n700\n600\n{workspace.inside_home}\n"
    assert workspace.folder not in (home, *home.parents)
    assert not await asyncio.to_thread((home / ".ssh").exists)
