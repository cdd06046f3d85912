"""Plans of manifests: what the job of one is, and what its scripts do in real shells."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildyard.adapters.executors.sandbox import find_bubblewrap
from buildyard.domain.manifests import EnvironmentValue, Manifest, Repository, Task
from buildyard.domain.specs import GitSource, JobSpec, NamedSource, Requirement, SecretUse, TokenUse
from buildyard.engine.manifest_plans import ManifestOptions, plan_manifest
from buildyard.engine.manifest_scripts import environment_script, packages_script, task_script
from needs import need, need_program

MINE = Manifest(image="alpine/edge", tasks=(Task(name="one", script="echo 1"), Task(name="two", script="echo 2")))


def job_of(options: ManifestOptions | None = None, **more: object) -> JobSpec:
    """The job of a manifest with two tasks and these values."""
    manifest = Manifest(**{"image": MINE.image, "tasks": MINE.tasks, **more})  # type: ignore[arg-type]
    (job,) = plan_manifest(manifest, options or ManifestOptions()).jobs
    return job


@pytest.mark.covers("sourcehut.manifest.plan")
def test_tasks_become_steps_in_terminals_that_share_a_home() -> None:
    job = job_of()

    assert (job.name, job.at_home, job.done_file) == ("job", True, ".complete-build")
    assert [(step.name, step.pty, step.shell) for step in job.steps] == [("one", True, "bash"), ("two", True, "bash")]
    assert (job.outputs, job.secrets, job.sources, job.require) == ((), (), (), Requirement())
    assert [(step.name, step.executor) for step in job.prepare] == [("packages", "container")]
    assert (job.keep_s, job.keep_failed_s) == (0, 0)


def test_keys_become_what_the_job_needs() -> None:
    job = job_of(
        ManifestOptions(timeout_s=60, shell_s=5, failed_s=7),
        arch="arm64",
        sources=("https://example.org/a.git#v1", "git@example.org:~ann/b"),
        secrets=("key",),
        artifacts=("a/b.tar",),
        shell=True,
        packages=("git",),
    )

    assert job.require == Requirement(system="aarch64-linux")
    assert job.sources == (
        NamedSource(folder="a", git=GitSource(url="https://example.org/a.git", branch="v1", shallow=False)),
        NamedSource(folder="b", git=GitSource(url="git@example.org:~ann/b", shallow=False)),
    )
    assert (job.secrets, job.outputs) == ((SecretUse(name="key", given="install"),), ("a/b.tar",))
    assert (job.limits.wall_s, job.keep_s, job.keep_failed_s) == (60, 5, 7)
    assert [(step.name, step.executor) for step in job.prepare] == [("packages", "")]


def test_a_job_knows_its_id_and_its_address() -> None:
    assert job_of().facts == {"JOB_ID": "{build}", "JOB_URL": "{server}/~{account}/job/{build}"}


@pytest.mark.parametrize(
    ("oauth", "scopes", "strange"),
    [
        ("", None, ()),
        ("builds.sr.ht/JOBS:RO builds.sr.ht/LOGS", ("jobs:read",), ()),
        ("builds.sr.ht/JOBS:RW", ("jobs:read", "jobs:write"), ()),
        ("builds.sr.ht", ("jobs:read", "jobs:write"), ()),
        ("pages.sr.ht/PAGES:RW builds.sr.ht/SECRETS:RO", None, ("pages.sr.ht/PAGES:RW", "builds.sr.ht/SECRETS:RO")),
    ],
)
def test_grants_of_this_server_become_a_token_and_others_are_noted(
    oauth: str, scopes: tuple[str, ...] | None, strange: tuple[str, ...]
) -> None:
    job = job_of(oauth=oauth)

    assert job.token == (TokenUse(scopes=scopes) if scopes else None)
    noted = job.prepare[0].run if job.prepare[0].name == "notes" else ""
    assert all(grant in noted for grant in strange)
    assert bool(noted) is bool(strange)


@pytest.mark.covers("sourcehut.manifest.images")
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mine", "registry.example.org/mine:1"),
        ("debian/stable", "localhost/debian:1"),
        ("alpine/edge", "docker.io/library/alpine:edge"),
        ("ubuntu/lts", "docker.io/library/ubuntu:latest"),
        ("ubuntu/noble", "docker.io/library/ubuntu:noble"),
        ("archlinux", "docker.io/library/archlinux:latest"),
        ("nixos/unstable", "docker.io/nixos/nix:latest"),
        ("freebsd/latest", "freebsd/latest"),
        ("alpine/a/b", "alpine/a/b"),
        ("docker.io/library/busybox:1", "docker.io/library/busybox:1"),
    ],
)
def test_images_are_those_of_the_operator_or_of_well_known_systems(name: str, reference: str) -> None:
    mine = {"mine": "registry.example.org/mine:1", "debian/stable": "localhost/debian:1"}

    assert job_of(ManifestOptions(images=mine), image=name).image == reference


def test_an_architecture_that_is_no_known_system_is_asked_for_by_a_label() -> None:
    assert job_of(arch="sparc64").require == Requirement(labels=("arch:sparc64",))


def test_what_has_no_effect_is_said_in_the_log() -> None:
    names = tuple("abcdefghi")
    job = job_of(ManifestOptions(secrets=False), artifacts=names, secrets=("key",), notes=("it's ignored",))

    assert (job.outputs, job.secrets) == ((), ())
    said = subprocess.run(["sh", "-e"], input=job.prepare[0].run, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "it's ignored",
        "9 artifacts are more than 8: none is kept",
        "secrets are withheld from this job",
    ]


def test_a_shell_without_tasks_has_its_environment_all_the_same() -> None:
    job = job_of(tasks=(), shell=True)

    assert job.steps == ()
    assert [(step.name, step.executor) for step in job.prepare] == [("environment", ""), ("packages", "container")]


# --- what the scripts do ------------------------------------------------------------------------


def bash(script: str, home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a script as a worker does."""
    file = home / ".buildyard-test"
    file.write_text(script)
    return subprocess.run(
        [need_program("bash"), "--noprofile", "--norc", "-e", str(file)],
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def run_tasks(home: Path, environment: dict[str, EnvironmentValue], *scripts: str) -> list[str]:
    """What each task prints, up to the first that fails."""
    printed = []
    for i, script in enumerate(scripts):
        before = "" if i else environment_script(environment)
        done = bash(task_script(script, before=before, oauth=False), home)
        printed.append(f"{done.stdout}({done.returncode})")
    return printed


@pytest.mark.covers("sourcehut.manifest.environment")
def test_variables_reach_tasks_as_the_shell_has_them(tmp_path: Path) -> None:
    environment: dict[str, EnvironmentValue] = {
        "TEXT": 'it\'s $HOME `id` \\ "x"\nand more',
        "YES": True,
        "NO": False,
        "NOTHING": None,
        "LIST": ("a", "two words", "$x", ""),
        "EMPTY": (),
    }
    show = 'printf "<%s>" "$CI_NAME" "$TEXT" "$YES" "$NO" "$NOTHING" "${#LIST[@]}" "${LIST[@]}" "${#EMPTY[@]}"'

    (printed,) = run_tasks(tmp_path, environment, show)

    values = ["sourcehut", environment["TEXT"], "true", "false", "", "4", "a", "two words", "$x", "", "0"]
    assert printed == "".join(f"<{value}>" for value in values) + "(0)"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1, max_size=5))
