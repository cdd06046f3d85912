"""Real processes: exact bytes, signals, descriptors, terminals, and the death of whole process trees."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from buildyard.domain.errors import Invalid
from buildyard.domain.states import Cause, Result, Stream
from buildyard.ports import Command, Executor, Workspace, WorkspaceRequest
from contracts.executors.watching import Listener, become_true, processes_with, run, script, unique_sleep

DETACHED = {
    "a background process": "sleep {n} &",
    "nohup": "nohup sleep {n} > /dev/null 2>&1 &",
    "a session of its own": "setsid sleep {n} &",
    "a daemon that forked twice": "(setsid sh -c 'sleep {n} & exit 0' > /dev/null 2>&1 < /dev/null &)",
    "a daemon with an empty environment": "env -i /usr/bin/setsid /bin/sh -c '/bin/sleep {n} & exit 0' &",
    "a tree of daemons": "setsid sh -c 'setsid sleep {n} & setsid sh -c \"sleep {n} & setsid sleep {n}\" & wait' &",
    "one that ignores polite signals": "(trap '' TERM HUP INT; exec setsid sleep {n}) &",
}


async def test_bytes_arrive_exactly_as_written(real_workspace: Workspace, heard: Listener) -> None:
    data = bytes(range(256)) * 40
    (real_workspace.folder / "data").write_bytes(data)

    await run(real_workspace, "cat data; cat data >&2", heard)

    assert heard.output == data
    assert heard.errors == data


async def test_fifty_megabytes_arrive_in_order(real_workspace: Workspace, heard: Listener) -> None:
    await run(real_workspace, "seq 1 7000000 | head -c 52428800", heard)

    assert len(heard.output) == 52_428_800
    lines = heard.output.split(b"\n")
    assert lines[:-1] == [b"%d" % number for number in range(1, len(lines))]


async def test_output_arrives_while_the_command_runs(real_workspace: Workspace, heard: Listener) -> None:
    task = asyncio.create_task(real_workspace.run(script(real_workspace, "echo now\nread < wait-here"), heard))
    os.mkfifo(real_workspace.folder / "wait-here", 0o666)

    await heard.until(b"now")

    assert not task.done()
    await real_workspace.kill()
    await task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
async def test_a_signal_is_reported_as_128_and_its_number(real_workspace: Workspace, number: int) -> None:
    ended = await run(real_workspace, f"kill -{int(number)} $$")

    assert (ended.status, ended.result) == (128 + number, Result.FAILURE)


async def test_a_program_that_is_not_there_gives_127(real_workspace: Workspace, heard: Listener) -> None:
    ended = await real_workspace.run(Command(argv=("no-such-program", "x")), heard)

    assert (ended.status, ended.result) == (127, Result.FAILURE)
    assert b"no-such-program" in heard.errors


async def test_a_folder_that_is_not_there_fails_the_command(real_workspace: Workspace, heard: Listener) -> None:
    ended = await real_workspace.run(Command(argv=("true",), cwd="absent"), heard)

    assert ended.result is Result.FAILURE
    assert b"absent" in heard.errors


async def test_the_input_is_empty(real_workspace: Workspace, heard: Listener) -> None:
    await real_workspace.run(Command(argv=("wc", "-c")), heard)

    assert heard.text == "0"


async def test_no_descriptor_leaks_in(real_workspace: Workspace, heard: Listener) -> None:
    await real_workspace.run(Command(argv=("ls", "/proc/self/fd")), heard)

    assert heard.text.split() == ["0", "1", "2", "3"]  # the last is the folder that ls reads


async def test_the_environment_is_what_was_given_and_nothing_of_the_workers(
    real_executor: Executor, real_workspace: Workspace, heard: Listener
) -> None:
    await real_workspace.run(Command(argv=("env", "-0"), environment={"A": "1", "B": "two\nlines"}), heard)

    found = dict(entry.split("=", 1) for entry in heard.output.decode().split("\0") if entry)
    assert found.pop("PWD", "") in {"", real_workspace.inside}
    assert set(found) == {"A", "B", "PATH", "HOME", "TMPDIR", "BUILDYARD_MARKER"}
    assert (found["A"], found["B"]) == ("1", "two\nlines")


@pytest.mark.parametrize("environment", [{"A": "x\0--bind\0/\0/host"}, {"A=B": "x"}, {"": "x"}, {"A\0B": "x"}])
async def test_an_environment_that_no_program_can_have_is_refused(
    real_workspace: Workspace, environment: dict[str, str]
) -> None:
    with pytest.raises(Invalid):
        await real_workspace.run(Command(argv=("true",), environment=environment), Listener())


async def test_home_and_temporary_folder_are_writable_and_outlast_a_command(
    real_workspace: Workspace, heard: Listener
) -> None:
    await run(real_workspace, 'echo home > "$HOME/file"; echo tmp > "$TMPDIR/file"')

    await run(real_workspace, 'cat "$HOME/file" "$TMPDIR/file"; ls -A', heard)

    assert heard.text.split() == ["home", "tmp", ".script"]


@pytest.mark.covers("executors.terminal")
async def test_a_terminal_is_one_and_keeps_the_bytes(real_workspace: Workspace, heard: Listener) -> None:
    text = "[ -t 1 ] && [ -t 2 ] && echo terminal; stty size <&1; echo error >&2; printf 'a\\nb\\n'"

    ended = await run(real_workspace, text, heard, pty=True)

    assert ended.result is Result.SUCCESS
    assert heard.chunks
    assert heard.of(Stream.OUTPUT) == b"terminal\n40 120\nerror\na\nb\n"


@pytest.mark.covers("executors.terminal")
async def test_the_input_is_empty_in_a_terminal_too(real_workspace: Workspace, heard: Listener) -> None:
    ended = await run(real_workspace, "[ ! -t 0 ]; wc -c", heard, pty=True)

    assert (ended.result, heard.text) == (Result.SUCCESS, "0")


@pytest.mark.covers("executors.terminal")
async def test_a_lot_of_output_comes_through_a_terminal_whole_and_in_order(
    real_workspace: Workspace, heard: Listener
) -> None:
    ended = await run(real_workspace, "seq 1 200000; exit 3", heard, pty=True)

    assert ended.status == 3
    assert heard.output == b"".join(b"%d\n" % number for number in range(1, 200_001))


@pytest.mark.covers("executors.terminal")
@pytest.mark.parametrize("how", DETACHED.values(), ids=DETACHED.keys())
async def test_a_kill_in_a_terminal_ends_the_whole_tree(real_workspace: Workspace, heard: Listener, how: str) -> None:
    seconds = unique_sleep()
    text = f"{how.format(n=seconds)}\necho begun\nsleep {seconds}"
    task = asyncio.create_task(real_workspace.run(script(real_workspace, text, pty=True), heard))
    await heard.until(b"begun")
    await become_true(lambda: len(processes_with(seconds)) > 1)

    await real_workspace.kill()

    assert processes_with(seconds) == []
    assert (await task).result is Result.CANCELLED


@pytest.mark.covers("executors.terminal")
async def test_the_clocks_run_in_a_terminal_too(real_workspace: Workspace) -> None:
    seconds = unique_sleep()

    by_wall = await run(real_workspace, f"while sleep 0.1; do echo .; done & sleep {seconds}", pty=True, timeout_s=1.0)
    by_silence = await run(real_workspace, f"echo .; sleep {seconds}", pty=True, silent_s=1.0)

    assert (by_wall.result, by_wall.cause) == (Result.TIMEOUT, Cause.WALL)
    assert (by_silence.result, by_silence.cause) == (Result.TIMEOUT, Cause.SILENT)
    assert processes_with(seconds) == []


async def test_without_being_asked_for_there_is_no_terminal(real_workspace: Workspace) -> None:
    assert (await run(real_workspace, "! [ -t 0 ] && ! [ -t 1 ] && ! [ -t 2 ]")).result is Result.SUCCESS


@pytest.mark.covers("executors.tree")
@pytest.mark.parametrize("how", DETACHED.values(), ids=DETACHED.keys())
async def test_nothing_outlives_the_command(real_workspace: Workspace, heard: Listener, how: str) -> None:
    seconds = unique_sleep()
    wait = f"until pgrep -f 'sleep {seconds}' > /dev/null; do sleep 0.01; done"

    ended = await run(real_workspace, f"{how.format(n=seconds)}\n{wait}\necho done\nexit 5", heard)

    assert (ended.status, heard.text) == (5, "done")
    assert processes_with(seconds) == []


@pytest.mark.covers("executors.tree", "engine.cancel.running")
@pytest.mark.parametrize("how", DETACHED.values(), ids=DETACHED.keys())
async def test_a_kill_ends_the_whole_tree_in_two_seconds(real_workspace: Workspace, heard: Listener, how: str) -> None:
    seconds = unique_sleep()
    task = asyncio.create_task(
        real_workspace.run(script(real_workspace, f"{how.format(n=seconds)}\necho begun\nsleep {seconds}"), heard)
    )
    await heard.until(b"begun")
    await become_true(lambda: len(processes_with(seconds)) > 1)

    async with asyncio.timeout(2):
        await real_workspace.kill()

    assert processes_with(seconds) == []
    assert (await task).result is Result.CANCELLED


async def test_a_timeout_ends_the_whole_tree(real_workspace: Workspace) -> None:
    seconds = unique_sleep()

    ended = await run(real_workspace, f"setsid sleep {seconds} &\nsleep {seconds}", timeout_s=0.5)

    assert ended.result is Result.TIMEOUT
    assert processes_with(seconds) == []


async def test_one_workspaces_end_spares_the_daemons_of_another(real_executor: Executor, heard: Listener) -> None:
    seconds = unique_sleep()
    first = await real_executor.open(WorkspaceRequest(key="first", marker="first"))
    second = await real_executor.open(WorkspaceRequest(key="second", marker="second"))
    text = f"(env -i /usr/bin/setsid /bin/sleep {seconds} &)\necho begun\nread < wait-here"
    os.mkfifo(first.folder / "wait-here", 0o666)
    task = asyncio.create_task(first.run(script(first, text), heard))
    await heard.until(b"begun")
    await become_true(lambda: len(processes_with(seconds)) == 1)

    await run(second, "(setsid sleep 1000 &)")
    await second.close()

    assert len(processes_with(seconds)) == 1
    await first.close()
    await task
    assert processes_with(seconds) == []


async def test_the_worker_keeps_no_zombies(real_workspace: Workspace) -> None:
    before = _zombies()

    await run(real_workspace, "for i in 1 2 3 4 5; do (setsid sleep 0.01 &); done")

    assert _zombies() == before


def _zombies() -> set[int]:
    """Dead children of this process that nobody reaped."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    stats = {int(pid): Path(f"/proc/{pid}/stat").read_text() for pid in children}
    return {pid for pid, stat in stats.items() if stat.rpartition(")")[2].split()[0] == "Z"}
