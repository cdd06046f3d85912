"""Firing: a trigger starts builds of all its pipelines, in the transaction of whoever has the reason to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from buildyard.domain.builds import Build
from buildyard.domain.ids import BuildId, EvaluationId, Moment, PipelineId, ProjectId, RevisionId, UserId
from buildyard.domain.specs import Approval, GitSource
from buildyard.domain.states import Cause
from buildyard.engine.planning import NewBuild, add_build, jobs_that_fit, newest_version
from buildyard.engine.stopping import stop_build
from buildyard.store import builds, events, manifest_readings, pipelines, projects, triggers
from buildyard.store.pipelines import Pipeline, StoredJob
from buildyard.store.transactions import Transaction
from buildyard.store.triggers import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """Why a trigger fires, for which source, and for whom.

    `repository`, `branch` and `commit` say what is built; what is empty is taken from each pipeline's own source
    (its commit too, unless another repository or branch is named). `ref` names what a newer build supersedes the
    older ones of (`branch main`, `pull request 7`), if `cancel_superseded`. `parameters` have been checked;
    they become variables. Unless `trusted`, strangers had a say in the source. Builds wait for the `approval`.
    `parent` is the build that this one follows. `due_at` is a moment for which the trigger fires at most once. `only`
    leaves out other pipelines. `base_branch` is the one that a pull request asks to change.
    """

    reason: str
    repository: str = ""
    branch: str = ""
    commit: str = ""
    message: str = ""
    author: str = ""
    ref: str = ""
    cancel_superseded: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = True
    approval: Approval | None = None
    submitter: str = ""
    user: UserId | None = None
    note: str = ""
    parent: BuildId | None = None
    due_at: Moment | None = None
    only: frozenset[PipelineId] | None = None
    base_branch: str = ""


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Firing).decode


@dataclass(frozen=True, slots=True)
class Fired:
    """What a firing made: one evaluation with a build of each pipeline; none if the trigger starts nothing now.

    `readings` are for pipelines whose manifests are read first.
    """

    evaluation: EvaluationId | None
    builds: tuple[Build, ...]
    readings: tuple[int, ...] = ()


async def fire(tx: Transaction, trigger: Trigger, firing: Firing, *, queue_limit: int) -> Fired:
    """Make one evaluation and the builds of the trigger's pipelines; LimitReached: the queue has no room for all.

    Whoever calls it has looked whether the trigger is enabled, and whether the submitter may.
    """
    wanted = [one for one in await _pipelines(tx, trigger) if firing.only is None or one.id in firing.only]
    chosen = [one for one in wanted if not one.manifests]
    told = _encode(firing).decode()
    readings = [await manifest_readings.add(tx, one.id, trigger.id, told) for one in wanted if one.manifests]
    if not chosen:
        return Fired(None, (), tuple(readings))
    if firing.cancel_superseded and firing.ref:
        await _stop_superseded(tx, chosen, firing)
    planned: list[tuple[Pipeline, list[StoredJob]]] = []
    room = queue_limit
    for pipeline in chosen:
        stored = await jobs_that_fit(tx, newest_version(pipeline), queue_limit=room)
        room -= len(stored)
        planned.append((pipeline, stored))
    evaluation = await builds.add_evaluation(
        tx,
        trigger.project,
        chosen[0].id if len(chosen) == 1 else None,
        kind="trigger",
        reason=firing.reason,
        submitter=firing.submitter,
        builds=len(chosen),
        trigger=trigger.id,
        parent_build=firing.parent,
        due_at=firing.due_at,
    )
    made = await _add_builds(tx, evaluation, planned, firing)
    events.add(tx, "fired", "trigger", trigger.id, project=trigger.project, build=None, data=firing.reason)
    return Fired(evaluation, made, tuple(readings))


def read_firing(text: str) -> Firing:
    """A firing as it was noted for whoever reads the manifests that it is about."""
    return _decode(text)


async def _pipelines(tx: Transaction, trigger: Trigger) -> list[Pipeline]:
    """The trigger's pipelines that make builds."""
    found = [await pipelines.get(tx, key) for key in await triggers.pipelines_of(tx, trigger.id)]
    return [one for one in found if one.disabled_at is None and (one.manifests or one.latest_version is not None)]


async def _stop_superseded(tx: Transaction, chosen: list[Pipeline], firing: Firing) -> None:
    for pipeline in chosen:
        await triggers.lock_pipeline(tx, pipeline.id)
    older = [build for pipeline in chosen for build in await builds.older_of_ref(tx, pipeline.id, firing.ref)]
    for build in sorted(older):
        await stop_build(tx, build, detail=f"superseded by a newer build of {firing.ref}", cause=Cause.SUPERSEDED)


async def _add_builds(
    tx: Transaction, evaluation: EvaluationId, planned: list[tuple[Pipeline, list[StoredJob]]], firing: Firing
) -> tuple[Build, ...]:
    revisions: dict[tuple[ProjectId, GitSource | None], RevisionId | None] = {}
    made: list[Build] = []
    for pipeline, stored in planned:
        project = await projects.get(tx, pipeline.project)
        source = source_of(pipeline.source, firing)
        if (project.id, source) not in revisions:
            revision = revisions[project.id, source] = await _revision(tx, project.id, source, firing)
            if revision is not None:
                await builds.add_input(tx, evaluation, pipeline.slug if made else "", revision)
        new = NewBuild(
            evaluation=evaluation,
            revision=revisions[project.id, source],
            version=newest_version(pipeline),
            note=firing.note,
            submitter=firing.user,
            trusted=firing.trusted,
            ref=firing.ref,
            environment=firing.parameters,
            approval=firing.approval,
        )
        made.append(await add_build(tx, project, pipeline, stored, new))
    return tuple(made)


def source_of(own: GitSource | None, firing: Firing) -> GitSource | None:
    """What a pipeline with a source of its `own` builds in a firing."""
    if not (firing.repository or firing.branch or firing.commit):
        return own
    source = own or (GitSource(url=firing.repository) if firing.repository else None)
    if source is None:
        return None
    return replace(
        source, url=firing.repository or source.url, branch=firing.branch or source.branch, commit=firing.commit
    )


async def _revision(tx: Transaction, project: ProjectId, source: GitSource | None, firing: Firing) -> RevisionId | None:
    if source is None:
        return None
    return await builds.add_revision(
        tx,
        project,
        repository=source.url,
        branch=source.branch,
        commit=source.commit,
        shallow=source.shallow,
        submodules=source.submodules,
        message=firing.message,
        author=firing.author,
    )
