"""One workflow, run in every way there is, must come to the same end each time."""

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildyard.client.http import HttpClient
from e2e.conftest import need_executor
from e2e.running import PROGRAM, Yard, environment, served
from needs import need_program

SCRIPTS: dict[str, dict[str, Any]] = {
    "prepare": {
        "run": 'echo "> preparing $(cat data.txt)"; ls cache 2>/dev/null | sed "s/^/> cached /"\n'
        "mkdir -p cache out/deep; touch cache/entry; seq 1 5 > out/deep/numbers\n"
        'printf "a\\0b\\377" > out/binary; chmod 755 out/binary\n'
        'echo "> prepared by $BUILDYARD_JOB, attempt $BUILDYARD_ATTEMPT"',
        "outputs": ["out/"],
        "caches": ["cache"],
    },
    "use": {
        "needs": ["prepare"],
        "run": "sha256sum out/deep/numbers out/binary | sed 's/^/> /'; stat -c '> %a %n' out/binary; sh ./tool.sh\n"
        'tr 1-5 a-e < out/deep/numbers > result.txt; test -z "$(cat)" && echo \'> no input\'; echo "> CI=$CI"',
        "outputs": ["result.txt"],
    },
    "fails": {"run": "echo '> about to fail'\nfalse\necho '> never'"},
    "exits": {"needs": ["prepare"], "run": "printf '> no line end'; exit 42"},
    "blocked": {"needs": ["fails", "use"], "run": "echo '> never'"},
    "forgets": {"run": "echo '> makes nothing'", "outputs": ["absent"]},
    "last": {"needs": ["use"], "run": "echo \"> $(tr -d '\\n' < result.txt)\""},
}
SOURCE = {"data.txt": "the data", "tool.sh": "echo '> a tool of the source'\n"}


def digest(data: bytes) -> str:
    """As artifacts show it."""
    return hashlib.sha256(data).hexdigest()


NUMBERS, BINARY, RESULT = b"1\n2\n3\n4\n5\n", b"a\0b\377", b"a\nb\nc\nd\ne\n"


@dataclass(frozen=True)
class Outcome:
    """What is to be the same: the build's end, each step's end with its exit code and words, and what was kept."""

    status: str
    reason: str
    steps: dict[str, tuple[str, str, int | None]]
    words: dict[str, list[str]]
    artifacts: dict[tuple[str, str], tuple[int, str, str]]


EXPECTED = Outcome(
    status="FAILED",
    reason="failure",
    steps={
        "prepare": ("SUCCESS", "success", 0),
        "use": ("SUCCESS", "success", 0),
        "fails": ("FAILED", "failure", 1),
        "exits": ("FAILED", "failure", 42),
        "blocked": ("FAILED", "dependency_failed", None),
        "forgets": ("FAILED", "failure", 0),
        "last": ("SUCCESS", "success", 0),
    },
    words={
        "prepare": ["> preparing the data", "> prepared by prepare, attempt 1"],
        "use": [
            f"> {digest(NUMBERS)}  out/deep/numbers",
            f"> {digest(BINARY)}  out/binary",
            "> 755 out/binary",
            "> a tool of the source",
            "> no input",
            "> CI=true",
        ],
        "fails": ["> about to fail"],
        "exits": ["> no line end"],
        "blocked": [],
        "forgets": ["> makes nothing"],
        "last": ["> abcde"],
    },
    artifacts={
        ("prepare", "out/binary"): (4, digest(BINARY), "755"),
        ("prepare", "out/deep/numbers"): (10, digest(NUMBERS), "644"),
        ("use", "result.txt"): (10, digest(RESULT), "644"),
    },
)


@dataclass
class Api:
    """The Build Server API of a yard, without a token, as on loopback."""

    http: HttpClient

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """A request and its JSON answer."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        status, answer = await self.http.call(method, f"/api{path}", data, headers=headers, timeout=60)
        assert status < 300, answer
        return json.loads(answer)

    async def text(self, path: str) -> str:
        """A request's answer as text."""
        status, answer = await self.http.call("GET", f"/api{path}", timeout=60)
        assert status == 200, answer
        return answer.decode()

    async def finished(self, build: str) -> Any:
        """The build once it is over."""
        async with asyncio.timeout(120):
            while True:
                found = await self.call("GET", f"/builds/{build}")
                if found["status"] in ("SUCCESS", "FAILED"):
                    return found
                await asyncio.sleep(0.05)

    async def outcome(self, build: str) -> Outcome:
        """What came of a finished build."""
        found = await self.finished(build)
        steps = (await self.call("GET", f"/builds/{build}/steps"))["steps"]
        kept = (await self.call("GET", f"/builds/{build}/artifacts"))["artifacts"]
        logs = {step["name"]: await self.text(f"/steps/{step['id']}/logs") for step in steps if step["attempts"]}
        return Outcome(
            status=found["status"],
            reason=found["reason"],
            steps={step["name"]: (step["status"], step["reason"], _exit_code(step)) for step in steps},
            words={step["name"]: _words(logs.get(step["name"], "")) for step in steps},
            artifacts={(one["stepName"], one["path"]): (one["size"], one["sha256"], one["mode"]) for one in kept},
        )


