"""A fresh clone of what is committed: `make run`, `make run` again, and `make test`, as a newcomer types them.

The newcomer has a home of his own, with no packages in it, and the Pythons of the system. `make test` runs a small part
of the tests: this one is among them.
"""

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from buildyard.worker.folder import holder
from e2e.running import Program, http_get, kill_stranger, until
from needs import need, need_program

ROOT = Path(__file__).resolve().parents[3]
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SET_UP_S, BUILD_S = 600.0, 1200.0
"""Packages come from an index, and the machine may be busy."""

JOBS = {"lint", "types", "wheel", "documents", "install"}


@dataclass(frozen=True)
class Clone:
    """A clone and its owner's environment."""

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of this test's Python and settings, but the machine's way to a package index."""
        dropped = ("BUILDYARD_", "PYTHON", "VIRTUAL_ENV", "PYTEST_", "MAKE", "MFLAGS", "PYENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        programs = [str(Path(need_program(name)).parent) for name in ("git", "make")]
        configured = Path("~/.config/pip/pip.conf").expanduser()
        if configured.exists():
            kept.setdefault("PIP_CONFIG_FILE", str(configured))
        python = str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
        path = ":".join(dict.fromkeys([*STANDARD_PATH.split(":"), *programs]))
        return {**kept, "HOME": str(self.home), "PATH": path, "PYTHON": python, "COLUMNS": "200"}

    @asynccontextmanager
    async def make_run(self) -> AsyncIterator[Program]:
        """`make run`, on a free port; whatever is left of it at the end is killed."""
        variables = [f"{name}={value}" for name, value in {**self.environment, "BUILDYARD_PORT": "0"}.items()]
        argv = ["env", "-i", *variables, "make", "-C", str(self.folder), "--no-print-directory", "run"]
        made = await Program.start(argv, {}, self.home / "make.err")
        try:
            yield made
        finally:
            await self._end(made)

    async def _end(self, made: Program) -> None:
        """Two signals end the server and its worker at once; who does not listen is killed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if made.process.returncode is None:
                os.killpg(made.process.pid, number)
        try:
            await made.ended()
        except TimeoutError:
            os.killpg(made.process.pid, signal.SIGKILL)
            await made.ended()
        if (pid := self.worker) is not None:
            await kill_stranger(pid)

    @property
    def worker(self) -> int | None:
        """The pid of the embedded worker, if it runs."""
        folder = self.folder / "data" / "worker"
        return holder(folder) if (folder / "worker.lock").exists() else None

    def ask(self, *arguments: str, url: str) -> Any:
        """What a command of the clone's own command line answers, in JSON."""
        ended = subprocess.run(
            [".venv/bin/buildyard", *arguments, "--json"],
            cwd=self.folder,
            env={**self.environment, "BUILDYARD_URL": url, "BUILDYARD_DATA": str(self.folder / "data")},
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr.decode()
        return msgspec.json.decode(ended.stdout or b"null")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone of the last commit, in an empty folder."""
    need((ROOT / ".git").exists(), "a git repository (this is an export of one)")
    git = need_program("git")
    subprocess.run([git, "clone", "--quiet", f"file://{ROOT}", "buildyard"], cwd=tmp_path, check=True)
    home = tmp_path / "home"
    home.mkdir()
    return Clone(tmp_path / "buildyard", home)


async def ctrl_c(clone: Clone, made: Program) -> None:
    """Press Ctrl-C: everything ends, and the data folder is nobody's."""
    os.killpg(made.process.pid, signal.SIGINT)
    await made.ended(60)
    assert "stopping" in made.printed
    assert clone.worker is None


def check_first_words(printed: list[str]) -> None:
    """What one is told before the build begins."""
    words = [line.partition(" ")[0] for line in printed[: printed.index(_begins(printed, "listening on ")) + 1]]
    assert words[-3:] == ["executor:", "administrator:", "listening"]
    assert " at a time (" in _begins(printed, "executor: ")
    assert _begins(printed, "administrator: user admin, password ").endswith("(shown this once)")


def _begins(printed: list[str], beginning: str) -> str:
    (line,) = [line for line in printed if line.startswith(beginning)]
    return line


def check_tree(tree: Any, pythons: list[str]) -> None:
    """Every job succeeded, some of them at the same time, each on its Python."""
    jobs = {job["name"]: job for job in tree["jobs"]}
    assert set(jobs) == JOBS | {f"unit ({python})" for python in pythons}
    assert {job["result"] for job in jobs.values()} == {"success"}
    assert {name: job["needs"] for name, job in jobs.items() if job["needs"]} == {"install": ["wheel"]}
    spans = sorted((job["started_at"], job["finished_at"]) for job in jobs.values())
    assert any(later[0] < earlier[1] for earlier, later in pairwise(spans))
    assert sum(len(job["attempts"][0]["steps"]) - 1 for job in jobs.values()) >= 6


def check_wheel(clone: Clone, url: str) -> None:
    """The wheel was kept, and is one."""
    (kept,) = clone.ask("artifacts", "1", url=url)
    assert kept["job"] == "wheel"
    clone.ask("artifacts", "1", kept["path"], "-o", str(clone.home), url=url)
    with zipfile.ZipFile(clone.home / Path(kept["path"]).name) as wheel:
        assert "buildyard/cli/__main__.py" in wheel.namelist()


def run_some_tests(clone: Clone) -> None:
    """`make test` sets up what tests need, and runs some: of these, one needs PostgreSQL."""
    tested = subprocess.run(
        ["make", "--no-print-directory", "test", "TESTS=tests/domain/test_labels.py tests/store/test_schema.py"],
        cwd=clone.folder,
        env=clone.environment,
        capture_output=True,
        text=True,
        timeout=SET_UP_S,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr[-3000:]
    assert " passed" in tested.stdout.splitlines()[-1]
    assert "skipped" not in tested.stdout.splitlines()[-1]


@pytest.mark.covers(
    "repo.run.first",
    "repo.run.self_build",
    "repo.run.progress",
    "repo.run.again",
    "repo.fresh_clone",
    "repo.test.setup",
)
async def test_a_newcomer_builds_buildyard_with_itself_and_runs_its_tests(clone: Clone) -> None:
    async with clone.make_run() as made:
        url = await made.line("listening on ", SET_UP_S)
        check_first_words(made.printed)
        pythons = _begins(made.printed, "Pythons found: ").removeprefix("Pythons found: ").split(", ")
        assert await made.line("the build ", BUILD_S) == "succeeded", "\n".join(made.printed[-200:])
        check_tree(clone.ask("show", "1", url=url), pythons)
        for line in ("● types: running", "wheel | cache .cache/wheels: nothing is stored yet", "install | buildyard "):
            assert any(printed.startswith(line) for printed in made.printed), line
        check_wheel(clone, url)
        assert (await http_get(f"{url}/health"))[0].startswith("HTTP/1.1 200")
        await ctrl_c(clone, made)

    async with clone.make_run() as again:
        url = await again.line("listening on ", SET_UP_S)
        await until(lambda: any("cache .cache/wheels: restored" in line for line in again.printed) or None, BUILD_S)
        assert [(build["id"], build["result"]) for build in clone.ask("builds", url=url)] == [(2, None), (1, "success")]
        assert not any("password" in line for line in again.printed)
        await ctrl_c(clone, again)

    run_some_tests(clone)
