"""Rules of what is kept, marks on builds that lose nothing, and the rounds that carry the rules out.

A sweep walks the pipelines. In each it looks at the builds of each name from the oldest on, as far as the rule reaches.
It never touches unfinished builds, those with a keep mark, those that ended within the grace time, and the newest
success of each name. It is cut into steps, so that it can be shown, stopped and gone on with, on any server.
"""

from dataclasses import dataclass, replace

import msgspec
import structlog

from buildyard.domain.access import SYSTEM, Actor, Permission, require, require_global
from buildyard.domain.errors import Conflict, EngineError, Invalid, NotFound
from buildyard.domain.ids import SECOND, BuildId, Moment, PipelineId, ProjectId
from buildyard.domain.retention import DAY, Bounds, Line, What, narrowed
from buildyard.domain.states import Phase
from buildyard.engine.build_access import require_build
from buildyard.engine.engine import Engine, Policy
from buildyard.store import audit, builds, pipelines, projects, removing, retention
from buildyard.store.builds import BuildView
from buildyard.store.projects import Project
from buildyard.store.retention import ALL_PIPELINES, Candidate
from buildyard.store.transactions import Transaction

log = structlog.get_logger()

PAGE = 100
"""Builds looked at in one transaction."""

ROWS = 300
"""Rows written in one transaction, about."""

SWEPT = (What.BUILDS, What.ARTIFACTS, What.LOGS)
"""What the sweep goes through, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """What holds for one kind of things somewhere, and what was said exactly there."""

    what: What
    holds: Bounds
    said: Bounds


async def list_rules(
    tx: Transaction, actor: Actor, project_uid: str, pipeline_slug: str = "", *, policy: Policy
) -> list[RuleView]:
    """The rules of a project, or of one of its pipelines; without a project those of the server."""
    if not project_uid:
        require_global(actor, Permission.READ, "read the server's rules")
        return [RuleView(what=what, holds=policy.bounds(what), said=policy.bounds(what)) for what in What]
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.READ, project.owner, "project")
    pipeline = await _pipeline(tx, project, pipeline_slug)
    rules = await retention.rules_of(tx, project.id)
    return [_view(rules, policy, pipeline, what) for what in What if what is not What.CACHES or not pipeline]


def _view(rules: dict[tuple[PipelineId, What], Bounds], policy: Policy, pipeline: PipelineId, what: What) -> RuleView:
    said = rules.get((pipeline, what), Bounds())
    holds = narrowed(policy.bounds(what), rules.get((ALL_PIPELINES, what)))
    return RuleView(what=what, holds=narrowed(holds, said), said=said)


async def _pipeline(tx: Transaction, project: Project, slug: str) -> PipelineId:
    if not slug:
        return ALL_PIPELINES
    found = await pipelines.find_by_slug(tx, project.id, slug)
    if found is None:
        raise NotFound(f"project {project.slug} has no pipeline {slug}")
    return found.id


async def set_rule(
    tx: Transaction, actor: Actor, project_uid: str, pipeline_slug: str, what: What, bounds: Bounds
) -> None:
    """Say what is kept in a project or pipeline, in place of what was said there."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    pipeline = await _pipeline(tx, project, pipeline_slug)
    if what is What.CACHES and pipeline:
        raise Invalid("caches belong to a project: they have no rule of a pipeline")
    await retention.put_rule(tx, project.id, pipeline, what, bounds)
    details = {"pipeline": pipeline_slug, "what": what, **msgspec.to_builtins(bounds)}
    await audit.add(tx, actor, "retention.set", project.uid, project=project.id, details=details)


async def keep_build(tx: Transaction, actor: Actor, uid: str, *, keep: bool, reason: str = "") -> BuildView:
    """Set a build's keep mark, so that it loses nothing, or take it away."""
    view = await builds.view_by_uid(tx, uid)
    await require_build(tx, actor, Permission.RUN, view.build, "build")
    found = await retention.locked_candidate(tx, view.build.id)
    if found is None or found.removed_at is not None:
        raise NotFound("build not found")
    if found.keep is not keep:
        await retention.set_keep(tx, found, keep=keep)
        await audit.add(
            tx,
            actor,
            "build.keep" if keep else "build.unkeep",
            view.build.uid,
            project=view.build.project,
            reason=reason,
        )
    return await builds.view(tx, view.build.id)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sweep has come to: in `pipeline`, at builds called `name` above `after`; without a name, behind it.

    `clean`: every build of the name up to `after` has lost all it will ever lose under this rule.
    """

    stage: int = 0
    pipeline: int = 0
    name: str | None = None
    after: int = 0
    clean: bool = True

    @property
    def what(self) -> What:
        """What is being removed there."""
        return SWEPT[self.stage]


@dataclass(frozen=True, slots=True)
class Loss:
    """What a build shall lose: how many, of how many bytes."""

    build: BuildId
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a step of the sweep found; `next` is None at the end. `mark`: builds up to there need no second look."""

    losses: list[Loss]
    next: Position | None
    mark: BuildId | None = None


