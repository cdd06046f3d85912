"""How long workspaces stay, how many, and what becomes of them and their shells when something ends."""

import asyncio
from pathlib import Path

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.domain.specs import Limits
from buildyard.engine import identity
from buildyard.worker.folder import holder
from contracts.executors.watching import become_true, processes_with, unique_sleep
from e2e.attach.conftest import Ground, listening
from e2e.running import kill_stranger, leftovers, working
from world import World


@pytest.mark.covers("sourcehut.attach.kept")
async def test_a_kept_workspace_holds_no_slot_and_counts_against_the_workers_bound(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working(slots=1, kept_workspaces=1):
        first = await ground.submit("echo one")
        await ground.finished(first)
        second = await ground.submit("echo two")
        await ground.finished(second)

        assert "the workspace is not kept: this worker keeps 1 already\n" in await ground.log(second, 1)
        await become_true(lambda: len(ground.workspaces()) == 1)


@pytest.mark.covers("sourcehut.attach.kept")
async def test_what_is_too_large_is_not_kept(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working(kept_bytes=1024 * 1024):
        large = await ground.submit("head -c 3000000 /dev/urandom > ~/large")
        await ground.finished(large)
        small = await ground.submit("head -c 30000 /dev/urandom > small")
        await ground.finished(small)

        assert "is not kept: with it this worker would keep more than 1 MiB" in await ground.log(large, 1)
        assert "the workspace stays until" in await ground.log(small, 1)


@pytest.mark.covers("sourcehut.attach.kept")
async def test_at_its_time_the_workspace_goes_and_so_do_the_shells_in_it(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working():
        build = await ground.submit("true", keep_s=6)
        await ground.finished(build)
        token = await ground.token("bob")

        async with ground.attached(token, build) as bob:
            await bob.sees(b"attached")
            await bob.sees(b"detached: the workspace was removed")
            assert await bob.ended() == 137
        await become_true(lambda: ground.workspaces() == [])

        async with ground.attached(token, build) as bob:  # the server's clock stands still, the worker's does not
            assert await bob.ended() == 5
        assert b"the workspace is no longer there" in bob.drawn


@pytest.mark.covers("sourcehut.attach.kept")
async def test_failures_are_kept_as_long_as_asked_for_and_what_was_cancelled_is_not(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working():
        passed = await ground.submit("true", keep_s=0, keep_failed_s=600)
        failed = await ground.submit("false", keep_s=0, keep_failed_s=600)
        late = await ground.submit("sleep 1000", keep_s=0, keep_failed_s=600, limits=Limits(wall_s=1))
        cancelled = await ground.submit("sleep 1000", keep_s=600, keep_failed_s=600)
        for build in (passed, failed, late):
            await ground.finished(build)
        await ground.running(cancelled)
        await ground.world.cancel(cancelled)
        await ground.finished(cancelled)

        said = {
            name: "the workspace stays until" in await ground.log(build, 1)
            for name, build in {"passed": passed, "failed": failed, "late": late, "cancelled": cancelled}.items()
        }
        assert said == {"passed": False, "failed": True, "late": True, "cancelled": False}
        await become_true(lambda: len(ground.workspaces()) == 2)


@pytest.mark.covers("sourcehut.attach.kept")
async def test_without_any_step_there_is_a_workspace_to_look_at(ground: Ground) -> None:
    async with ground.working():
        build = await ground.submit()
        await ground.finished(build)

        assert "the workspace stays until" in await ground.log(build, 0)
        async with ground.attached(await ground.token("bob"), build) as bob:
            await bob.sees(b"attached")
            bob.type(b"pwd; touch file && echo do''ne; exit 3\n")
            await bob.sees(b"done")
            assert await bob.ended() == 3


@pytest.mark.covers("sourcehut.attach.crashes")
async def test_when_the_server_goes_the_shell_is_hung_up_and_the_workspace_stays(
    sqlite_world: World, tmp_path: Path
) -> None:
    seconds = unique_sleep()
    ground = Ground(sqlite_world, tmp_path, "process")
    async with listening(ground) as restart, ground.working():
        build = await ground.submit("echo still here > note")
        await ground.finished(build)
        token = await ground.token("bob")
        async with ground.attached(token, build) as bob:
            await bob.sees(b"attached")
            bob.type(f"nohup sleep {seconds} & sleep {seconds}\n".encode())
            await become_true(lambda: len(processes_with(seconds)) == 2)

            await restart()

            assert await bob.ended() == 3
            assert b"the connection was lost" in bob.drawn
            await become_true(lambda: processes_with(seconds) == [])
        async with ground.attached(token, build) as back:
            await back.sees(b"attached")
            back.type(b"cat note; exit\n")
            await back.sees(b"still here")
            assert await back.ended() == 0


@pytest.mark.covers("sourcehut.attach.crashes")
async def test_when_the_person_is_killed_the_shell_is_hung_up(process_ground: Ground) -> None:
    ground = process_ground
    seconds = unique_sleep()
    async with ground.working():
        build = await ground.submit("true")
        await ground.finished(build)
        async with ground.attached(await ground.token("bob"), build) as bob:
            await bob.sees(b"attached")
            bob.type(f"nohup sleep {seconds} & sleep {seconds}\n".encode())
            await become_true(lambda: len(processes_with(seconds)) == 2)

        await become_true(lambda: processes_with(seconds) == [])
        assert len(ground.workspaces()) == 1


@pytest.mark.covers("sourcehut.attach.crashes")
async def test_when_the_worker_stops_its_shells_are_told_and_nothing_is_left(process_ground: Ground) -> None:
    ground = process_ground
    seconds = unique_sleep()
    async with ground.working():
        build = await ground.submit("true")
        await ground.finished(build)
        token = await ground.token("bob")
        bob = ground.attached(token, build)
        await bob.__aenter__()
        await bob.sees(b"attached")
        bob.type(f"nohup sleep {seconds} & sleep {seconds}\n".encode())
        await become_true(lambda: len(processes_with(seconds)) == 2)

    assert await bob.ended() in (3, 137)
    await bob.__aexit__(None, None, None)
    assert processes_with(seconds) == []
    assert ground.workspaces() == []

    async with ground.attached(token, build) as bob:
        assert await bob.ended() == 5
    assert b"its worker w1 has ended since" in bob.drawn


@pytest.mark.covers("sourcehut.attach.crashes")
@pytest.mark.parametrize("executor", ["process", "sandbox", "container"])
async def test_what_a_killed_worker_kept_is_gone_with_the_next_one(
    process_ground: Ground, tmp_path: Path, executor: str, request: pytest.FixtureRequest
) -> None:
    ground, folder, seconds = process_ground, tmp_path / "worker", unique_sleep()
    variables = {}
    if executor == "container":
        from podman import IMAGE

        podman = request.getfixturevalue("podman")
        variables = {"BUILDYARD_CONTAINER_HOST": podman.address, "BUILDYARD_CONTAINER_IMAGE": IMAGE}
    runner = await ground.token("admin", "runner")
    async with working(ground.url, runner, folder, "w1", executor=executor, **variables):
        build = await ground.submit("true")
        await ground.finished(build)
        async with ground.attached(await ground.token("bob"), build) as bob:
            await bob.sees(b"attached")
            bob.type(f"setsid nohup sleep {seconds} & sleep {seconds}\n".encode())
            await become_true(lambda: len(processes_with(seconds)) == 2)

            pid = holder(folder)
            assert pid is not None
            await kill_stranger(pid)
            assert await bob.ended() == 3
            assert b"the connection was lost" in bob.drawn

    async with working(ground.url, runner, folder, "w1", executor=executor, **variables):
        next_build = await ground.submit("true", keep_s=0)
        await ground.finished(next_build)
        assert processes_with(seconds) == []
        await become_true(lambda: leftovers(folder) == [])


@pytest.mark.covers("sourcehut.attach.access")
async def test_who_loses_the_right_is_cut_off(process_ground: Ground) -> None:
    ground = process_ground
    async with ground.working():
        build = await ground.submit("true")
        await ground.finished(build)
        made = await ground.world.engine.run(identity.create_token, SYSTEM, "bob", ("*",))
        async with ground.attached(made.secret, build) as bob:
            await bob.sees(b"attached")
            await ground.world.engine.run(identity.revoke_token, SYSTEM, made.token.id)
            assert await bob.ended() == 3
        assert b"no longer allowed" in bob.drawn


@pytest.mark.covers("sourcehut.attach.access")
async def test_strangers_learn_nothing_and_readers_get_no_shell(process_ground: Ground) -> None:
    ground = process_ground
    await ground.world.user("eve")
    async with ground.working():
        build = await ground.submit("true")
        await ground.finished(build)

        async with ground.attached(await ground.token("eve"), build) as eve:
            assert await eve.ended() == 5
        assert b"build not found" in eve.drawn
        async with ground.attached(await ground.token("bob", "jobs:read"), build) as reader:
            assert await reader.ended() == 4
        assert b"bob may not run build" in reader.drawn


async def test_without_a_terminal_the_command_says_so(process_ground: Ground) -> None:
    command = process_ground.attached("x", await process_ground.submit("true"))

    process = await asyncio.create_subprocess_exec(
        *command._argv, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()

    assert (process.returncode, b"must be one" in errors) == (5, True)
