"""What only containers have: images, a file system that stays from command to command, registries, and their traces."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from buildyard.adapters.containers.archives import load_archive
from buildyard.adapters.containers.engine import ContainerEngine
from buildyard.adapters.executors.cgroups import find_cgroups, remove_parents
from buildyard.adapters.executors.container import ContainerExecutor, ContainerOptions
from buildyard.adapters.executors.container_groups import find_place, remove_groups, remove_place
from buildyard.adapters.executors.container_keeper import MarkedStream
from buildyard.adapters.executors.trees import identify
from buildyard.domain.errors import Invalid, NotFound, Unavailable
from buildyard.domain.states import Result
from buildyard.ports import Command, Workspace, WorkspaceRequest
from contracts.executors.watching import Listener, run, script
from needs import need, need_program
from podman import IMAGE, Podman, end_podman, fresh_podman, import_image, start_podman

PASSWORD = "registry password"
HTPASSWD = "ci:$2y$05$QYcVvbOPWiXC1EwbGp4we.qt1d4a0Et9O6w11zZ/6qqeRekQgQqHC\n"


@pytest.fixture
async def containers(podman: Podman, state: Path) -> AsyncIterator[ContainerExecutor]:
    """The executor, with an image for jobs that name none."""
    executor = ContainerExecutor(state, ContainerOptions(address=podman.address, image=IMAGE, pull="never"))
    yield executor
    await executor.close()


@pytest.fixture
async def contained(containers: ContainerExecutor) -> AsyncIterator[Workspace]:
    """A workspace in a container."""
    opened = await containers.open(WorkspaceRequest(key="one", marker="attempt-1"))
    yield opened
    await opened.close()


@pytest.mark.covers("executors.container.state")
async def test_what_a_command_installs_is_there_for_the_next(contained: Workspace, heard: Listener) -> None:
    await run(
        contained, "mkdir -p /opt/tool; printf '#!/bin/sh\\necho installed\\n' > /usr/bin/tool; chmod +x /usr/bin/tool"
    )

    await run(contained, "tool", heard)

    assert heard.text == "installed"


async def test_further_paths_are_shown_read_only(podman: Podman, state: Path, tmp_path: Path, heard: Listener) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "version").write_text("7")
    options = ContainerOptions(address=podman.address, image=IMAGE, read_only_paths=(tmp_path / "tools",))
    executor = ContainerExecutor(state, options)
    workspace = await executor.open(WorkspaceRequest(key="one", marker="attempt-1"))

    await run(
        workspace, f"cat {tmp_path}/tools/version; touch {tmp_path}/tools/new 2>/dev/null || echo ' refused'", heard
    )

    assert heard.text == "7 refused"
    await workspace.close()
    await executor.close()


@pytest.mark.covers("executors.container.user")
async def test_files_that_commands_make_belong_to_the_worker(contained: Workspace, heard: Listener) -> None:
    await run(contained, "id -u; mkdir made; echo x > made/file", heard)

    made = (contained.folder / "made" / "file").stat()
    assert (made.st_uid, made.st_gid) == (os.getuid(), os.getgid())
    assert heard.text == "0"


@pytest.mark.covers("executors.container.hidden")
async def test_a_job_sees_neither_the_engines_socket_nor_the_host(
    contained: Workspace, podman: Podman, heard: Listener
) -> None:
    await run(contained, f"ls -A {podman.folder} {contained.folder} /run /home 2>/dev/null; env; true", heard)

    assert "sock" not in heard.text
    assert "DOCKER_HOST" not in heard.text
    assert str(podman.folder) not in heard.text


async def test_a_job_cannot_change_the_script_that_runs_it(contained: Workspace) -> None:
    assert (await run(contained, "echo > /.buildyard/command")).result is Result.FAILURE


async def test_the_variables_of_the_image_are_there_and_can_be_replaced(
    podman: Podman, containers: ContainerExecutor, heard: Listener
) -> None:
    await asyncio.to_thread(
        import_image,
        podman,
        podman.folder / "image.tar",
        "localhost/variables:1",
        *("ENV ONE=1", "ENV TWO=2", "ENV TERM=dumb"),
    )
    workspace = await containers.open(WorkspaceRequest(key="v", marker="v", image="localhost/variables:1"))

    await run(workspace, "echo $ONE $TWO $TERM; env | grep HOSTNAME || true", heard, environment={"TWO": "zwei"})

    assert heard.text == "1 zwei dumb"
    await workspace.close()


@pytest.mark.parametrize("text", ["printf 'no newline'", "printf '\\0\\1\\2'; printf error >&2", "echo ready", "seq 5"])
async def test_output_without_a_last_newline_is_whole(contained: Workspace, heard: Listener, text: str) -> None:
    await run(contained, text, heard)

    assert heard.output == (await asyncio.to_thread(subprocess.run, ["bash", "-c", text], capture_output=True)).stdout


async def test_many_commands_leave_nothing_in_the_container(contained: Workspace, heard: Listener) -> None:
    for _ in range(200):
        await run(contained, "sleep 1000 & true")

    await run(contained, "ps -e -o comm= | grep -c sleep || true", heard)

    assert heard.text == "0"


async def test_interrupts_reach_the_programs_of_a_job(contained: Workspace, heard: Listener) -> None:
    await run(contained, "grep SigIgn /proc/self/status", heard)

    interrupt_and_quit = 0b110
    assert int(heard.text.split()[-1], 16) & interrupt_and_quit == 0


async def test_the_death_of_the_container_is_an_error_and_the_folder_goes(
    contained: Workspace, podman: Podman, heard: Listener
) -> None:
    task = asyncio.create_task(contained.run(script(contained, "echo begun; sleep 1000"), heard))
    await heard.until(b"begun")

    await asyncio.to_thread(podman.run, "kill", "-a")

    with pytest.raises(Unavailable, match="container ended"):
        await task
    await contained.close()
    assert not contained.folder.exists()


@pytest.mark.covers("executors.container.image")
async def test_an_image_that_is_not_there_is_told_with_what_to_do(containers: ContainerExecutor, state: Path) -> None:
    with pytest.raises(NotFound, match="buildyard image load FILE --as NAME"):
        await containers.open(WorkspaceRequest(key="k", marker="m", image="docker://localhost/absent:1"))

    assert os.listdir(state / "workspaces") == []


async def test_a_job_without_an_image_is_refused_where_there_is_no_default(podman: Podman, state: Path) -> None:
    executor = ContainerExecutor(state, ContainerOptions(address=podman.address))

    with pytest.raises(NotFound, match="BUILDYARD_CONTAINER_IMAGE"):
        await executor.open(WorkspaceRequest(key="k", marker="m"))
    await executor.close()


async def test_an_image_without_a_shell_is_told_so(
    podman: Podman, containers: ContainerExecutor, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    await asyncio.to_thread(
        subprocess.run, ["tar", "-C", tmp_path / "empty", "-cf", tmp_path / "e.tar", "."], check=True
    )
    await asyncio.to_thread(import_image, podman, tmp_path / "e.tar", "localhost/empty:1")

    with pytest.raises(NotFound, match="no /bin/sh"):
        await containers.open(WorkspaceRequest(key="k", marker="m", image="localhost/empty:1"))

    assert podman.containers() == []


async def test_an_engine_that_is_not_there_is_not_usable(state: Path, tmp_path: Path) -> None:
    executor = ContainerExecutor(state, ContainerOptions(address=f"unix://{tmp_path}/none.sock", image=IMAGE))

    probe = await executor.probe()

    assert not probe.usable
    assert "none.sock" in probe.missing[0]
    await executor.close()


@pytest.mark.covers("executors.container.network")
async def test_a_job_chooses_the_hosts_network_or_none(
    containers: ContainerExecutor, contained: Workspace, heard: Listener
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        connect = f"exec 5<>/dev/tcp/127.0.0.1/{listener.getsockname()[1]} && echo connected"
        host = await containers.open(WorkspaceRequest(key="h", marker="h", network="host"))
        none = await containers.open(WorkspaceRequest(key="n", marker="n", network="none"))

        assert (await run(host, connect, heard)).result is Result.SUCCESS
        assert (await run(none, connect)).result is Result.FAILURE
        await asyncio.gather(host.close(), none.close())


@pytest.mark.covers("executors.container.traces")
async def test_no_container_outlives_its_workspace(podman: Podman, containers: ContainerExecutor) -> None:
    workspace = await containers.open(WorkspaceRequest(key="k", marker="m"))
    assert len(podman.containers(label="buildyard.workspace=k")) == 1

    await workspace.close()

    assert podman.containers() == []
    assert podman.run("volume", "ls", "-q") == ""


async def test_cancelling_the_opening_leaves_no_container(podman: Podman, containers: ContainerExecutor) -> None:
    for delay in (0.0, 0.02, 0.06, 0.15):
        opening = asyncio.create_task(containers.open(WorkspaceRequest(key="k", marker="m")))
        await asyncio.sleep(delay)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await (await opening).close()

    assert podman.containers() == []


# --- images from files and registries -----------------------------------------------------------


@pytest.mark.covers("executors.container.load")
async def test_images_are_loaded_from_root_file_systems_and_from_saved_archives(podman: Podman, tmp_path: Path) -> None:
    engine = ContainerEngine(podman.address)
    said: list[str] = []

    imported = await load_archive(engine, podman.folder / "image.tar", "localhost/from-root:1", said.append)
    await asyncio.to_thread(podman.run, "save", "-o", str(tmp_path / "saved.tar"), "localhost/from-root:1")
    await asyncio.to_thread(podman.run, "rmi", "localhost/from-root:1")
    loaded = await load_archive(engine, tmp_path / "saved.tar", "", said.append)
    renamed = await load_archive(engine, tmp_path / "saved.tar", "localhost/other:2", said.append)

    assert (imported, loaded, renamed) == ("localhost/from-root:1", "localhost/from-root:1", "localhost/other:2")
    names = podman.run("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert {"localhost/from-root:1", "localhost/other:2"} <= set(names)
    with pytest.raises(Invalid, match="give one"):
        await load_archive(engine, podman.folder / "image.tar", "", said.append)
    (tmp_path / "no.tar").write_text("no tar file")
    with pytest.raises(Invalid, match="no tar file"):
        await load_archive(engine, tmp_path / "no.tar", "x", said.append)
    await engine.close()


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as trying:
        return trying.connect_ex((host, int(port))) == 0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A real registry that asks for a password."""
    program = need_program("docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}},
        "log": {"level": "error"},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(settings))
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", tmp_path / "registry.yml"], stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while not _listens(address):
        assert process.poll() is None, (tmp_path / "registry.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield address
    process.kill()
    process.wait()


@pytest.mark.covers("executors.container.pull")
async def test_an_image_is_pulled_once_for_all_jobs_with_credentials_and_words_about_it(
    podman: Podman, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/team/tool:1"
    other = await asyncio.to_thread(start_podman, Path(tempfile.mkdtemp(prefix="by-")), registry=registry)
    try:
        await asyncio.to_thread(import_image, other, podman.folder / "image.tar", name)
        await asyncio.to_thread(other.run, "push", "--creds", f"ci:{PASSWORD}", name)
        await asyncio.to_thread(other.run, "rmi", name)
        auth = tmp_path / "config.json"
        auth.write_text(
            json.dumps({"auths": {registry: {"auth": base64.b64encode(f"ci:{PASSWORD}".encode()).decode()}}})
        )
        with_password = ContainerExecutor(tmp_path / "a", ContainerOptions(address=other.address, auth_file=auth))
        without = ContainerExecutor(tmp_path / "b", ContainerOptions(address=other.address))
        said: list[str] = []

        with pytest.raises(NotFound, match="credentials"):
            await without.open(WorkspaceRequest(key="k", marker="m", image=name))
        opened = await asyncio.gather(
            *(
                with_password.open(WorkspaceRequest(key=key, marker=key, image=f"docker://{name}", say=said.append))
                for key in ("one", "two")
            )
        )

        assert (await opened[0].run(Command(argv=("true",)), Listener())).result is Result.SUCCESS
        assert [line for line in said if line == f"pulling image {name}"] == [f"pulling image {name}"]
        assert any(line.startswith(f"image {name} pulled: 2 of 2 parts") for line in said), said
        assert not any(PASSWORD in line for line in said)
        await asyncio.gather(*(each.close() for each in opened))
        await asyncio.gather(with_password.close(), without.close())
    finally:
        await asyncio.to_thread(end_podman, other)


@pytest.mark.covers("executors.container.engine_away")
async def test_what_an_engine_that_is_away_keeps_is_removed_before_the_next_workspace_is_made(tmp_path: Path) -> None:
    with fresh_podman() as own:
        executor = ContainerExecutor(tmp_path / "state", ContainerOptions(address=own.address, image=IMAGE))
        first = await executor.open(WorkspaceRequest(key="one", marker="m"))
        await asyncio.to_thread(own.stop)
        with pytest.raises(Unavailable):
            await first.close()
        await asyncio.to_thread(own.start)
        assert len(own.containers()) == 1

        second = await executor.open(WorkspaceRequest(key="two", marker="m"))

        assert len(own.containers()) == 1
        await second.close()
        await executor.close()
        assert own.containers() == []


@pytest.mark.covers("executors.container.engine_away")
async def test_a_process_that_an_engine_forgot_ends_with_its_containers_group(tmp_path: Path) -> None:
    cgroups = find_cgroups(identify(tmp_path))
    need(cgroups is not None, "cgroups that may be made here")
    assert cgroups is not None
    place = find_place(cgroups, "cgroupfs")
    parent = cgroups.parents.get("memory") or next(iter(cgroups.parents.values()))
    forgotten = parent / "owner.key" / "libpod-0123"
    forgotten.mkdir(parents=True)
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    (forgotten / "cgroup.procs").write_text(str(process.pid))

    await remove_groups(f"{place.path}/owner.key")

    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL
    assert not (parent / "owner.key").exists()
    remove_place(place)
    remove_parents(cgroups)


@pytest.mark.parametrize("size", [1, 2, 7, 40, 1000])
def test_a_mark_is_found_however_the_bytes_arrive(size: int) -> None:
    data = b"out" * 20 + b"0123" * 3 + b"01234567 137\n"
    heard = bytearray()
    stream = MarkedStream(b"01234567", heard.extend)

    for at in range(0, len(data), size):
        stream.feed(data[at : at + size])

    assert (bytes(heard), stream.status) == (b"out" * 20 + b"0123" * 3, 137)


@pytest.mark.covers("executors.terminal")
async def test_a_command_in_a_terminal_is_started_like_others_and_its_terminal_is_the_containers(
    contained: Workspace, heard: Listener
) -> None:
    need(os.getuid() == 0, "root")
    text = 'echo $PPID; readlink /proc/$$/fd/1; [ -w "$(readlink /proc/$$/fd/1)" ] && echo writable'

    ended = await run(contained, text, heard, pty=True)

    parent, terminal, writable = heard.text.split()
    assert (ended.result, parent, writable) == (Result.SUCCESS, "1", "writable")
    assert terminal.startswith("/dev/pts/")
