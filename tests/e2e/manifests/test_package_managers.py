"""What prepares an image, in views of the system with stand-ins for package managers."""

import os
import subprocess
from pathlib import Path

import pytest

from buildyard.adapters.executors.sandbox import find_bubblewrap
from buildyard.domain.manifests import Repository
from buildyard.engine.manifest_scripts import packages_script
from needs import need, need_program

MANAGERS = ("apk", "apt-get", "dnf", "microdnf", "yum", "pacman", "zypper", "xbps-install", "nix-env")
HELPERS = ("curl", "gpg", "dirmngr", "pacman-key", "nix-channel", "rpm")
PROGRAMS = ("sh", "env", "expr", "mkdir", "chmod", "bash")


def in_image(folder: Path, manager: str, script: str, *, user: int = 0, programs: tuple[str, ...] = PROGRAMS) -> str:
    """What a script prints in a view of the system whose /etc is its own, with stand-ins that say how they are called.

    Files that it made in /etc are printed at the end, a line `FILE: content` each.
    """
    bubblewrap = find_bubblewrap(os.environ["PATH"])
    need(bubblewrap, "bubblewrap")
    assert bubblewrap is not None
    tools = folder / "tools"
    tools.mkdir()
    for name in programs:
        (tools / name).symlink_to(need_program(name))
    for name in (*HELPERS, *([manager] if manager else [])):
        (tools / name).write_text(f'#!/usr/bin/sh\necho "{name} $*"\n')
        (tools / name).chmod(0o755)
    (folder / "script").write_text(script)
    seen = [part for name in ("usr", "bin", "lib", "lib64") if Path(f"/{name}").exists() for part in bind(name)]
    argv = [
        bubblewrap, "--unshare-all", "--unshare-user", "--uid", str(user), *seen, "--dev", "/dev", "--proc", "/proc",
        "--tmpfs", "/etc", "--dir", "/etc/apk/keys", "--ro-bind", str(folder), "/job", "--clearenv",
        "--setenv", "PATH", "/job/tools:/job/id", "--setenv", "BUILDYARD_EXECUTOR", "container",
        "/usr/bin/sh", "-c",
        "/usr/bin/sh /job/script || exit; "
        '[ -z "$(/usr/bin/find /etc -type f)" ] || exec /usr/bin/grep -r "" /etc',
    ]  # fmt: skip
    (folder / "id").mkdir()
    (folder / "id" / "id").symlink_to(need_program("id"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bind(name: str) -> list[str]:
    """Options of bubblewrap that show a folder of the machine."""
    path = f"/{name}"
    return ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]


CALLS = {
    "apk": ["apk add --update-cache git g++"],
    "apt-get": ["apt-get -q update", "apt-get -q -y install git g++"],
    "dnf": ["dnf -y install git g++"],
    "microdnf": ["microdnf -y install git g++"],
    "yum": ["yum -y install git g++"],
    "pacman": ["pacman -Syu --noconfirm --needed git g++"],
    "zypper": ["zypper --non-interactive install git g++"],
    "xbps-install": ["xbps-install -Sy git g++"],
    "nix-env": ["nix-env -iA git g++"],
}


@pytest.mark.covers("sourcehut.manifest.packages")
@pytest.mark.parametrize("manager", MANAGERS)
def test_packages_are_installed_by_the_manager_that_the_image_has(manager: str, tmp_path: Path) -> None:
    printed = in_image(tmp_path, manager, packages_script(["git", "g++"], []))

    assert printed.splitlines() == [f"installing with {manager}: git g++", *CALLS[manager]]


KEY_ID = "0123456789ABCDEF"
KEY_URL = "https://example.org/k.pub"
REPOSITORIES = {
    ("apk", f"https://example.org/apk {KEY_URL} it.pub"): [
        f"curl -fsSL -o /etc/apk/keys/it.pub -- {KEY_URL}",
        "/etc/apk/repositories:https://example.org/apk",
    ],
    ("apk", "https://example.org/apk"): ["/etc/apk/repositories:https://example.org/apk"],
    ("apt-get", "https://example.org/deb stable main"): [
        "/etc/apt/sources.list.d/x-y.list:deb https://example.org/deb stable main"
    ],
    ("apt-get", f"https://example.org/deb stable main {KEY_URL}"): [
        f"curl -fsSL -o /etc/apt/keyrings/x-y.asc -- {KEY_URL}",
        "/etc/apt/sources.list.d/x-y.list:"
        "deb [signed-by=/etc/apt/keyrings/x-y.asc] https://example.org/deb stable main",
    ],
    ("dnf", "https://example.org/rpm"): [
        "/etc/yum.repos.d/x-y.repo:[x-y]",
        "/etc/yum.repos.d/x-y.repo:name=x/y",
        "/etc/yum.repos.d/x-y.repo:baseurl=https://example.org/rpm",
        "/etc/yum.repos.d/x-y.repo:enabled=1",
        "/etc/yum.repos.d/x-y.repo:gpgcheck=0",
    ],
    ("dnf", f"https://example.org/rpm {KEY_URL}"): [
        "/etc/yum.repos.d/x-y.repo:[x-y]",
        "/etc/yum.repos.d/x-y.repo:name=x/y",
        "/etc/yum.repos.d/x-y.repo:baseurl=https://example.org/rpm",
        "/etc/yum.repos.d/x-y.repo:enabled=1",
        "/etc/yum.repos.d/x-y.repo:gpgcheck=1",
        f"/etc/yum.repos.d/x-y.repo:gpgkey={KEY_URL}",
    ],
    ("yum", "https://example.org/x.repo"): [
        "curl -fsSL -o /etc/yum.repos.d/x-y.repo -- https://example.org/x.repo",
    ],
    ("pacman", f"https://example.org/arch#{KEY_ID}"): [
        f"pacman-key --recv-keys {KEY_ID}",
        f"pacman-key --lsign-key {KEY_ID}",
        "/etc/pacman.conf:",
        "/etc/pacman.conf:[x-y]",
        "/etc/pacman.conf:SigLevel = Required DatabaseOptional",
        "/etc/pacman.conf:Server = https://example.org/arch",
    ],
    ("pacman", "https://example.org/arch"): [
        "/etc/pacman.conf:",
        "/etc/pacman.conf:[x-y]",
        "/etc/pacman.conf:SigLevel = Optional TrustAll",
        "/etc/pacman.conf:Server = https://example.org/arch",
    ],
    ("zypper", "https://example.org/suse"): [
        "zypper --non-interactive addrepo --no-gpgcheck -f https://example.org/suse x-y",
    ],
    ("zypper", f"https://example.org/suse {KEY_URL}"): [
        f"rpm --import {KEY_URL}",
        "zypper --non-interactive addrepo --gpgcheck -f https://example.org/suse x-y",
    ],
    ("xbps-install", "https://example.org/void"): ["/etc/xbps.d/x-y.conf:repository=https://example.org/void"],
    ("nix-env", "https://example.org/nix"): [
        "nix-channel --add https://example.org/nix x/y",
        "nix-channel --update x/y",
    ],
}


@pytest.mark.covers("sourcehut.manifest.repositories")
@pytest.mark.parametrize(("manager", "url"), list(REPOSITORIES))
def test_repositories_are_added_as_the_manager_has_them(manager: str, url: str, tmp_path: Path) -> None:
    printed = in_image(tmp_path, manager, packages_script([], [Repository(name="x/y", url=url)]))

    assert printed.splitlines() == ["adding the repository x/y", *REPOSITORIES[manager, url]]


def test_nothing_of_a_manifest_leaves_its_quotes_on_the_way_to_the_manager(tmp_path: Path) -> None:
    evil = Repository(name="x", url="'; touch /etc/evil; $(touch /etc/evil) `touch /etc/evil` *")
    printed = in_image(tmp_path, "apk", packages_script(["'; touch /etc/evil;'", "$(touch /etc/evil)"], [evil]))

    assert "apk add --update-cache '; touch /etc/evil;' $(touch /etc/evil)" in printed.splitlines()
    assert "/etc/evil:" not in printed


def test_packages_are_left_alone_where_they_are_not_the_jobs_to_install(tmp_path: Path) -> None:
    script = packages_script(["git"], [Repository(name="r", url="https://example.org/r")])
    words = "packages (git) and repositories (r) of the manifest are not installed; tasks find what is there\n"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    shown = subprocess.run(["sh", "-c", script], env={"BUILDYARD_EXECUTOR": "sandbox"}, capture_output=True, text=True)

    assert shown.stdout == f"executor sandbox uses this machine's own tools: {words}"
    assert in_image(tmp_path / "one", "", script) == f"the image has no package manager that is known: {words}"
    assert in_image(tmp_path / "two", "apk", script, user=7) == f"the job is not root in its container: {words}"


def test_an_image_without_bash_gets_it(tmp_path: Path) -> None:
    without = tuple(name for name in PROGRAMS if name != "bash")

    printed = in_image(tmp_path, "apk", packages_script([], []), programs=without)

    assert printed.splitlines() == ["installing with apk: bash", "apk add --update-cache bash"]


def test_an_image_with_bash_and_nothing_to_install_is_left_alone(tmp_path: Path) -> None:
    assert in_image(tmp_path, "apk", packages_script([], [])) == ""
