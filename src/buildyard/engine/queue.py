"""The queue for people: what runs, what is queued, and what waits for something else than a worker."""

from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission, may
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, Moment, ProjectId
from buildyard.engine.build_access import listed_builds
from buildyard.engine.projects import is_listed
from buildyard.engine.waiting import BlockerView, explain
from buildyard.store import blockers, jobs, projects, queue
from buildyard.store.projects import Project
from buildyard.store.queue import Item
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Queued:
    """A queued job and its place, from 1, in the queue of its pipeline and of all that ask for the same workers."""

    item: Item
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits: a job, or a build as a whole, and for what."""

    build: BuildId
    project: ProjectId
    pipeline: str
    job: str
    uid: str
    since: Moment
    view: BlockerView


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Of each kind no more than was asked for; `queued_total` is how many there are. `slugs` names the projects."""

    running: list[Item]
    queued: list[Queued]
    queued_total: int
    waiting: list[Waiting]
    slugs: dict[ProjectId, str]


async def show_queue(tx: Transaction, actor: Actor, *, project_slug: str = "", limit: int = 100) -> Queue:
    """The queue of one project, or of all that the actor sees; jobs that wait for other jobs only are left out."""
    seen = {project.id: project.slug for project in await _projects(tx, actor, project_slug)}
    running = [one for one in await queue.running(tx) if one.project in seen]
    lanes = [busy.lane for busy in await jobs.busy_lanes(tx) if busy.lane.project in seen]
    queued = [
        Queued(item, position)
        for lane in lanes
        for position, item in enumerate(await queue.first_of_lane(tx, lane.id, limit), 1)
    ]
    shown = await listed_builds(tx, actor, [one.build for one in [*running, *(one.item for one in queued)]])
    running = sorted((one for one in running if one.build in shown), key=lambda one: one.since)
    queued = [one for one in queued if one.item.build in shown]
    queued.sort(key=lambda one: (one.position, one.item.since, one.item.job))
    return Queue(
        running=running[:limit],
        queued=queued[:limit],
        queued_total=sum(lane.queued for lane in lanes),
        waiting=await _waiting(tx, actor, seen, limit),
        slugs=seen,
    )


async def _projects(tx: Transaction, actor: Actor, slug: str) -> list[Project]:
    if slug:
        project = await projects.find_by_slug(tx, slug)
        if project is None or not may(actor, Permission.READ, project.owner):
            raise NotFound(f"project {slug} not found")
        return [project]
    return [
        project
        for project in await projects.search(tx, None)
        if may(actor, Permission.READ, project.owner) and is_listed(actor, project.owner)
    ]


async def _waiting(tx: Transaction, actor: Actor, seen: dict[ProjectId, str], limit: int) -> list[Waiting]:
    if actor.administrator and actor.only_project is None and len(seen) > 1:
        found = [one for one in await blockers.page(tx, None, limit) if one.blocker.project in seen]
    else:
        found = [one for project in sorted(seen) for one in await blockers.page(tx, project, limit)]
    shown = await listed_builds(tx, actor, [one.blocker.build for one in found])
    found = sorted((one for one in found if one.blocker.build in shown), key=lambda one: one.blocker.id)[:limit]
    views = await explain(tx, [one.blocker for one in found])
    return [
        Waiting(
            build=one.blocker.build,
            project=one.blocker.project,
            pipeline=one.pipeline,
            job=one.job,
            uid=one.job_uid,
            since=one.blocker.since,
            view=view,
        )
        for one, view in zip(found, views, strict=True)
    ]
