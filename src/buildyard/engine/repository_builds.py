"""Builds of the manifests that lie in a repository: their pipelines, what they build, and those that cannot run."""

import hashlib
from dataclasses import dataclass, replace

from buildyard.domain.builds import State
from buildyard.domain.errors import Invalid
from buildyard.domain.ids import ChangeId, EvaluationId, PipelineVersionId, RevisionId, TriggerId
from buildyard.domain.manifest_files import FoundManifests, ManifestFile, tags_of
from buildyard.domain.notifications import Event
from buildyard.domain.specs import GitSource, PipelineSpec
from buildyard.domain.states import Cause, Result
from buildyard.domain.transitions import finished
from buildyard.domain.workflow import slug_of
from buildyard.domain.yard import DEFINED_BY as YARD
from buildyard.engine.firing import Firing
from buildyard.engine.granting import require_secrets
from buildyard.engine.manifest_files import PlannedFile, remark
from buildyard.engine.manifest_places import secrets_for, version_of
from buildyard.engine.manifest_triggers import keep_triggers
from buildyard.engine.notifications import keep_rules
from buildyard.engine.planning import NewBuild, add_build, jobs_that_fit
from buildyard.engine.stopping import stop_build
from buildyard.store import builds, changes, notifications, pipelines, telling, triggers
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project
from buildyard.store.transactions import Moved, Transaction

DEFINED_BY = "repository"
"""Who defined the pipelines of files, and the rules of telling of single builds: the repository that holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the builds of a firing go, and what they are about: the place `built`, by its commit if that is known."""

    firing: Firing
    trigger: TriggerId
    changes: tuple[ChangeId, ...]
    project: Project
    pipeline: Pipeline
    built: GitSource
    note: str = ""
    message: str = ""
    author: str = ""


def note_of(firing: Firing, found: FoundManifests) -> str:
    """The subject of the commit and who wrote it; of a pull request its title and who asks."""
    message = firing.message or (found.message if firing.trusted else "")
    author = firing.author or (found.author if firing.trusted else "") or firing.submitter
    subject = message.partition("\n")[0].strip()
    parts = [firing.note, " — ".join(part for part in (subject, author) if part), remark(found)]
    return "\n\n".join(part for part in parts if part)


async def pipeline_of(tx: Transaction, place: Place, file: ManifestFile) -> Pipeline:
    """The pipeline of a file: the one that is declared, or beside it one for each file of several.

    What is told of the declared one's builds is told of theirs.
    """
    if not file.stem:
        return place.pipeline
    wanted, name = slug_of(f"{place.pipeline.slug}-{file.stem}"), f"{place.pipeline.slug}/{file.stem}"
    for slug in (wanted, *(f"{wanted}-{number}" for number in range(2, 100))):
        found = await pipelines.find_by_slug(tx, place.project.id, slug)
        if found is None:
            found = await pipelines.add(tx, project=place.project.id, slug=slug, name=name, defined_by=DEFINED_BY)
        if found is None:
            raise Moved("the pipeline was made at the same moment")
        if found.defined_by == DEFINED_BY and found.name == name:
            rules = [one.rule for one in await notifications.of_file(tx, place.pipeline.id, YARD)]
            await keep_rules(tx, found, rules, defined_by=DEFINED_BY, created_by=YARD)
            return found
    raise Invalid(f"there are too many pipelines named like {wanted}")


async def stop_superseded(tx: Transaction, firing: Firing, chosen: list[Pipeline]) -> None:
    """Stop what a firing takes the place of."""
    if not (firing.cancel_superseded and firing.ref):
        return
    for pipeline in chosen:
        await triggers.lock_pipeline(tx, pipeline.id)
    older = {build for pipeline in chosen for build in await builds.older_of_ref(tx, pipeline.id, firing.ref)}
    for build in sorted(older):
        await stop_build(tx, build, detail=f"superseded by a newer build of {firing.ref}", cause=Cause.SUPERSEDED)


