"""Jobs made of manifests: submitted into a personal project, started, cancelled, listed."""

import asyncio
from dataclasses import dataclass, replace

from buildyard.domain.access import EVERYONE, Actor, Permission, Visibility, require, require_runner
from buildyard.domain.blocking import BlockerKind
from buildyard.domain.build_access import BuildAccess, by_lists, by_visibility
from buildyard.domain.builds import Build
from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.ids import BuildId, UserId
from buildyard.domain.manifests import Manifest, ManifestTrigger
from buildyard.domain.specs import PipelineSpec
from buildyard.domain.states import Phase
from buildyard.engine import gates
from buildyard.engine.build_access import change_access, listed_builds, require_build
from buildyard.engine.engine import Engine
from buildyard.engine.granting import require_secrets
from buildyard.engine.manifest_places import pipeline_for, project_for, secrets_for, shown_source, version_of
from buildyard.engine.manifest_plans import ManifestOptions, plan_manifest
from buildyard.engine.manifest_triggers import MOST_TRIGGERS, keep_triggers, triggers_faults
from buildyard.engine.manifests import read_manifest
from buildyard.engine.planning import NewBuild, add_build, jobs_that_fit
from buildyard.engine.settling import locked_build
from buildyard.engine.stopping import stop_build
from buildyard.store import audit, blockers, builds, events, identity, telling
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction

PAGE = 50
LARGEST_ID = 2**31 - 1
SCANNED = 1000
"""How many builds of somebody else are looked at to fill a page of those that the reader may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewManifestJob:
    """A manifest to run, and all that is said beside it.

    Who sees it is said by `read` and `write` (names of users; `*` among `read` is everyone), else by `visibility`; if
    neither is given, the rule of its project holds. It goes into the submitter's own project unless another one is
    named (by its slug). `secrets` False withholds those of the manifest.
    """

    text: str
    note: str = ""
    tags: tuple[str, ...] = ()
    read: tuple[str, ...] | None = None
    write: tuple[str, ...] = ()
    visibility: Visibility | None = None
    secrets: bool | None = None
    execute: bool = True
    triggers: tuple[ManifestTrigger, ...] = ()
    project: str = ""
    reason: str = "submitted"
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class PlannedManifest:
    """A job as it was asked for, with what its manifest says and how that is run."""

    wanted: NewManifestJob
    manifest: Manifest
    spec: PipelineSpec


@dataclass(frozen=True, slots=True)
class Acted:
    """A build after somebody acted on it; `moved`: there was something to do."""

    view: BuildView
    moved: bool


async def submit_manifest(engine: Engine, actor: Actor, wanted: NewManifestJob) -> BuildView:
    """Read a manifest and queue its job; Invalid carries every fault of the manifest."""
    require_runner(actor)
    engine.require_space()
    allow_local = engine.policy.allow_local_sources
    if faults := triggers_faults(wanted.triggers, allow_local=allow_local):
        raise Invalid("the triggers are not valid", tuple(faults))
    try:
        planned = await asyncio.to_thread(plan_job, wanted, engine.manifests, allow_local=allow_local)
    except Invalid as exc:
        raise Invalid(str(exc), tuple(_of_manifest(fault) for fault in exc.faults)) from None
    return await engine.run(queue_manifest, actor, planned, queue_limit=engine.policy.queue_limit)


def _of_manifest(fault: Fault) -> Fault:
    """A fault of a manifest, beside those of what is said beside it."""
    return replace(fault, path=f"manifest.{fault.path}" if fault.path else "manifest")


def plan_job(wanted: NewManifestJob, options: ManifestOptions, *, allow_local: bool) -> PlannedManifest:
    """Read and plan a manifest; takes milliseconds of CPU."""
    manifest = read_manifest(wanted.text, allow_local=allow_local)
    manifest = replace(manifest, triggers=(*manifest.triggers, *wanted.triggers))
    if len(manifest.triggers) > MOST_TRIGGERS:
        raise Invalid(f"a job has at most {MOST_TRIGGERS} triggers", (Fault("triggers", "are too many", "count"),))
    return PlannedManifest(
        wanted, manifest, plan_manifest(manifest, replace(options, secrets=wanted.secrets is not False))
    )


async def queue_manifest(tx: Transaction, actor: Actor, planned: PlannedManifest, *, queue_limit: int) -> BuildView:
    """Make the build of a planned manifest, all in one transaction."""
    wanted = planned.wanted
    project = await project_for(tx, actor, wanted.project)
    require(actor, Permission.RUN, project.owner, "project")
    access = await _access(tx, actor, wanted)
    pipeline = await pipeline_for(tx, project, wanted.tags)
    version = await version_of(tx, pipeline, wanted.text, planned.spec)
    await require_secrets(tx, project, pipeline, version)
    stored = await jobs_that_fit(tx, version, queue_limit=queue_limit)
    evaluation = await builds.add_evaluation(
        tx, project.id, pipeline.id, kind="trigger", reason=wanted.reason, submitter=actor.name
    )
    new = NewBuild(
        evaluation=evaluation,
        revision=await shown_source(tx, project, evaluation, planned.manifest),
        version=version,
        note=wanted.note,
        submitter=actor.user,
        trusted=wanted.trusted,
        held=not wanted.execute,
        tags=wanted.tags,
        access=access,
        manifest=True,
        secrets_enabled=wanted.secrets is not False,
        secrets=await secrets_for(tx, project, pipeline, planned.manifest) if wanted.secrets is not False else (),
    )
    build = await add_build(tx, project, pipeline, stored, new)
    await keep_triggers(tx, build, planned.manifest.triggers, by=actor.name)
    details = {"workflow": pipeline.uid, "tags": list(wanted.tags)}
    await audit.add(tx, actor, "build.create", build.uid, project=project.id, reason=wanted.reason, details=details)
    return await builds.view(tx, build.id)


# --- who sees it --------------------------------------------------------------------------------


async def _access(tx: Transaction, actor: Actor, wanted: NewManifestJob) -> BuildAccess:
    """As it is asked for; the submitter, who needs no mention, is not named."""
    if wanted.read is not None or wanted.write:
        await _require_users(tx, "read", wanted.read or ())
        await _require_users(tx, "write", wanted.write)
        access = by_lists(wanted.read or (), wanted.write)
        others = tuple(one for one in access.grants if actor.user is None or one[0] != actor.name)
        return replace(access, grants=others)
    return BuildAccess() if wanted.visibility is None else by_visibility(wanted.visibility)


async def _require_users(tx: Transaction, field: str, names: tuple[str, ...]) -> None:
    """Raise Invalid for names of nobody: else whoever takes such a name later would be let in."""
    unknown = [name for name in names if name != EVERYONE and await identity.find_user(tx, name) is None]
    if unknown:
        raise Invalid(
            f"there is no user {unknown[0]}", (Fault(field, f"there is no user {unknown[0]}", "unknown_user"),)
        )


async def change_visibility(tx: Transaction, actor: Actor, key: BuildId, visibility: Visibility) -> BuildView:
    """Say anew who sees a build; its own access list gives way to this. Named users keep nothing."""
    view = await builds.view(tx, key)
    await require_build(tx, actor, Permission.RUN, view.build, "build")
    build = await locked_build(tx, key)
    await change_access(tx, build, by_visibility(visibility))
    details = {"visibility": visibility.name.lower()}
    await audit.add(tx, actor, "build.visibility", build.uid, project=build.project, details=details)
    events.add(tx, "changed", "build", build.id, project=build.project, build=build.id)
    telling.note_update(tx, build.id)
    return await builds.view(tx, key)


# --- what becomes of it -------------------------------------------------------------------------


async def start_job(tx: Transaction, actor: Actor, key: BuildId) -> Acted:
    """Let a build go on that waits for somebody to start it; others are left as they are."""
    view = await builds.view(tx, key)
    await require_build(tx, actor, Permission.RUN, view.build, "build")
    if not await start_build(tx, await locked_build(tx, key)):
        return Acted(view, moved=False)
    await audit.add(tx, actor, "build.start", view.build.uid, project=view.build.project)
    return Acted(await builds.view(tx, key), moved=True)


async def start_build(tx: Transaction, build: Build) -> bool:
    """Take from a locked build what waits for a person's start; False: nothing did."""
    held = [one for one in await blockers.of_build(tx, build.id) if one.kind is BlockerKind.START]
    for one in held:
        await blockers.drop(tx, one.id)
        events.add(tx, "started", "blocker", one.id, project=build.project, build=build.id)
    if held:
        await gates.pass_on(tx, build)
    return bool(held)


