"""Taking a yard file into force: what it names is made or changed, what it no longer names is disabled."""

from dataclasses import dataclass, field, replace

from buildyard.domain.access import Actor, Permission, require_global
from buildyard.domain.errors import Fault, Invalid
from buildyard.domain.ids import PipelineId, PipelineVersionId, ProjectId
from buildyard.domain.triggers import Upstream
from buildyard.domain.yard import DEFINED_BY, Change, Yard, YardPipeline, YardProject, YardTrigger, YardWorker
from buildyard.engine.cron import first_due
from buildyard.engine.identity import token_digest
from buildyard.engine.notifications import keep_rules
from buildyard.engine.pipelines import put_version
from buildyard.store import audit, identity, pipelines, projects, settings, triggers
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction
from buildyard.store.triggers import Trigger

ADMINISTRATOR = "admin"
"""Whose tokens those of the file's workers are."""


@dataclass
class _Taking:
    """One yard file on its way into force: what changed so far, what cannot be, and which rows it names."""

    tx: Transaction
    changes: list[Change] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    projects: dict[str, Project] = field(default_factory=dict)
    pipelines: dict[str, PipelineId] = field(default_factory=dict)
    tokens: set[int] = field(default_factory=set)

    def note(self, act: str, kind: str, name: str, detail: str = "") -> None:
        self.changes.append(Change(act=act, kind=kind, name=name, detail=detail))

    def fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message, "taken"))


async def apply_yard(tx: Transaction, actor: Actor, yard: Yard, *, only_look: bool = False) -> tuple[Change, ...]:
    """Make the server be as a checked file says, all of it or nothing; gives what that changed.

    Invalid says which names are taken by what others defined. With `only_look` the changes are undone: the
    transaction ends with `Looked`, which carries them.
    """
    require_global(actor, Permission.MANAGE_SERVER, "take a yard file into force")
    await settings.lock(tx, "yard")
    taking = _Taking(tx)
    for project in yard.projects:
        await _take_project(taking, project)
    await _disable_pipelines(taking)
    for project in yard.projects:
        for trigger in project.triggers:
            await _take_trigger(taking, project.slug, trigger)
    await _disable_triggers(taking, yard)
    for worker in yard.workers:
        await _take_worker(taking, worker)
    await _revoke_tokens(taking)
    if taking.faults:
        raise Invalid("the yard file cannot take effect", tuple(taking.faults))
    if only_look:
        raise Looked(tuple(taking.changes))
    if taking.changes:
        told = [f"{one.act} {one.kind} {one.name}" for one in taking.changes]
        await audit.add(tx, actor, "yard.apply", "yard", details={"changes": told[:100], "count": len(told)})
        tx.wake("triggers")
    return tuple(taking.changes)


