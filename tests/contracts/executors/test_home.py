"""The home folder of a job: where files that belong neither to the sources nor to the outputs are put."""

import asyncio

import pytest

from buildyard.ports import Command, Executor, WorkspaceRequest
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


@pytest.mark.covers("executors.at_home")
async def test_the_home_folder_can_be_the_workspace(real_executor: Executor) -> None:
    workspace = await real_executor.open(WorkspaceRequest(key="at-home", marker="at-home", at_home=True))
    heard = Listener()
    text = '[ "$PWD" = "$HOME" ]; echo kept > file; mkdir inner; pwd; [ ! -e /workspace ] && echo no other'

    ended = await run(workspace, text, heard)
    inner = await workspace.run(Command(argv=("sh", "-c", "cat ../file; pwd"), cwd="inner"), heard)

    assert (ended.status, inner.status) == (0, 0), heard.errors
    assert workspace.folder == workspace.home
    assert workspace.inside == workspace.inside_home
    assert heard.text.split("\n") == [workspace.inside, "no other", "kept", f"{workspace.inside}/inner"]
    await workspace.close()
    assert not await asyncio.to_thread(workspace.folder.exists)


@pytest.mark.covers("executors.at_home")
async def test_nothing_of_a_workspace_at_home_is_in_the_next_one(real_executor: Executor) -> None:
    for number, at_home in enumerate((True, False, True)):
        workspace = await real_executor.open(WorkspaceRequest(key=f"{number}", marker="next", at_home=at_home))
        heard = Listener()
        await run(workspace, 'ls -A; ls -A "$HOME"; touch left "$HOME/left"', heard)
        await workspace.close()
        assert heard.text.split() == [".script", ".script"][: 1 + at_home]
