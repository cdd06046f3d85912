"""Plans what a manifest says: one job whose steps are the tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildyard.domain.manifests import MOST_ARTIFACTS, Manifest, folder_of, git_source
from buildyard.domain.notifications import Action
from buildyard.domain.secrets import INSTALL
from buildyard.domain.specs import (
    JobSpec,
    Limits,
    NamedSource,
    PipelineSpec,
    Requirement,
    SecretUse,
    StepSpec,
    TokenUse,
)
from buildyard.engine.manifest_images import image_reference
from buildyard.engine.manifest_scripts import (
    DONE_FILE,
    environment_script,
    notes_script,
    packages_script,
    task_script,
)

JOB = "job"
"""The name of the one job."""

TIMEOUT_S = 4 * 3600
ARTIFACT_BYTES = 1024 * 1024 * 1024

_SYSTEMS = {
    "aarch64": "aarch64-linux",
    "amd64": "x86_64-linux",
    "arm64": "aarch64-linux",
    "i686": "i686-linux",
    "ppc64le": "ppc64le-linux",
    "riscv64": "riscv64-linux",
    "s390x": "s390x-linux",
    "x86_64": "x86_64-linux",
}
"""Architectures that are the system of a worker; others are asked for by a label."""

_READABLE = ("builds.sr.ht/JOBS", "builds.sr.ht/LOGS", "builds.sr.ht/PROFILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions:
    """What the server and the submitter decide about a manifest's job.

    `images` are references by the names that manifests use, beside those that are well known. `shell_s` and `failed_s`
    say how long the workspace stays, of a job that asks for it and of one that failed. `mail`: the server sends some.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = TIMEOUT_S
    secrets: bool = True
    shell_s: int = 0
    failed_s: int = 0
    mail: bool = True


def plan_manifest(manifest: Manifest, options: ManifestOptions) -> PipelineSpec:
    """One job: its steps are the tasks, each in a terminal, all in one home folder."""
    scopes, _ = scopes_of(manifest.oauth)
    job = JobSpec(
        name=JOB,
        steps=_steps(manifest),
        image=image_reference(manifest.image, options.images),
        secrets=tuple(SecretUse(name=name, given=INSTALL) for name in manifest.secrets) if options.secrets else (),
        outputs=manifest.artifacts if len(manifest.artifacts) <= MOST_ARTIFACTS else (),
        require=_requirement(manifest.arch),
        limits=Limits(
            wall_s=options.timeout_s,
            output_bytes=MOST_ARTIFACTS * ARTIFACT_BYTES,
            output_files=MOST_ARTIFACTS,
            output_file_bytes=ARTIFACT_BYTES,
        ),
        prepare=_prepare(manifest, options),
        at_home=True,
        done_file=DONE_FILE,
        sources=tuple(NamedSource(folder=folder_of(each), git=git_source(each)) for each in manifest.sources),
        keep_s=options.shell_s if manifest.shell else 0,
        keep_failed_s=options.failed_s,
        facts={"JOB_ID": "{build}", "JOB_URL": "{server}/~{account}/job/{build}"},
        token=TokenUse(scopes=scopes) if scopes else None,
    )
    return PipelineSpec(jobs=(job,))


def _steps(manifest: Manifest) -> tuple[StepSpec, ...]:
    """The tasks. The first one makes the file of the environment: a script of its own would cost a process."""
    before = environment_script(manifest.environment)
    return tuple(
        StepSpec(
            name=task.name,
            run=task_script(task.script, before="" if i else before, oauth=bool(manifest.oauth)),
            pty=True,
        )
        for i, task in enumerate(manifest.tasks)
    )


def _prepare(manifest: Manifest, options: ManifestOptions) -> tuple[StepSpec, ...]:
    """What is said and done before the tasks. Without packages only a container may need something: bash."""
    wanted = manifest.packages or manifest.repositories
    packages = packages_script(manifest.packages, manifest.repositories)
    scripts = (
        ("notes", notes_script(_notes(manifest, options)), ""),
        ("environment", "" if manifest.tasks else environment_script(manifest.environment), ""),
        ("packages", packages, "" if wanted else "container"),
    )
    posix = "sh"
    return tuple(
        StepSpec(name=name, run=script, shell=posix, executor=executor) for name, script, executor in scripts if script
    )


def _notes(manifest: Manifest, options: ManifestOptions) -> list[str]:
    """What the log says of parts of the manifest that have no effect."""
    notes = list(manifest.notes)
    if len(manifest.artifacts) > MOST_ARTIFACTS:
        notes.append(f"{len(manifest.artifacts)} artifacts are more than {MOST_ARTIFACTS}: none is kept")
    if manifest.secrets and not options.secrets:
        notes.append("secrets are withheld from this job")
    _, strange = scopes_of(manifest.oauth)
    if strange:
        notes.append(f"grants that this server does not give have no effect: {', '.join(strange)}")
    if not options.mail and any(trigger.action is Action.EMAIL for trigger in manifest.triggers):
        notes.append("this server is not set up to send mail: triggers with the action email tell nobody")
    return notes


def scopes_of(oauth: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which scopes of our tokens the grants of a manifest come to, and the grants that come to none."""
    scopes: dict[str, None] = {}
    strange = []
    for grant in oauth.split():
        what, _, right = grant.partition(":")
        if what == "builds.sr.ht" or (what, right) == ("builds.sr.ht/JOBS", "RW"):
            scopes |= dict.fromkeys(("jobs:read", "jobs:write"))
        elif what in _READABLE:
            scopes["jobs:read"] = None
        else:
            strange.append(grant)
    return tuple(scopes), tuple(strange)


def _requirement(arch: str) -> Requirement:
    if not arch:
        return Requirement()
    system = _SYSTEMS.get(arch, "")
    return Requirement(system=system) if system else Requirement(labels=(f"arch:{arch}",))