async def cancel_job(tx: Transaction, actor: Actor, key: BuildId) -> Acted:
    """Stop a build on behalf of `actor`; a finished one is left as it is."""
    view = await builds.view(tx, key)
    await require_build(tx, actor, Permission.CANCEL, view.build, "build")
    if not await stop_build(tx, key, detail=f"cancelled by {actor.name}"):
        return Acted(view, moved=view.build.state.phase is not Phase.FINISHED)
    await audit.add(tx, actor, "build.cancel", view.build.uid, project=view.build.project)
    return Acted(await builds.view(tx, key), moved=True)


# --- lists --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobPage:
    """Builds by descending id. `next` is the id that the following page begins with; `total` of the reader's own."""

    views: tuple[BuildView, ...]
    next: BuildId | None
    total: int


async def list_jobs_of(
    tx: Transaction,
    actor: Actor,
    *,
    start: int = LARGEST_ID,
    limit: int = PAGE,
    manifests_only: bool = False,
    user: UserId | None = None,
) -> JobPage:
    """The builds that the actor submitted; of another `user`, those that the actor finds in lists.

    Pages of somebody else's builds may be short: SCANNED of them are looked at. Their `total` is not told.
    """
    whose = actor.user if user is None else user
    if whose is None or Permission.READ not in actor.allowed:
        return JobPage((), None, 0)
    if whose == actor.user and actor.only_project is None:
        found = await builds.of_submitter(tx, whose, start, limit + 1, manifests_only=manifests_only)
        total = await builds.total_of_submitter(tx, whose, manifests_only=manifests_only)
        return JobPage(tuple(found[:limit]), found[limit].build.id if len(found) > limit else None, total)
    found = await builds.of_submitter(tx, whose, start, SCANNED + 1, manifests_only=manifests_only)
    shown = await listed_builds(tx, actor, [view.build.id for view in found[:SCANNED]])
    views = [view for view in found[:SCANNED] if view.build.id in shown]
    following = views[limit] if len(views) > limit else found[SCANNED] if len(found) > SCANNED else None
    return JobPage(tuple(views[:limit]), following.build.id if following else None, 0)
