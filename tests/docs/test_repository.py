"""The repository itself: its layers, its locks, its first page, and what its commands check."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;.*)?\s*\\$", re.MULTILINE)
NEEDS = """
from needs import need

def test_here():
    need(True, "nothing")

def test_there():
    need(False, "a part that no machine has")
"""


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(text: str) -> str:
    """A package's name in its one normal spelling."""
    return re.sub(r"[-_.]+", "-", text).lower()


def locked(lock: str) -> dict[str, Version]:
    """The exact versions in a lock file."""
    text = (ROOT / f"locks/{lock}.txt").read_text(encoding="utf-8")
    found = {name_of(name): Version(version) for name, version in LOCKED.findall(text)}
    assert text.count("--hash=sha256:") >= len(found)
    return found


def contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    """Have the import contracts checked in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    argv = [str(SCRIPTS / "lint-imports"), "--no-cache"]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.covers("repo.layout")
@pytest.mark.parametrize(
    "files",
    [
        {"utils.py": ("", "buildyard.utils")},
        {
            "domain/extra.py": ("from buildyard.store import tables", "buildyard.domain.extra -> buildyard.store"),
            "apis/native/extra.py": (
                "from buildyard.adapters import files",
                "buildyard.apis.native.extra -> buildyard.adapters",
            ),
        },
    ],
    ids=["a package without a place", "imports that point outwards"],
)
def test_what_breaks_the_layout_fails_the_check(tmp_path: Path, files: dict[str, tuple[str, str]]) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (text, _) in files.items():
        (tmp_path / "src/buildyard" / name).write_text(f'"""A module that has no place here."""\n{text}\n')

    checked = contracts(tmp_path)

    assert checked.returncode != 0
    for _, complaint in files.values():
        assert complaint in checked.stdout + checked.stderr


@pytest.mark.covers("repo.lockfile")
def test_python_licence_and_all_that_is_depended_on_are_pinned() -> None:
    about = project()

    assert (about["project"]["requires-python"], about["project"]["license"]) == (">=3.11", "Apache-2.0")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    runtime, development = locked("runtime"), locked("dev")
    for text in about["project"]["dependencies"]:
        wanted = Requirement(text)
        assert runtime[name_of(wanted.name)] in wanted.specifier
        assert development[name_of(wanted.name)] == runtime[name_of(wanted.name)]
    for group in ("build", "lint", "types", "test"):
        for text in about["dependency-groups"][group]:
            wanted = Requirement(text)
            assert locked(group)[name_of(wanted.name)] in wanted.specifier
            assert development[name_of(wanted.name)] == locked(group)[name_of(wanted.name)]


@pytest.mark.covers("repo.readme")
def test_the_first_page_says_what_it_is_shows_it_and_leads_to_the_rest() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    about, rest = text.split("\n## ", 1)

    assert len([line for line in about.splitlines() if line.strip()]) <= 12
    assert all(f"\n    make {target} " in rest for target in ("run", "test"))
    (picture,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert "listening on" in re.sub(r"&#160;|\xa0", " ", (ROOT / picture).read_text(encoding="utf-8"))
    map_of_docs = set(re.findall(r"\]\((docs/[^)#]+\.md)\)", rest))
    for page in ("architecture", "data-model", "state-machine", "settings", "decisions", "cli", "requirements"):
        assert f"docs/{page}.md" in map_of_docs
    assert {path for path in map_of_docs if path.startswith("docs/apis/")} | {"docs/README.md"} <= map_of_docs


@pytest.mark.covers("repo.check")
def test_what_runs_elsewhere_is_make_check_where_nothing_may_be_missing() -> None:
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]

    assert lines == [
        "set -eu",
        'cd "$(dirname "$0")/.."',
        "export BUILDYARD_REQUIRE=all",
        "exec make --no-print-directory check",
    ]
    plan = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "codespell", "vulture", "pytest"):
        assert tool in plan
    assert "generate_docs.py --check" in plan


@pytest.mark.covers("repo.test.require_all")
def test_a_missing_part_is_counted_and_named_and_fails_where_all_is_required(tmp_path: Path) -> None:
    (tmp_path / "test_parts.py").write_text(NEEDS)
    environment = {name: value for name, value in os.environ.items() if name != "BUILDYARD_REQUIRE"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    argv = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "test_parts.py"]

    said = {}
    for require in ("", "all"):
        ended = subprocess.run(
            argv,
            cwd=tmp_path,
            env={**environment, "BUILDYARD_REQUIRE": require},
            capture_output=True,
            text=True,
            check=False,
        )
        said[require] = (ended.returncode, ended.stdout)

    assert said[""][0] == 0
    assert "1 passed, 1 skipped" in said[""][1]
    assert "missing: a part that no machine has" in said[""][1]
    assert said["all"][0] == 1
    assert "required but missing: a part that no machine has" in said["all"][1]


@pytest.fixture
def programs() -> Iterator[Path]:
    """A folder that every user can read."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def install_parts(programs: Path, *here: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script that installs programs as somebody who is not root, with only these on the PATH."""
    for name in ("sh", "id", "wc", *here):
        found = shutil.which(name)
        assert found is not None
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(found)
    who = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups"] if os.getuid() == 0 else []
    return subprocess.run(
        [*who, "env", "-i", f"PATH={programs}", *_pairs(variables), "/bin/sh"],
        input=(ROOT / "tools/install_parts.sh").read_text(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def _pairs(variables: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


@pytest.mark.covers("repo.test.setup", "repo.test.require_all")
def test_without_root_missing_programs_are_counted_and_named_with_what_to_install(programs: Path) -> None:
    missing = install_parts(programs, "git", "curl", "openssl", "cc")
    required = install_parts(programs, "git", "curl", "openssl", "cc", BUILDYARD_REQUIRE="all")

    assert (missing.returncode, required.returncode) == (0, 1)
    for said in (missing.stderr, required.stderr):
        assert said.startswith(
            "16 programs are missing: bwrap slirp4netns setpriv gpg ssh sshd ninja socat ip faketime podman "
        )
        assert (
            "apt-get install bubblewrap slirp4netns util-linux gpg openssh-client openssh-server ninja-build socat"
            in said
        )