async def add_build_of(
    tx: Transaction, place: Place, pipeline: Pipeline, planned: PlannedFile, *, queue_limit: int
) -> None:
    """Make the build of a file; one with faults, or without its secrets, ends at once."""
    if planned.spec is None or planned.manifest is None:
        await add_ended(tx, place, pipeline, finished(Result.ERROR, Cause.CONFIGURATION, planned.problem), planned)
        return
    version = await version_of(tx, pipeline, planned.text, planned.spec)
    try:
        await require_secrets(tx, place.project, pipeline, version)
    except Invalid as exc:
        end = finished(Result.ERROR, Cause.CONFIGURATION, f"{planned.file.path}: {exc}")
        await add_ended(tx, place, pipeline, end, planned)
        return
    stored = await jobs_that_fit(tx, version, queue_limit=queue_limit)
    evaluation = await _evaluation(tx, place, pipeline)
    trusted = place.firing.trusted
    new = replace(
        _new_build(place, evaluation, await _note_sources(tx, place, evaluation, planned.spec), version),
        tags=tags_of(place.built.url, planned.file),
        approval=place.firing.approval,
        secrets_enabled=trusted,
        secrets=await secrets_for(tx, place.project, pipeline, planned.manifest) if trusted else (),
    )
    build = await add_build(tx, place.project, pipeline, stored, new)
    await keep_triggers(tx, build, planned.manifest.triggers, by=DEFINED_BY)


async def add_ended(
    tx: Transaction, place: Place, pipeline: Pipeline, end: State, planned: PlannedFile | None = None
) -> None:
    """Make a build that has no jobs and has ended, so that whoever is told of builds is told why there is none."""
    version = await _version_without_jobs(tx, pipeline, planned.text if planned else "")
    evaluation = await _evaluation(tx, place, pipeline)
    revision = await _note_sources(tx, place, evaluation, PipelineSpec(jobs=()))
    new = _new_build(place, evaluation, revision, version)
    tags = tags_of(place.built.url, planned.file) if planned else ()
    note = f"{new.note}\n\n{end.detail}".strip()
    build = await add_build(tx, place.project, pipeline, [], replace(new, tags=tags, note=note))
    assert end.result is not None
    ended = replace(build, state=end, worst=end.result, finished_at=tx.now)
    telling.note(tx, await builds.save(tx, build, ended), Event.FINISHED)


def _new_build(place: Place, evaluation: EvaluationId, revision: RevisionId, version: PipelineVersionId) -> NewBuild:
    firing = place.firing
    ref = firing.branch if firing.branch.startswith("refs/") else f"refs/heads/{firing.branch}"
    return NewBuild(
        evaluation=evaluation,
        revision=revision,
        version=version,
        note=place.note,
        submitter=firing.user,
        trusted=firing.trusted,
        ref=firing.ref,
        environment={**firing.parameters, **({"GIT_REF": ref} if firing.branch else {})},
        manifest=True,
    )


async def _version_without_jobs(tx: Transaction, pipeline: Pipeline, text: str) -> PipelineVersionId:
    digest = hashlib.sha256(b"without jobs " + text.encode()).digest()
    version = await pipelines.find_version(tx, pipeline.id, digest)
    if version is None:
        version = await pipelines.add_version(tx, pipeline.id, digest, text, [], None)
    if pipeline.latest_version is None:
        await pipelines.set_latest(tx, pipeline.id, version)
    return version


async def _evaluation(tx: Transaction, place: Place, pipeline: Pipeline) -> EvaluationId:
    """One for each build, since each has its own sources under their folders."""
    evaluation = await builds.add_evaluation(
        tx,
        place.project.id,
        pipeline.id,
        kind="trigger",
        reason=place.firing.reason,
        submitter=place.firing.submitter,
        trigger=place.trigger,
        parent_build=place.firing.parent,
    )
    await changes.add_to_evaluation(tx, evaluation, place.changes)
    return evaluation


async def _note_sources(tx: Transaction, place: Place, evaluation: EvaluationId, spec: PipelineSpec) -> RevisionId:
    """Note each source under its folder, and the built one, which the build shows and statuses are about."""
    shown: RevisionId | None = None
    for source in [source for job in spec.jobs for source in job.sources]:
        is_built = source.git.commit == place.built.commit and source.git.branch == place.built.branch
        revision = await _revision(tx, place, source.git, told=is_built)
        await builds.add_input(tx, evaluation, source.folder, revision)
        shown = shown or (revision if is_built else None)
    if shown is None:
        shown = await _revision(tx, place, place.built, told=True)
    return shown


async def _revision(tx: Transaction, place: Place, source: GitSource, *, told: bool) -> RevisionId:
    return await builds.add_revision(
        tx,
        place.project.id,
        repository=source.url,
        branch=source.branch,
        commit=source.commit,
        shallow=source.shallow,
        submodules=source.submodules,
        message=(place.firing.message or place.message) if told else "",
        author=(place.firing.author or place.author) if told else "",
    )