class Looked(Exception):
    """Carries what a yard file would change."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.changes = changes


# --- projects and pipelines ---------------------------------------------------------------------


async def _take_project(taking: _Taking, wanted: YardProject) -> None:
    path = f"projects.{wanted.slug}"
    project = await projects.find_by_slug(taking.tx, wanted.slug) or await _make_project(taking, wanted)
    if project is None:
        return
    if project.defined_by != DEFINED_BY:
        taking.fault(path, f"there is a project {wanted.slug} that was not made by a yard file: choose another name")
        return
    if project.account_name != wanted.account:
        taking.fault(f"{path}.account", f"the project belongs to {project.account_name}, which cannot be changed")
        return
    if (project.name, project.visibility) != (wanted.name, wanted.visibility):
        await projects.change(taking.tx, project.id, name=wanted.name, visibility=wanted.visibility)
        taking.note("change", "project", wanted.slug)
    taking.projects[wanted.slug] = project
    for pipeline in wanted.pipelines:
        await _take_pipeline(taking, project, pipeline)


async def _make_project(taking: _Taking, wanted: YardProject) -> Project | None:
    if wanted.slug in await projects.slugs_like(taking.tx, wanted.slug):
        taking.fault(f"projects.{wanted.slug}", f"there is a user {wanted.slug}: choose another name")
        return None
    account = await identity.find_or_add_account(taking.tx, wanted.account)
    taking.note("add", "project", wanted.slug)
    return await projects.add(
        taking.tx,
        slug=wanted.slug,
        name=wanted.name,
        account=account.id,
        visibility=wanted.visibility,
        defined_by=DEFINED_BY,
    )


async def _take_pipeline(taking: _Taking, project: Project, wanted: YardPipeline) -> None:
    tx, name = taking.tx, f"{project.slug}/{wanted.slug}"
    pipeline = await pipelines.find_by_slug(tx, project.id, wanted.slug)
    is_new = pipeline is None
    if pipeline is None:
        pipeline = await pipelines.add(
            tx, project=project.id, slug=wanted.slug, name=wanted.slug, defined_by=DEFINED_BY
        )
    if pipeline is None or pipeline.defined_by != DEFINED_BY:
        path = f"projects.{project.slug}.pipelines.{wanted.slug}"
        taking.fault(path, "there is a pipeline of this name that was not made by a yard file: choose another name")
        return
    version = await _version(tx, pipeline, wanted)
    taking.pipelines[name] = pipeline.id
    told = await keep_rules(tx, pipeline, wanted.notify, defined_by=DEFINED_BY, created_by=DEFINED_BY)
    if (pipeline.source, pipeline.disabled_at) != (wanted.source, None):
        await pipelines.set_source(tx, pipeline.id, wanted.source, enabled=True)
    if pipeline.manifests is not wanted.manifests:
        await pipelines.set_manifests(tx, pipeline.id, manifests=wanted.manifests)
    if is_new:
        taking.note("add", "pipeline", name)
    elif pipeline.disabled_at is not None:
        taking.note("enable", "pipeline", name)
    elif pipeline.manifests is not wanted.manifests:
        taking.note("change", "pipeline", name, "where its jobs are defined")
    elif version != pipeline.latest_version or pipeline.source != wanted.source:
        taking.note("change", "pipeline", name, "" if version != pipeline.latest_version else "its source")
    elif told:
        taking.note("change", "pipeline", name, "who is told")


async def _version(tx: Transaction, pipeline: Pipeline, wanted: YardPipeline) -> PipelineVersionId:
    """What new builds use: if manifests say that, what the newest one said, until then nothing."""
    if wanted.manifests and pipeline.manifests and pipeline.latest_version is not None:
        return pipeline.latest_version
    return await put_version(tx, pipeline, wanted.spec)


async def _disable_pipelines(taking: _Taking) -> None:
    wanted = set(taking.pipelines.values())
    for pipeline in await pipelines.defined_by(taking.tx, DEFINED_BY):
        if pipeline.id not in wanted and pipeline.disabled_at is None:
            await pipelines.set_source(taking.tx, pipeline.id, pipeline.source, enabled=False)
            taking.note("disable", "pipeline", await _full_name(taking.tx, pipeline))


async def _full_name(tx: Transaction, pipeline: Pipeline) -> str:
    return f"{(await projects.get(tx, pipeline.project)).slug}/{pipeline.slug}"


# --- triggers -----------------------------------------------------------------------------------


async def _take_trigger(taking: _Taking, slug: str, wanted: YardTrigger) -> None:
    tx, project = taking.tx, taking.projects.get(slug)
    starts = [taking.pipelines.get(f"{slug}/{one}") for one in wanted.pipelines]
    if project is None or None in starts:
        return  # said of its project or pipeline
    trigger = await triggers.find_by_name(tx, wanted.name)
    is_new = trigger is None
    if trigger is None:
        trigger = await triggers.add(tx, project=project.id, name=wanted.name, spec=wanted.spec, defined_by=DEFINED_BY)
    elif trigger.defined_by != DEFINED_BY:
        taking.fault(f"projects.{slug}", f"there is a trigger {wanted.name} that was not made by a yard file")
        return
    await triggers.get(tx, trigger.id, lock=True)
    keys = sorted(one for one in starts if one is not None)
    changed = (trigger.project, trigger.spec, trigger.enabled) != (project.id, wanted.spec, True)
    moved = await triggers.pipelines_of(tx, trigger.id) != keys
    if changed:
        await triggers.change(tx, trigger.id, project=project.id, spec=wanted.spec, enabled=True)
    await triggers.set_pipelines(tx, trigger.id, keys)
    follows = taking.pipelines.get(wanted.spec.pipeline) if isinstance(wanted.spec, Upstream) else None
    await triggers.set_upstreams(tx, trigger.id, [] if follows is None else [follows])
    if is_new or changed:
        state = await triggers.state_of(tx, trigger.id)
        due = first_due(wanted.spec, tx.now)
        await triggers.save_state(tx, replace(state, next_at=due, error="", error_at=None, leased_until=None))
    if is_new or changed or moved:
        act = "add" if is_new else "change" if trigger.enabled else "enable"
        taking.note(act, "trigger", wanted.name)


async def _disable_triggers(taking: _Taking, yard: Yard) -> None:
    wanted = {trigger.name for project in yard.projects for trigger in project.triggers}
    for trigger in await triggers.defined_by(taking.tx, DEFINED_BY):
        if trigger.name not in wanted and trigger.enabled:
            await _disable_trigger(taking.tx, trigger)
            taking.note("disable", "trigger", trigger.name)


async def _disable_trigger(tx: Transaction, trigger: Trigger) -> None:
    await triggers.get(tx, trigger.id, lock=True)
    await triggers.change(tx, trigger.id, project=trigger.project, spec=trigger.spec, enabled=False)
    await triggers.set_upstreams(tx, trigger.id, [])
    state = await triggers.state_of(tx, trigger.id)
    await triggers.save_state(tx, replace(state, next_at=None))


# --- workers ------------------------------------------------------------------------------------


async def _take_worker(taking: _Taking, wanted: YardWorker) -> None:
    tx, digest = taking.tx, token_digest(wanted.secret)
    name = f"yard worker {wanted.name}"
    project = taking.projects.get(wanted.project)
    if wanted.project and project is None:
        return  # said of the project
    key = project.id if project else None
    found = await identity.find_token(tx, digest)
    if found is None:
        token = await _make_token(tx, digest, name, wanted.labels, key)
        taking.note("add", "worker", wanted.name)
    else:
        token = found[0]
        if token.defined_by != DEFINED_BY:
            taking.fault(f"workers.{wanted.name}.password_file", "another token is the same: make a new one")
            return
        if (token.name, token.labels, token.project, token.revoked_at) != (name, wanted.labels, key, None):
            await identity.change_token(tx, token.id, name=name, labels=wanted.labels, project=key)
            taking.note("change", "worker", wanted.name)
    taking.tokens.add(token.id)


async def _make_token(
    tx: Transaction, digest: bytes, name: str, labels: tuple[str, ...], project: ProjectId | None
) -> identity.Token:
    user = await identity.find_user(tx, ADMINISTRATOR)
    assert user is not None
    return await identity.add_token(
        tx,
        digest,
        user.id,
        name=name,
        scopes=("runner",),
        project=project,
        labels=labels,
        expires_at=None,
        defined_by=DEFINED_BY,
    )


async def _revoke_tokens(taking: _Taking) -> None:
    for token in await identity.tokens_defined_by(taking.tx, DEFINED_BY):
        if token.id not in taking.tokens and await identity.revoke_token(taking.tx, token.id):
            taking.note("disable", "worker", token.name.removeprefix("yard worker "))