def test_no_text_leaves_its_quotes(texts: list[str]) -> None:
    script = environment_script({"A": texts[0], "B": tuple(texts)}).split("printf %s ", 1)[1]
    content = f'eval "$(printf %s {script.rsplit(" > ", 1)[0]})"\nprintf "%s\\0" "$A" "${{B[@]}}"'

    done = subprocess.run([need_program("bash"), "-e"], input=content.encode(), capture_output=True, check=True)

    assert done.stdout.decode().split("\0")[:-1] == [texts[0], *texts]


@pytest.mark.covers("sourcehut.manifest.tasks")
def test_tasks_show_their_commands_end_at_the_first_that_fails_and_hand_on_their_environment(tmp_path: Path) -> None:
    one = bash(task_script("echo hello\nfalse\necho never", before=environment_script({}), oauth=False), tmp_path)
    printed = run_tasks(tmp_path, {}, "echo 'export MORE=1' >> ~/.buildenv", "echo $MORE")

    assert (one.returncode, one.stdout) == (1, "hello\n")
    assert one.stderr.splitlines() == ["+ echo hello", "+ false"]
    assert printed == ["(0)", "1\n(0)"]


def test_a_task_may_end_the_job_early(tmp_path: Path) -> None:
    printed = run_tasks(tmp_path, {}, "echo before; complete-build; echo after")

    assert printed == ["before\n(0)"]
    assert (tmp_path / ".complete-build").exists()


def test_the_environment_is_not_made_anew_by_a_second_job_step(tmp_path: Path) -> None:
    (tmp_path / ".buildenv").write_text("export MINE=1\n")

    assert run_tasks(tmp_path, {"OTHER": "2"}, 'echo "$MINE$OTHER"') == ["1\n(0)"]


@pytest.mark.covers("sourcehut.manifest.oauth")
def test_the_request_function_sends_the_token_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    script = task_script("acurl -s https://example.org", before=environment_script({}), oauth=True)

    done = bash(script, tmp_path, OAUTH2_TOKEN="t0ken", PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert done.stdout == "--oauth2-bearer|t0ken|-s|https://example.org|"
    assert "t0ken" not in done.stderr


def test_root_without_sudo_may_call_it(tmp_path: Path) -> None:
    for name in ("id", "env", "bash"):
        (tmp_path / name).symlink_to(need_program(name))
    (tmp_path / "id").unlink()
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n".replace("#!/bin/sh", f"#!{need_program('sh')}"))
    (tmp_path / "id").chmod(0o755)
    script = task_script('sudo -E A=1 bash -c "echo \\$A"', before=environment_script({}), oauth=False)

    done = bash(script, tmp_path, PATH=str(tmp_path))

    assert (done.returncode, done.stdout) == (0, "1\n")


# --- packages -----------------------------------------------------------------------------------

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
