"""`curl -s URL | bash` on a machine that knows nothing of Buildyard: a real shell with an empty environment."""

import asyncio
import io
import os
import signal
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from apis.build_server.conftest import Serve
from apis.build_server.serving import Api, step
from apis.build_server.test_access import token_of
from needs import need_program

PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass
class Run:
    """A script that runs or ran."""

    process: asyncio.subprocess.Process
    output: bytes = b""
    complaints: bytes = b""

    async def end(self) -> int:
        """Wait for its end; the exit status."""
        self.output, self.complaints = await asyncio.wait_for(self.process.communicate(), 60)
        assert self.process.returncode is not None
        return self.process.returncode


@dataclass
class Machine:
    """A bare machine with an empty home and its own folder for temporary files."""

    folder: Path

    async def start(self, url: str, extra: str = "", header: str = "") -> Run:
        """Begin to run the script at this address."""
        need_program("curl")
        line = f"set -o pipefail; curl -s {header} {url} | {extra} bash"
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), "PATH": PATH},
            cwd=self.folder,
            start_new_session=True,
        )
        return Run(process)

    @property
    def left_behind(self) -> list[str]:
        """What lies around afterwards."""
        return os.listdir(self.folder / "tmp")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A bare machine."""
    for name in ("home", "tmp"):
        (tmp_path / "machine" / name).mkdir(parents=True)
    return Machine(tmp_path / "machine")


async def log_of(api: Api, uid: str) -> bytes:
    """All that a step wrote, setup included."""
    return (await api.get(f"/api/steps/{uid}/logs")).data


async def run_step(api: Api, machine: Machine, uid: str) -> Run:
    """Run a step to its end."""
    run = await machine.start(f"{api.url}/api/runner/{uid}")
    await run.end()
    return run


async def read_until(api: Api, uid: str, text: bytes | None) -> None:
    """Follow a log until this text has come, or to its end."""
    seen = b""
    async with asyncio.timeout(60), api.session.get(f"{api.url}/api/steps/{uid}/logs?follow=1") as response:
        async for piece in response.content.iter_any():
            seen += piece
            if text is not None and text in seen:
                return
    assert text is None, seen


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what another process does sets no event
            await asyncio.sleep(0.02)


@pytest.mark.covers("build_server.runner.script", "build_server.operations")
async def test_a_script_runs_its_step_streams_its_log_and_reports(api: Api, machine: Machine) -> None:
    script = "echo hello; echo to stderr >&2; pwd; env; read -r line || echo no input; umask"
    build = await api.build(step(script=script))

    run = await run_step(api, machine, build.steps["test"])

    assert run.process.returncode == 0, run.complaints
    found = (await api.get(f"/api/steps/{build.steps['test']}")).body
    assert found["status"] == "SUCCESS"
    assert [(one["name"], one["status"]) for one in found["attempts"][0]["commands"]] == [
        ("setup", "SUCCESS"),
        ("run", "SUCCESS"),
    ]
    log = (await log_of(api, build.steps["test"])).decode()
    assert log.startswith("runner ")
    assert "image debian is noted" in log
    for line in ("hello", "to stderr", "no input", "CI=true", "BUILDYARD_STEP=run", "BUILDYARD_ATTEMPT=1", "0022"):
        assert f"\n{line}\n" in log
    assert "BUILDYARD_TOKEN" not in log
    assert b"hello\n" in run.output
    assert machine.left_behind == []


@pytest.mark.covers("build_server.runner.failure")
async def test_a_failing_script_is_reported_with_its_status(api: Api, machine: Machine) -> None:
    build = await api.build(step(script="echo before\nfalse\necho never"), step("ok", "exit 0"))
    other = await api.build_again(build.project, await api.workflow(build.project, step(script="exit 42")))

    run = await run_step(api, machine, build.steps["test"])
    second = await run_step(api, machine, other.steps["test"])

    assert (run.process.returncode, second.process.returncode) == (1, 42)
    found = (await api.get(f"/api/steps/{build.steps['test']}")).body
    assert (found["status"], found["reason"]) == ("FAILED", "failure")
    log = await log_of(api, build.steps["test"])
    assert b"before\n" in log
    assert b"never" not in log
    assert (await api.get(f"/api/builds/{build.id}")).body["status"] == "RUNNING"


@pytest.mark.covers("build_server.runner.binary", "logs.binary")
async def test_binary_rubbish_is_kept_to_the_byte(api: Api, machine: Machine) -> None:
    rubbish = bytes(range(256)) * 1000
    build = await api.build(
        step(script="for i in {1..1000}; do printf '%b' \"$(printf '\\\\x%02x' {0..255})\"; done; exit 3")
    )

    run = await run_step(api, machine, build.steps["test"])

    assert run.process.returncode == 3
    assert (await log_of(api, build.steps["test"])).endswith(rubbish)
    assert run.output.endswith(rubbish)
    follow = await api.get(f"/api/steps/{build.steps['test']}/logs", headers={"Accept": "text/event-stream"})
    assert b"event: end" in follow.data


@pytest.mark.covers("build_server.runner.interrupt")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_script_ends_its_step_and_reports(
    api: Api, machine: Machine, which: signal.Signals
) -> None:
    pid = machine.folder / "pid"
    build = await api.build(step(script=f"sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; echo started; wait"))
    run = await machine.start(f"{api.url}/api/runner/{build.steps['test']}")
    await until(pid.exists)

    os.killpg(run.process.pid, which)
    await run.process.communicate()

    await read_until(api, build.steps["test"], None)
    found = (await api.get(f"/api/steps/{build.steps['test']}")).body
    assert (found["status"], found["detail"]) == ("FAILED", "interrupted at the runner")
    assert b"started\n" in await log_of(api, build.steps["test"])
    child = int(pid.read_text())
    await until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
    await until(lambda: machine.left_behind == [])


async def test_a_cancelled_build_stops_the_script(api: Api, machine: Machine) -> None:
    build = await api.build(step(script="echo started; sleep 600"))
    run = await machine.start(f"{api.url}/api/runner/{build.steps['test']}")
    await read_until(api, build.steps["test"], b"started")

    await api.post(f"/api/builds/{build.id}/cancel", {"reason": "enough"})

    assert await run.end() != 0
    assert (await api.get(f"/api/builds/{build.id}")).body["reason"] == "cancelled"


@pytest.mark.covers("build_server.runner.script")
async def test_of_two_runners_that_race_for_a_step_one_runs_it(api: Api, machine: Machine) -> None:
    build = await api.build(step(script=f"echo ran >> {machine.folder}/ran; sleep 0.5"))
    url = f"{api.url}/api/runner/{build.steps['test']}"

    runs = [await machine.start(url) for _ in range(3)]
    statuses = sorted([await run.end() for run in runs])

    assert statuses == [0, 1, 1]
    assert (machine.folder / "ran").read_text() == "ran\n"
    late = await run_step(api, machine, build.steps["test"])
    assert late.process.returncode == 1
    assert b"the step has finished: success" in late.complaints


async def git(folder: Path, *arguments: str) -> str:
    """Git with an identity."""
    process = await asyncio.create_subprocess_exec(
        "git",
        *("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()


@pytest.fixture
async def repository(tmp_path: Path) -> Path:
    """A git repository with two commits on `main` and a branch `other`, and a hook that must not run."""
    need_program("git")
    folder = tmp_path / "repository"
    folder.mkdir()
    await git(folder, "init", "-q")
    for word in ("one", "two"):
        (folder / "word").write_text(f"{word}\n")
        await git(folder, "add", "word")
        await git(folder, "commit", "-q", "-m", f"Say {word}")
    await git(folder, "branch", "other", "HEAD~1")
    return folder


@pytest.mark.covers("build_server.runner.script")
async def test_the_source_is_the_commit_that_was_asked_for(serve: Serve, machine: Machine, repository: Path) -> None:
    api = await serve(allow_local=True)
    url = f"file://{repository}"
    first, second = [await git(repository, "rev-parse", name) for name in ("HEAD~1", "HEAD")]
    build = await api.build(step(script="cat word; git rev-parse HEAD"), repoUrl=url, commitHash=first)
    again = [
        await api.build_again(build.project, build.workflow, repoUrl=url, **source)
        for source in ({"commitHash": second[:7]}, {"branch": "other"}, {}, {"commitHash": "0" * 40})
    ]

    runs = [await run_step(api, machine, one.steps["test"]) for one in (build, *again)]

    logs = [await log_of(api, one.steps["test"]) for one in (build, *again)]
    assert [run.process.returncode for run in runs] == [0, 0, 0, 0, 1], logs
    for log, word, commit in zip(logs, ("one", "two", "one", "two"), (first, second, first, second), strict=False):
        assert log.decode().endswith(f"{word}\n{commit}\n")
    failed = (await api.get(f"/api/steps/{again[3].steps['test']}")).body
    assert (failed["reason"], failed["attempts"][0]["commands"][0]["status"]) == ("error", "FAILED")
    assert machine.left_behind == []


@pytest.mark.covers("build-server: POST /api/runner/{stepId}/revision", "engine.revisions.git")
async def test_all_steps_of_a_build_check_out_what_the_first_found(
    serve: Serve, machine: Machine, repository: Path
) -> None:
    api = await serve(allow_local=True)
    looks = [step(name, "git rev-parse HEAD") for name in ("first", "second")]
    build = await api.build(*looks, repoUrl=f"file://{repository}", branch="main")
    before = await git(repository, "rev-parse", "main")

    await run_step(api, machine, build.steps["first"])
    await git(repository, "commit", "-q", "--allow-empty", "-m", "Later")
    await run_step(api, machine, build.steps["second"])

    assert await git(repository, "rev-parse", "main") != before
    for name in ("first", "second"):
        assert (await log_of(api, build.steps[name])).decode().endswith(f"{before}\n")
    assert (await api.get(f"/api/builds/{build.id}")).body["commitHash"] == before


@pytest.mark.covers(
    "build_server.runner.script",
    "build-server: GET /api/builds/{id}/artifacts",
    "build-server: GET /api/artifacts/{id}",
    "build-server: PUT /api/runner/{stepId}/artifacts/{path}",
    "build-server: GET /api/runner/{stepId}/inputs",
)
async def test_outputs_are_kept_and_handed_on(api: Api, machine: Machine) -> None:
    make = (
        "mkdir -p dist/deep 'odd ü%name' .git; echo a > dist/a.txt; echo b > dist/deep/.b; chmod 755 dist/a.txt\n"
        "head -c 3000000 /dev/zero > dist/big; ln -s a.txt dist/link; ln -s /etc/passwd dist/away\n"
        "echo odd > 'odd ü%name/f [1].x'; echo no > other.y; echo secret > .git/x.x"
    )
    look = (
        "test $(cat dist/a.txt) = a; test -x dist/a.txt; test $(stat -c %s dist/big) = 3000000; find . -type f | sort"
    )
    build = await api.build(
        step("make", make, outputPaths=["dist", "**/*.x"]),
        step("look", look, dependsOn=["make"]),
    )

    runs = [await run_step(api, machine, build.steps[name]) for name in ("make", "look")]

    logs = [(await log_of(api, build.steps[name])).decode() for name in ("make", "look")]
    assert [run.process.returncode for run in runs] == [0, 0], logs
    assert logs[1].endswith("./dist/a.txt\n./dist/big\n./dist/deep/.b\n./dist/link\n./odd ü%name/f [1].x\n")
    assert "not kept: dist/away" in logs[0]
    found = (await api.get(f"/api/builds/{build.id}/artifacts?limit=3")).body
    rest = (await api.get(f"/api/builds/{build.id}/artifacts?cursor={found['cursor']}")).body
    kept = {one["path"]: one for one in found["artifacts"] + rest["artifacts"]}
    assert set(kept) == {"dist/a.txt", "dist/big", "dist/deep/.b", "dist/link", "odd ü%name/f [1].x"}
    assert "cursor" not in rest
    assert (kept["dist/a.txt"]["mode"], kept["dist/a.txt"]["stepName"]) == ("755", "make")
    odd = await api.get(f"/api/artifacts/{kept['odd ü%name/f [1].x']['id']}")
    assert (odd.status, odd.data) == (200, b"odd\n")


@pytest.mark.covers("build_server.bytes", "build-server: GET /api/artifacts/{id}")
async def test_artifacts_are_answered_so_that_no_browser_runs_them(api: Api, machine: Machine) -> None:
    build = await api.build(step("make", "echo '<script>1</script>' > 'x\"y.html'", outputPaths=["*.html"]))
    await run_step(api, machine, build.steps["make"])
    (kept,) = (await api.get(f"/api/builds/{build.id}/artifacts")).body["artifacts"]

    whole = await api.get(f"/api/artifacts/{kept['id']}")
    part = await api.get(f"/api/artifacts/{kept['id']}", headers={"Range": "bytes=1-6"})
    head = await api.call("HEAD", f"/api/artifacts/{kept['id']}")

    assert whole.data == b"<script>1</script>\n"
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in whole.headers["content-security-policy"]
    assert whole.headers["content-disposition"].startswith('attachment; filename="x_y.html"')
    assert (part.status, part.data, part.headers["content-range"]) == (206, b"script", "bytes 1-6/19")
    assert (head.status, head.headers["content-length"], head.data) == (200, "19", b"")


async def test_outputs_that_were_not_made_fail_the_step(api: Api, machine: Machine) -> None:
    build = await api.build(step("make", "true", outputPaths=["dist/*.whl"]))

    run = await run_step(api, machine, build.steps["make"])

    assert run.process.returncode == 1
    found = (await api.get(f"/api/steps/{build.steps['make']}")).body
    assert (found["status"], found["detail"]) == ("FAILED", "the step did not make its outputs")
    assert b"nothing matches dist/*.whl" in await log_of(api, build.steps["make"])


@pytest.mark.covers(
    "build_server.runner.script",
    "build-server: GET /api/runner/{stepId}/caches",
    "build-server: PUT /api/runner/{stepId}/caches",
    "engine.cache.success_only",
)
async def test_caches_go_round_and_only_success_saves_them(api: Api, machine: Machine) -> None:
    script = "mkdir -p 'my cache'; ls -la 'my cache'; date +%s%N >> 'my cache/log'; ln -sf log 'my cache/link'; "
    script += "wc -l < 'my cache/log'; [ $(wc -l < 'my cache/log') != 2 ]"
    build = await api.build(step(script=script, cacheDirs=["my cache"]))
    builds = [build, *[await api.build_again(build.project, build.workflow) for _ in range(2)]]

    runs = [await run_step(api, machine, one.steps["test"]) for one in builds]

    logs = [(await log_of(api, one.steps["test"])).decode() for one in builds]
    assert [run.process.returncode for run in runs] == [0, 1, 1], logs
    assert "nothing is stored yet" in logs[0]
    assert "\n1\ncache my cache: saved\n" in logs[0]
    assert "cache my cache: restored" in logs[1]
    assert logs[1].endswith("\n2\n")
    assert logs[2].endswith("\n2\n"), "the failed run must not have saved its cache"


@pytest.mark.covers("build-server: GET /api/runner/{stepId}/source")
async def test_an_uploaded_folder_is_the_source(api: Api, machine: Machine) -> None:
    import zstandard

    from buildyard.domain.access import SYSTEM
    from buildyard.domain.specs import FolderSource
    from buildyard.engine.builds import Submission, submit_build
    from buildyard.engine.files import store_blob

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        file = tarfile.TarInfo("deep/hello.txt")
        file.size = 6
        archive.addfile(file, io.BytesIO(b"hello\n"))

    async def pieces() -> AsyncIterator[bytes]:
        yield zstandard.compress(packed.getvalue())

    info = await store_blob(api.engine, SYSTEM, pieces())
    project = await api.project()
    workflow = await api.workflow(project, step(script="cat deep/hello.txt"))
    submission = Submission(source=FolderSource(sha256=info.sha256, size=info.size))
    view = await api.engine.run(submit_build, SYSTEM, project, workflow, submission, queue_limit=10)
    (one,) = (await api.get(f"/api/builds/{view.build.uid}/steps")).body["steps"]

    run = await run_step(api, machine, one["id"])

    assert run.process.returncode == 0
    assert (await log_of(api, one["id"])).endswith(b"source: uploaded folder\nhello\n")


@pytest.mark.covers("build_server.runner.quoting")
async def test_values_from_outside_are_not_run(serve: Serve, machine: Machine, repository: Path) -> None:
    api = await serve(allow_local=True)
    nasty = "x'; touch pwned; $(touch pwned) `touch pwned` \" ${HOME} \\"
    odd = step(nasty, "ls -A", outputPaths=["a$(touch pwned)/*"], cacheDirs=["`touch pwned`"])
    build = await api.build(odd, repoUrl=f"file://{repository}")
    other = await api.build_again(
        build.project, build.workflow, repoUrl=f"file://{repository}", branch="$(touch${IFS}pwned)"
    )

    await run_step(api, machine, build.steps[nasty])
    await run_step(api, machine, other.steps[nasty])

    log = await log_of(api, build.steps[nasty])
    assert b"\n.git\nword\noutputs: nothing matches" in log
    assert b"pwned" not in b"".join(line for line in log.splitlines(keepends=True) if b"touch pwned" not in line)
    assert (await api.get(f"/api/steps/{other.steps[nasty]}")).body["reason"] == "error"
    assert sorted(path.name for path in machine.folder.iterdir()) == ["home", "tmp"]


async def test_a_truncated_script_does_nothing(api: Api, machine: Machine) -> None:
    build = await api.build(step(script=f"touch {machine.folder}/ran"))
    text = (await api.get(f"/api/runner/{build.steps['test']}")).data

    for length in range(0, len(text) - 1, 997):
        process = await asyncio.create_subprocess_exec(
            "bash",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": PATH, "TMPDIR": str(machine.folder / "tmp")},
        )
        await process.communicate(text[:length])

    assert (await api.get(f"/api/steps/{build.steps['test']}")).body["attempts"] == []
    assert machine.left_behind == []


async def test_a_step_given_by_the_queue_is_run_with_its_token(api: Api, machine: Machine) -> None:
    build = await api.build(step(script="echo mine; env"))
    given = (await api.post("/api/runner/claim", {})).body

    run = await machine.start(given["scriptUrl"], f"BUILDYARD_STEP_TOKEN={given['token']}")

    assert await run.end() == 0
    log = await log_of(api, build.steps["test"])
    assert b"mine\n" in log
    assert given["token"].encode() not in log


@pytest.mark.covers("build_server.auth.token", "build_server.runner.script")
async def test_with_tokens_a_script_needs_one(serve: Serve, machine: Machine) -> None:
    api = await serve(is_open=False)
    api.headers = await token_of(api, "ann", "*")
    runner = await token_of(api, "ann", "runner")
    build = await api.build_of("ann", step(script="env"))
    address, secret = f"{api.url}/api/runner/{build.steps['test']}", runner["Authorization"].removeprefix("Bearer ")
    header = f"-H 'Authorization: Bearer {secret}'"

    without = await machine.start(address, header=header)
    assert await without.end() == 1
    with_token = await machine.start(address, f"BUILDYARD_TOKEN={secret}", header)

    assert await with_token.end() == 0
    assert b"BUILDYARD_TOKEN=TOKEN" in without.complaints
    assert secret.encode() not in await log_of(api, build.steps["test"])


@pytest.mark.covers("build_server.runner.script", "logs.durable")
async def test_a_script_goes_on_when_the_server_was_away(serve: Serve, machine: Machine) -> None:
    api = await serve()
    gone = machine.folder / "gone"
    build = await api.build(step(script=f"echo one; until [ -e {gone} ]; do sleep 0.05; done; echo two"))
    run = await machine.start(f"{api.url}/api/runner/{build.steps['test']}")
    await read_until(api, build.steps["test"], b"one")

    await api.stop()
    gone.touch()
    api = await serve(port=int(api.url.rsplit(":", 1)[1]))

    assert await run.end() == 0
    found = (await api.get(f"/api/steps/{build.steps['test']}")).body
    assert (found["status"], len(found["attempts"])) == ("SUCCESS", 1)
    assert (await log_of(api, build.steps["test"])).endswith(b"one\ntwo\n")