async def find_losses(tx: Transaction, _actor: Actor, at: Position, *, policy: Policy) -> Found:
    """The next builds that shall lose something, a page at most."""
    if at.name is None:
        return Found([], await _next_pipeline(tx, at, policy))
    pipeline = PipelineId(at.pipeline)
    try:
        project = (await pipelines.get(tx, pipeline)).project
    except NotFound:
        return Found([], Position(stage=at.stage, pipeline=pipeline))
    bounds = await _bounds(tx, project, pipeline, at.what, policy)
    line = await _line(tx, pipeline, at.name, at.what, bounds)
    page = await retention.candidates(tx, pipeline, at.name, BuildId(at.after), PAGE)
    newest = await retention.newest_success(tx, pipeline, at.name)
    settled = Moment(tx.now - int(policy.retention_grace_seconds * SECOND))
    losses: list[Loss] = []
    clean, mark, is_over = at.clean, None, len(page) < PAGE
    for one in page:
        if line.ends_before(one.id, one.created_at):
            is_over = True
            break
        if not (one.keep or one.has_lost(at.what)):
            if one.id != newest and _is_lost(one, line, settled):
                weight = await retention.weight(tx, one.id)
                losses.append(Loss(one.id, weight.count(at.what), weight.of(at.what)))
            else:
                clean = False
        mark = one.id if clean else mark
    if is_over:
        name = await retention.next_name(tx, pipeline, at.name)
        return Found(losses, await _begin(tx, at, pipeline, name), mark)
    return Found(losses, replace_position(at, after=page[-1].id, clean=clean), mark)


def replace_position(at: Position, *, after: BuildId, clean: bool) -> Position:
    """Further on among the builds of the same name."""
    return Position(stage=at.stage, pipeline=at.pipeline, name=at.name, after=after, clean=clean)


def _is_lost(one: Candidate, line: Line, settled: Moment) -> bool:
    if one.phase is not Phase.FINISHED or one.finished_at is None or one.finished_at > settled:
        return False
    return line.is_beyond(one.id, one.finished_at)


async def _next_pipeline(tx: Transaction, at: Position, policy: Policy) -> Position | None:
    """The next pipeline that has a rule for this, else the next thing to remove."""
    found = await retention.pipelines_after(tx, PipelineId(at.pipeline), PAGE)
    for pipeline, project in found:
        if (await _bounds(tx, project, pipeline, at.what, policy)).bounds_anything:
            return await _begin(tx, at, pipeline, await retention.next_name(tx, pipeline, None))
    if len(found) == PAGE:
        return Position(stage=at.stage, pipeline=found[-1][0])
    return Position(stage=at.stage + 1) if at.stage + 1 < len(SWEPT) else None


async def _begin(tx: Transaction, at: Position, pipeline: PipelineId, name: str | None) -> Position:
    """The first builds of a name to look at; without a name, the pipeline is done."""
    if name is None:
        return Position(stage=at.stage, pipeline=pipeline)
    after = 0 if at.what is What.BUILDS else await retention.mark(tx, pipeline, name, at.what)
    return Position(stage=at.stage, pipeline=pipeline, name=name, after=after)


async def _bounds(tx: Transaction, project: ProjectId, pipeline: PipelineId, what: What, policy: Policy) -> Bounds:
    return _view(await retention.rules_of(tx, project), policy, pipeline, what).holds


async def _line(tx: Transaction, pipeline: PipelineId, name: str, what: What, bounds: Bounds) -> Line:
    line = Line(before=Moment(tx.now - bounds.days * DAY) if bounds.days else None)
    if bounds.count:
        line = replace(line, by_count=await retention.beyond_count(tx, pipeline, name, bounds.count))
    if bounds.size:
        line = replace(line, by_size=await _beyond_size(tx, pipeline, name, what, bounds.size))
    return line


