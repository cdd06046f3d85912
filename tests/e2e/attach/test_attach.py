"""`buildyard attach` from a real terminal to a real workspace and back."""

import asyncio
import termios

import pytest

from e2e.attach.conftest import Ground

pytestmark = pytest.mark.covers("sourcehut.attach.command")

READY = b"echo re''ady\n"
PROMPT = b"\x1b[?2004h"
"""What bash draws when it waits for a line: pasted text shall be marked."""


async def test_a_kept_workspace_can_be_entered_and_its_shell_gives_the_exit_status(ground: Ground) -> None:
    async with ground.working():
        build = await ground.submit("echo made by the job > note; exit 1")
        await ground.finished(build)

        async with ground.attached(await ground.token("bob"), build) as bob:
            await bob.sees(b"attached to build")
            bob.type(b"cat note; stty size; echo $TERM-$BUILDYARD_PROJECT\n")
            await bob.sees(b"made by the job")
            await bob.sees(b"31 97")
            await bob.sees(b"xterm-256color-hello")
            bob.type(b"exit 5\n")

            assert await bob.ended() == 5
            assert termios.tcgetattr(bob._terminal) == bob.before

    assert ground.workspaces() == []
    last = (await ground.log(build, 1)).splitlines()[-1]
    assert last.startswith("the workspace stays until 20")
    assert last.endswith(f"; to get in: buildyard attach {build.build.id} job")


async def test_a_running_job_can_be_entered_and_its_end_ends_the_terminal(ground: Ground) -> None:
    async with ground.working():
        build = await ground.submit("echo running > note; until [ -e go ]; do sleep 0.05; done", keep_s=0)
        await ground.running(build)

        async with ground.attached(await ground.token("bob"), build, "job") as bob:
            await bob.sees(b"attached to build")
            bob.type(b"cat note\n")
            await bob.sees(b"running")
            bob.type(b"touch go; sleep 1000\n")
            await bob.sees(b"detached: the step has ended")

            assert await bob.ended() == 137
        assert (await ground.finished(build)).build.state.result.word == "success"
    assert ground.workspaces() == []


async def test_keys_sizes_and_the_way_out(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working():
        build = await ground.submit("true")
        await ground.finished(build)
        token = await ground.token("bob")

        async with ground.attached(token, build) as bob:
            await bob.sees(b"attached")
            bob.type(READY)
            await bob.sees(b"\rready")
            bob.resize(44, 133)
            await asyncio.sleep(0.2)
            bob.type(b"sh -c 'echo slee''ping; exec sleep 1000'\n")
            await bob.sees(b"\rsleeping")
            bob.type(b"\x03")
            await bob.sees(PROMPT)
            bob.type(b"echo stat''us $?; stty size\n")
            await bob.sees(b"status 130")
            await bob.sees(b"44 133")
            bob.type(b"~.")
            await bob.sees(b"detached")
            assert await bob.ended() == 0

        async with ground.attached(token, build) as bob:
            await bob.sees(b"attached")
            bob.type(b"echo ~~ > file; echo wri''tten\n")
            await bob.sees(b"\rwritten")
            bob.type(b"\x1d")
            assert await bob.ended() == 0


async def test_two_people_may_be_there_at_once(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working():
        build = await ground.submit("true")
        await ground.finished(build)

        async with (
            ground.attached(await ground.token("bob"), build) as bob,
            ground.attached(await ground.token("admin"), build) as admin,
        ):
            await bob.sees(b"attached")
            await admin.sees(b"attached")
            bob.type(b"echo from bob > note\n")
            admin.type(b"until [ -e note ]; do sleep 0.1; done; cat note; exit\n")
            await admin.sees(b"from bob")
            assert await admin.ended() == 0
            bob.type(b"exit\n")
            assert await bob.ended() == 0
