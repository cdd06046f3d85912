"""What every executor does with commands: output, status, clocks, kills, folders. The dummy plays the same scripts."""

import asyncio
import os
from pathlib import Path

import pytest

from buildyard.domain.errors import Conflict, Invalid, Unavailable
from buildyard.domain.states import Cause, Result
from buildyard.ports import Command, Executor, Exit, Workspace, WorkspaceRequest
from contracts.executors.watching import Listener, become_true, run, script

pytestmark = pytest.mark.covers("executors.contract")

HANG = dict.fromkeys(("process", "sandbox", "container"), "echo begun; sleep 1000") | {"dummy": "print begun\nhang"}


def _say(executor: Executor, text: str, error: str) -> str:
    if executor.name == "dummy":
        return f"print {text}\nerror {error}"
    return f"echo {text}\necho {error} >&2"


async def test_each_stream_arrives_under_its_name(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    ended = await run(workspace, _say(executor, "hello", "oh no"), heard)

    assert ended == Exit(status=0, result=Result.SUCCESS)
    assert (heard.output, heard.errors) == (b"hello\n", b"oh no\n")


@pytest.mark.parametrize("status", [0, 1, 3, 126, 255])
async def test_the_status_of_the_script_is_the_status_of_the_command(workspace: Workspace, status: int) -> None:
    ended = await run(workspace, f"exit {status}")

    assert ended == Exit(status=status, result=Result.FAILURE if status else Result.SUCCESS)


async def test_an_unknown_command_gives_127(workspace: Workspace, heard: Listener) -> None:
    ended = await run(workspace, "no-such-program at all", heard)

    assert (ended.status, ended.result) == (127, Result.FAILURE)
    assert b"no-such-program" in heard.errors


async def test_a_kill_ends_the_command_as_cancelled(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    task = asyncio.create_task(workspace.run(script(workspace, HANG[executor.name]), heard))
    await heard.until(b"begun")

    async with asyncio.timeout(2):
        await workspace.kill()

    assert (await task) == Exit(status=137, result=Result.CANCELLED)


async def test_a_kill_before_the_start_took_place_is_not_lost(executor: Executor, workspace: Workspace) -> None:
    task = asyncio.create_task(workspace.run(script(workspace, HANG[executor.name]), Listener()))
    await asyncio.sleep(0)

    await workspace.kill()

    assert (await task).result is Result.CANCELLED


async def test_a_kill_without_a_command_changes_nothing(workspace: Workspace) -> None:
    await workspace.kill()

    assert (await run(workspace, "exit 0")).result is Result.SUCCESS


@pytest.mark.covers("executors.limits.wall")
async def test_the_wall_clock_ends_a_command(executor: Executor, workspace: Workspace) -> None:
    ended = await run(workspace, HANG[executor.name], timeout_s=0.3)

    assert ended == Exit(status=137, result=Result.TIMEOUT, cause=Cause.WALL, detail="wall time limit of 0.3 s reached")


async def test_silence_ends_a_command(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    ended = await run(workspace, HANG[executor.name], heard, silent_s=0.4, timeout_s=60)

    assert ended == Exit(status=137, result=Result.TIMEOUT, cause=Cause.SILENT, detail="no output for 0.4 s")
    assert heard.output == b"begun\n"


async def test_a_command_that_keeps_talking_is_not_silent(
    executor: Executor, workspace: Workspace, heard: Listener
) -> None:
    word = "print" if executor.name == "dummy" else "echo"

    ended = await run(workspace, f"{word} on\nsleep 0.2\n" * 8, heard, silent_s=1.2)

    assert ended.result is Result.SUCCESS
    assert heard.output == b"on\n" * 8


async def test_what_one_command_leaves_the_next_one_finds(
    executor: Executor, workspace: Workspace, heard: Listener
) -> None:
    write = "write made here" if executor.name == "dummy" else "echo here > made"
    await run(workspace, write)

    ended = await run(workspace, "cat made", heard)

    assert (ended.status, heard.output) == (0, b"here\n")
    assert (workspace.folder / "made").read_text() == "here\n"


async def test_commands_start_in_the_folder_they_name(executor: Executor, workspace: Workspace) -> None:
    (workspace.folder / "deep" / "er").mkdir(parents=True)
    (workspace.folder / "deep" / "er" / "s").write_text(
        "write made here" if executor.name == "dummy" else "echo > made"
    )

    ended = await workspace.run(Command(argv=("bash", "s"), cwd="deep/er"), Listener())

    assert ended.result is Result.SUCCESS
    assert (workspace.folder / "deep" / "er" / "made").exists()


@pytest.mark.parametrize("cwd", ["/etc", "..", "a/../../b"])
async def test_a_folder_outside_of_the_workspace_is_refused(workspace: Workspace, cwd: str) -> None:
    with pytest.raises(Invalid):
        await workspace.run(Command(argv=("true",), cwd=cwd), Listener())


async def test_the_environment_reaches_the_command(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    text = "env GREETING" if executor.name == "dummy" else 'echo "$GREETING"'

    await run(workspace, text, heard, environment={"GREETING": "grüß dich = $HOME"})

    assert heard.output == "grüß dich = $HOME\n".encode()


async def test_the_marker_is_in_the_environment(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    await run(workspace, "env BUILDYARD_MARKER" if executor.name == "dummy" else "echo $BUILDYARD_MARKER", heard)

    assert heard.text.endswith(":attempt-1")


@pytest.mark.covers("workspace.cleanup")
async def test_closing_ends_the_command_and_removes_the_folder(
    executor: Executor, workspace: Workspace, heard: Listener
) -> None:
    task = asyncio.create_task(workspace.run(script(workspace, HANG[executor.name]), heard))
    await heard.until(b"begun")

    await workspace.close()

    assert (await task).result is Result.CANCELLED
    assert not workspace.folder.exists()


async def test_closing_twice_at_once_and_again_is_harmless(workspace: Workspace, state: Path) -> None:
    await asyncio.gather(workspace.close(), workspace.close())
    await workspace.close()

    assert os.listdir(state / "workspaces") == []


async def test_a_closed_workspace_runs_nothing(workspace: Workspace) -> None:
    await workspace.close()

    with pytest.raises(Unavailable):
        await workspace.run(Command(argv=("true",)), Listener())


async def test_one_workspace_runs_one_command_at_a_time(
    executor: Executor, workspace: Workspace, heard: Listener
) -> None:
    task = asyncio.create_task(workspace.run(script(workspace, HANG[executor.name]), heard))
    await heard.until(b"begun")

    with pytest.raises(Unavailable):
        await workspace.run(Command(argv=("true",)), Listener())
    await workspace.kill()
    await task


async def test_cancelling_the_task_ends_the_command(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    task = asyncio.create_task(workspace.run(script(workspace, HANG[executor.name]), heard))
    await heard.until(b"begun")

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await run(workspace, "exit 0")).result is Result.SUCCESS


async def test_a_key_is_free_again_once_its_workspace_is_closed(executor: Executor, workspace: Workspace) -> None:
    with pytest.raises(Conflict):
        await executor.open(WorkspaceRequest(key="one", marker="attempt-2"))
    await workspace.close()

    again = await executor.open(WorkspaceRequest(key="one", marker="attempt-2"))

    assert os.listdir(again.folder) == []
    await again.close()


@pytest.mark.parametrize("key", ["", "..", "a/b", "/a", "a\0b", "a" * 300])
async def test_a_key_that_is_no_file_name_is_refused(executor: Executor, key: str) -> None:
    with pytest.raises(Invalid):
        await executor.open(WorkspaceRequest(key=key, marker="m"))


async def test_folders_without_permissions_and_very_deep_ones_are_removed(workspace: Workspace, state: Path) -> None:
    locked = workspace.folder / "locked" / "inner"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0o000)
    locked.parent.chmod(0o500)
    at = os.open(workspace.folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)

    await workspace.close()

    assert os.listdir(state / "workspaces") == []


async def test_twenty_workspaces_work_at_once_and_keep_apart(executor: Executor, state: Path) -> None:
    async def work(number: int) -> tuple[int, bytes]:
        workspace = await executor.open(WorkspaceRequest(key=f"job-{number}", marker=f"job-{number}"))
        heard = Listener()
        word = "print" if executor.name == "dummy" else "echo"
        ended = await run(workspace, f"{word} {number}\nsleep 0.2\n{word} {number}\nexit {number}", heard)
        await workspace.close()
        return ended.status, heard.output

    results = await asyncio.gather(*(work(number) for number in range(20)))

    assert results == [(number, f"{number}\n{number}\n".encode()) for number in range(20)]
    assert os.listdir(state / "workspaces") == []


async def test_a_sweep_spares_what_is_in_use(executor: Executor, workspace: Workspace, heard: Listener) -> None:
    task = asyncio.create_task(workspace.run(script(workspace, HANG[executor.name]), heard))
    await heard.until(b"begun")

    assert await executor.sweep() == 0
    assert not task.done()
    await workspace.kill()
    await task


async def test_the_files_that_the_worker_lays_in_are_the_commands_to_change(
    executor: Executor, workspace: Workspace
) -> None:
    (workspace.folder / "given").mkdir(mode=0o755)
    (workspace.folder / "given" / "file").write_text("old\n")

    ended = await run(workspace, "append given/file new" if executor.name == "dummy" else "echo new >> given/file")

    assert ended.result is Result.SUCCESS
    assert (workspace.folder / "given" / "file").read_text() == "old\nnew\n"


async def test_descriptors_are_not_lost(executor: Executor) -> None:
    async def once() -> None:
        workspace = await executor.open(WorkspaceRequest(key="again", marker="m"))
        await run(workspace, "exit 0", timeout_s=30)
        await workspace.close()

    await once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await once()

    await become_true(lambda: len(os.listdir("/proc/self/fd")) <= before)