async def _beyond_size(tx: Transaction, pipeline: PipelineId, name: str, what: What, size: int) -> BuildId | None:
    """The newest build that no longer fits, when all newer ones are kept."""
    before = BuildId(2**31 - 1)
    while page := await retention.weights(tx, pipeline, name, before, PAGE):
        for one in page:
            size -= one.of(what)
            if size < 0:
                return one.build
        before = page[-1].build
    return None


async def lose(tx: Transaction, _actor: Actor, build: BuildId, what: What, *, settled: float) -> removing.Lost | None:
    """Take logs, artifacts or everything from a build, a bounded part; None if it may keep them after all."""
    found = await retention.locked_candidate(tx, build)
    if found is None or found.keep or found.phase is not Phase.FINISHED or found.finished_at is None:
        return None
    if found.finished_at > tx.now - settled * SECOND:
        return None
    if build == await retention.newest_success(tx, found.pipeline, found.name):
        return None
    match what:
        case What.LOGS:
            lost = await removing.remove_logs(tx, build, found.project, ROWS)
        case What.ARTIFACTS:
            lost = await removing.remove_artifacts(tx, build, found.project, ROWS)
        case What.BUILDS:
            size = (await retention.weight(tx, build)).of(what)
            if found.removed_at is not None or not await removing.begin_removal(tx, build, found.project):
                return None
            lost = removing.Lost(1, size, more=False)
        case What.CACHES:
            raise Conflict("builds have no caches")
    removing.count_freed(tx, what, lost.count, lost.size)
    return lost


async def remove_rows(tx: Transaction, _actor: Actor, build: BuildId) -> bool:
    """Delete a bounded part of a build whose removal has begun; True once it is gone."""
    return await removing.remove_rows(tx, build, ROWS)


async def begun_removals(tx: Transaction, _actor: Actor) -> list[BuildId]:
    """Builds that are half gone."""
    return [one.id for one in await retention.removed_builds(tx, PAGE)]


async def note_mark(tx: Transaction, _actor: Actor, at: Position, upto: BuildId) -> None:
    """Remember up to where builds need no second look."""
    assert at.name is not None
    await retention.put_mark(tx, PipelineId(at.pipeline), at.name, at.what, upto)


async def finish_removals(engine: Engine) -> int:
    """Delete what is left of builds whose removal has begun; gives how many."""
    begun = await engine.read(begun_removals, SYSTEM)
    for build in begun:
        while not await engine.run(remove_rows, SYSTEM, build):
            pass
    return len(begun)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of the sweep took, or would take: how many, of how many bytes; `next` None: the sweep is done."""

    what: What
    count: int
    size: int
    next: Position | None


async def sweep(engine: Engine, at: Position, *, dry: bool = False) -> Step:
    """Do one step. What a build would not give, for whatever reason, is left for the next sweep."""
    found = await engine.read(find_losses, SYSTEM, at, policy=engine.policy)
    count = size = 0
    is_whole = True
    for loss in found.losses:
        taken = loss if dry else await _take(engine, loss, at.what)
        if taken is None:
            is_whole = False
        else:
            count, size = count + taken.count, size + taken.size
    if found.mark is not None and is_whole and not dry and at.what is not What.BUILDS:
        await engine.run(note_mark, SYSTEM, at, found.mark)
    following = found.next
    if following is not None and following.name == at.name and not is_whole:
        following = replace_position(following, after=BuildId(following.after), clean=False)
    return Step(at.what, count, size, following)


async def _take(engine: Engine, loss: Loss, what: What) -> Loss | None:
    """Take all of it, part by part; None if the build would not give it."""
    count = size = 0
    try:
        while lost := await engine.run(lose, SYSTEM, loss.build, what, settled=engine.policy.retention_grace_seconds):
            count, size = count + lost.count, size + lost.size
            if not lost.more:
                break
        else:
            return None
        while what is What.BUILDS and not await engine.run(remove_rows, SYSTEM, loss.build):
            pass
    except EngineError as exc:
        log.warning("retention_failed", build=loss.build, what=what, error=str(exc))
        return None
    return Loss(loss.build, count, size)