def _exit_code(step: Any) -> int | None:
    """That of the script, the last command; None if it did not run."""
    if not step["attempts"]:
        return None
    (attempt,) = step["attempts"]
    code: int | None = attempt["commands"][-1].get("exitStatus")
    return code


def _words(log: str) -> list[str]:
    """What the script said, without what is said around it."""
    return [line for line in log.splitlines() if line.startswith("> ")]


async def submitted(api: Api, repository: Path, commit: str) -> str:
    """The workflow as a build of the Build Server API."""
    image = {"slug": "any", "imageUrl": "docker://example.org/any:1"}
    await api.call("POST", "/docker-images", image)
    project = (await api.call("POST", "/projects", {"accountId": "tests", "name": "same"}))["id"]
    steps = [
        {
            "name": name,
            "imageSlug": "any",
            "dependsOn": job.get("needs", []),
            "runScript": job["run"],
            "cacheDirs": job.get("caches", []),
            "outputPaths": job.get("outputs", []),
        }
        for name, job in SCRIPTS.items()
    ]
    workflow = (await api.call("POST", f"/projects/{project}/workflows", {"name": "same", "steps": steps}))["id"]
    source = {"repoUrl": f"file://{repository}", "commitHash": commit, "branch": "main"}
    build: str = (await api.call("POST", f"/projects/{project}/builds", {"workflowId": workflow, **source}))["id"]
    return build


async def by_http(yard: Yard, api: Api, repository: Path, commit: str) -> str:
    """Submitted through the Build Server API, run by the embedded worker."""
    return await submitted(api, repository, commit)


async def by_command_line(yard: Yard, api: Api, repository: Path, commit: str) -> str:
    """`buildyard run FILE`, which ends with the build's result."""
    file = yard.data.with_name("same.json")
    source = {"git": f"file://{repository}", "branch": "main", "commit": commit}
    file.write_text(json.dumps({"name": "same", "source": source, "jobs": SCRIPTS}))
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "run", str(file), "--json"),
        env=environment({"BUILDYARD_URL": yard.url, "BUILDYARD_DATA": str(yard.data)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaints = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 1, complaints
    (build,) = (await api.call("GET", "/builds"))["builds"]
    found: str = build["id"]
    return found


async def by_scripts(yard: Yard, api: Api, repository: Path, commit: str) -> str:
    """`curl | bash` for each step, in an environment that knows nothing of Buildyard."""
    need_program("curl")
    build = await submitted(api, repository, commit)
    ids = {step["name"]: step["id"] for step in (await api.call("GET", f"/builds/{build}/steps"))["steps"]}
    home = yard.data.with_name("machine")
    home.mkdir()
    bare = {"HOME": str(home), "PATH": os.defpath if "/usr" in os.defpath else "/usr/bin:/bin"}
    for name in ("prepare", "fails", "forgets", "use", "exits", "last"):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"curl -s {yard.url}/api/runner/{ids[name]} | bash"),
            env=bare,
            cwd=home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode == 0) == (EXPECTED.steps[name][0] == "SUCCESS"), said
    return build


Way = Callable[[Yard, Api, Path, str], Awaitable[str]]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    """A git repository with the source, and its commit."""
    need_program("git")
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "First"]):
        subprocess.run([*git, *words], check=True)
    found = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return folder, found.stdout.strip()


@pytest.mark.covers("proof.same_everywhere", "engine.dag.dependency_failed", "engine.dag.independent")
@pytest.mark.parametrize(
    ("way", "executor"),
    [
        pytest.param(by_http, "process", id="http-process"),
        pytest.param(by_http, "sandbox", id="http-sandbox"),
        pytest.param(by_command_line, "process", id="command_line-process"),
        pytest.param(by_command_line, "sandbox", id="command_line-sandbox"),
        pytest.param(by_scripts, "", id="scripts"),
    ],
)
async def test_a_workflow_ends_the_same_whoever_starts_it_and_however_it_runs(
    way: Way, executor: str, repository: tuple[Path, str], tmp_path: Path
) -> None:
    if executor:
        await need_executor(executor, tmp_path)
    settings = {
        "BUILDYARD_EXECUTOR": executor or "process",
        "BUILDYARD_WORKERS": "2" if executor else "0",
        "BUILDYARD_ALLOW_LOCAL_SOURCES": "1",
    }
    async with served(tmp_path / "data", **settings) as yard:
        api = Api(HttpClient(yard.url))
        try:
            build = await way(yard, api, *repository)
            assert await api.outcome(build) == EXPECTED
        finally:
            await api.http.close()
