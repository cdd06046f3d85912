"""Plans of manifests: what the job of one is, and what its scripts do in real shells."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildyard.domain.manifests import EnvironmentValue, Manifest, Task
from buildyard.domain.specs import GitSource, JobSpec, NamedSource, Requirement, SecretUse, TokenUse
from buildyard.engine.manifest_plans import ManifestOptions, plan_manifest
from buildyard.engine.manifest_scripts import environment_script, task_script
from needs import need_program

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
