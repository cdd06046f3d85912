"""Terminals in workspaces: keys, signals, sizes, ends, and that nothing of them outlives its step or workspace."""

import asyncio
from pathlib import Path

import pytest

from buildyard.adapters.executors.cgroups import find_cgroups
from buildyard.adapters.executors.dummy import DummyExecutor
from buildyard.adapters.executors.trees import identify
from buildyard.domain.errors import Unavailable
from buildyard.domain.specs import Limits
from buildyard.domain.states import Result
from buildyard.ports import Command, Executor, Terminal, Workspace, WorkspaceRequest
from contracts.executors.watching import GENEROUS_S, Listener, become_true, processes_with, run, script, unique_sleep
from needs import need

pytestmark = pytest.mark.covers("sourcehut.attach.terminals")

BASH = ("bash", "--noprofile", "--norc", "--noediting", "-i")


class Screen:
    """What a terminal has shown so far."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.text = b""

    async def shows(self, words: bytes) -> None:
        """Read until these words were written."""
        async with asyncio.timeout(GENEROUS_S):
            while words not in self.text:
                data = await self.terminal.read()
                assert data, self.text
                self.text += data

    async def all(self) -> bytes:
        """Read to the end."""
        async with asyncio.timeout(GENEROUS_S):
            while data := await self.terminal.read():
                self.text += data
        return self.text


async def _shell(workspace: Workspace, **environment: str) -> Screen:
    command = Command(argv=BASH, environment={"PS1": "ready> ", "TERM": "xterm", **environment})
    screen = Screen(await workspace.open_terminal(command, 33, 99))
    await screen.shows(b"ready> ")
    return screen


async def test_keys_reach_the_program_and_its_status_is_told(real_workspace: Workspace) -> None:
    screen = await _shell(real_workspace, GREETING="hello there")

    await screen.terminal.write(b"echo $GREETING; test -t 0 && stty size; exit 7\n")

    assert b"hello there\r\n33 99\r\n" in await screen.all()
    ended = await screen.terminal.ended()
    assert (ended.status, ended.result) == (7, Result.FAILURE)


async def test_ctrl_c_interrupts_what_runs_in_the_foreground_and_not_the_shell(real_workspace: Workspace) -> None:
    screen = await _shell(real_workspace)
    await screen.terminal.write(b"sh -c 'echo be\"\"gun; exec sleep 1000'\n")
    await screen.shows(b"begun")

    screen.text = b""
    await screen.terminal.write(b"\x03")
    await screen.shows(b"ready> ")
    await screen.terminal.write(b"echo sta''tus $?; exit\n")

    assert b"status 130" in await screen.all()


async def test_a_new_size_is_seen_by_the_program(real_workspace: Workspace) -> None:
    screen = await _shell(real_workspace)

    await screen.terminal.resize(50, 140)
    await screen.terminal.write(b"until stty size | grep -x '50 140'; do sleep 0.05; done; exit\n")

    assert b"\n50 140\r\n" in await screen.all()


async def test_files_are_those_of_the_step_that_runs_and_the_end_of_the_step_ends_the_terminal(
    real_workspace: Workspace,
) -> None:
    heard = Listener()
    text = "echo from the step > note; echo begun; until [ -e go ]; do sleep 0.02; done"
    step = asyncio.create_task(real_workspace.run(script(real_workspace, text), heard))
    await heard.until(b"begun")
    screen = await _shell(real_workspace)
    seconds = unique_sleep()

    await screen.terminal.write(b"cat note\n")
    await screen.shows(b"from the step\r\n")
    await screen.terminal.write(f"setsid nohup sleep {seconds} & sleep {seconds} & touch go\n".encode())
    assert (await step).result is Result.SUCCESS

    assert processes_with(seconds) == []
    ended = await screen.terminal.ended()
    assert (ended.result, ended.detail) == (Result.CANCELLED, "the step has ended")


async def test_a_terminal_that_ends_leaves_the_step_alone(real_workspace: Workspace) -> None:
    heard = Listener()
    text = "(setsid sleep 0.01; while :; do echo alive > beat; sleep 0.02; done) & echo begun; read -r _ < gate; exit 3"
    (real_workspace.folder / "beat").write_text("")
    await run(real_workspace, "mkfifo gate; chmod 666 gate beat")
    step = asyncio.create_task(real_workspace.run(script(real_workspace, text), heard))
    await heard.until(b"begun")

    screen = await _shell(real_workspace)
    await screen.terminal.write(b"exit\n")
    await screen.all()
    await screen.terminal.ended()
    (real_workspace.folder / "beat").write_text("")
    await become_true(lambda: (real_workspace.folder / "beat").read_text() == "alive\n")
    other = await _shell(real_workspace)
    await other.terminal.write(b"echo > gate\n")

    assert (await step).status == 3


async def test_a_terminal_may_be_opened_when_no_step_runs_and_several_at_once(real_workspace: Workspace) -> None:
    await run(real_workspace, "echo kept > file")

    one, two = await _shell(real_workspace), await _shell(real_workspace)
    await one.terminal.write(b"echo more >> file; exit\n")
    await one.all()
    await one.terminal.ended()
    await two.terminal.write(b"cat file; exit\n")

    assert b"kept\r\nmore\r\n" in await two.all()


async def test_hanging_up_ends_the_shell_and_its_jobs(real_workspace: Workspace) -> None:
    seconds = unique_sleep()
    screen = await _shell(real_workspace)
    await screen.terminal.write(f"sleep {seconds} & sleep {seconds}\n".encode())
    await become_true(lambda: len(processes_with(seconds)) == 2)

    async with asyncio.timeout(GENEROUS_S):
        await screen.terminal.hang_up("nobody is there")

    assert (await screen.terminal.ended()).detail == "nobody is there"
    assert await screen.terminal.read() == b""
    await become_true(lambda: processes_with(seconds) == [])


async def test_closing_the_workspace_ends_its_terminals_and_all_that_they_started(real_workspace: Workspace) -> None:
    seconds = unique_sleep()
    screen = await _shell(real_workspace)
    await screen.terminal.write(f"setsid nohup sleep {seconds} & sleep {seconds}\n".encode())
    await become_true(lambda: len(processes_with(seconds)) == 2)

    await real_workspace.close()

    assert processes_with(seconds) == []
    assert (await screen.terminal.ended()).detail == "the workspace was removed"
    with pytest.raises(Unavailable, match="closed"):
        await real_workspace.open_terminal(Command(argv=BASH), 24, 80)


async def test_a_slow_reader_slows_the_program_down_and_loses_nothing(real_workspace: Workspace) -> None:
    screen = await _shell(real_workspace)

    await screen.terminal.write(b"seq 1 40000; exit\n")
    await asyncio.sleep(0.2)
    lines = (await screen.all()).split(b"\r\n")

    first = lines.index(b"1")
    assert lines[first : first + 40000] == [b"%d" % number for number in range(1, 40001)]


async def test_what_a_terminal_runs_counts_against_the_limits_of_the_job(real_executor: Executor, state: Path) -> None:
    cgroups = find_cgroups(identify(state))
    need(cgroups is not None or real_executor.name == "container", "cgroups that may be made here")
    request = WorkspaceRequest(key="k1", marker="k1", limits=Limits(memory_bytes=96 * 1024 * 1024))
    workspace = await real_executor.open(request)
    try:
        screen = await _shell(workspace)
        await screen.terminal.write(b"head -c 300M /dev/zero | tail > /dev/null; echo sta''tus ${PIPESTATUS[1]}\n")
        await screen.shows(b"status 137")
    finally:
        await workspace.close()


async def test_the_dummy_says_that_it_has_none(state: Path) -> None:
    executor = DummyExecutor(state)
    workspace = await executor.open(WorkspaceRequest(key="k2", marker="k2"))
    with pytest.raises(Unavailable, match="no terminals"):
        await workspace.open_terminal(Command(argv=BASH), 24, 80)
    await workspace.close()
