"""Every use-case about a project's things, for every kind of actor, on private and on public projects."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from buildyard.domain.access import ANONYMOUS, SYSTEM, Actor, Role, Visibility
from buildyard.domain.errors import EngineError, Forbidden, NotFound, Unauthenticated
from buildyard.domain.ids import Sha256
from buildyard.domain.specs import PipelineSpec
from buildyard.domain.states import Result
from buildyard.engine import audit, build_lists, builds, files, identity, images, log_reading, pipelines, projects
from buildyard.engine.builds import Submission
from buildyard.protocol import Finished, OutputFile
from buildyard.store import identity as stored_identity
from buildyard.store.builds import BuildView
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, WORKER, World, job, one_piece

pytestmark = pytest.mark.covers("engine.access.everywhere", "engine.access.unseen", "engine.roles", "engine.tokens")


@dataclass
class Scene:
    """A project with a finished build, its artifact, and all who may come by."""

    world: World
    project: Project
    other: Project
    pipeline: Pipeline
    build: BuildView
    job: str
    artifact: str
    actors: dict[str, Actor]


Act = Callable[[Actor], Awaitable[object]]


def reads(scene: Scene) -> dict[str, Act]:
    """What only reads."""
    read, uid = scene.world.engine.read, scene.project.uid
    return {
        "get_project": lambda a: read(projects.get_project, a, uid),
        "list_pipelines": lambda a: read(pipelines.list_pipelines, a, uid),
        "get_pipeline": lambda a: read(pipelines.get_pipeline, a, uid, scene.pipeline.uid),
        "get_build": lambda a: read(builds.get_build, a, scene.build.build.uid),
        "get_build_by_id": lambda a: read(builds.get_build_by_id, a, scene.build.build.id),
        "list_builds": lambda a: read(builds.list_builds, a, uid, limit=5, offset=0),
        "list_jobs": lambda a: read(builds.list_jobs, a, scene.build.build.uid),
        "get_job": lambda a: read(builds.get_job, a, scene.job),
        "get_job_log": lambda a: read(log_reading.get_job_log, a, scene.job),
        "list_artifacts": lambda a: read(builds.list_artifacts, a, scene.build.build.uid),
        "get_artifact": lambda a: read(builds.get_artifact, a, scene.artifact),
    }


def runs(scene: Scene) -> dict[str, Act]:
    """What starts and stops builds."""
    run, uid = scene.world.engine.run, scene.project.uid
    return {
        "submit_build": lambda a: run(
            builds.submit_build, a, uid, scene.pipeline.uid, Submission(), queue_limit=QUEUE_LIMIT
        ),
        "cancel_build": lambda a: run(builds.cancel_build, a, scene.build.build.uid, reason=""),
        "rebuild_build": lambda a: run(
            builds.rebuild_build, a, scene.build.build.uid, reason="", queue_limit=QUEUE_LIMIT
        ),
    }


def configures(scene: Scene) -> dict[str, Act]:
    """What changes definitions, and reads what was done."""
    run, uid, spec = scene.world.engine.run, scene.project.uid, PipelineSpec(jobs=(job("a"),))
    return {
        "create_pipeline": lambda a: run(pipelines.create_pipeline, a, uid, "more", spec, defined_by="test"),
        "define_pipeline": lambda a: run(pipelines.define_pipeline, a, uid, "other", spec, defined_by="test"),
        "list_audit": lambda a: scene.world.engine.read(
            audit.list_audit, a, project_uid=uid, action=None, limit=5, offset=0
        ),
    }


READ, RUN, CONFIGURE = "read", "run", "configure"
KINDS: dict[str, Callable[[Scene], dict[str, Act]]] = {READ: reads, RUN: runs, CONFIGURE: configures}
ALL = {READ, RUN, CONFIGURE}
MAY: dict[str, set[str]] = {
    "anonymous": set(),
    "stranger": set(),
    "viewer": {READ},
    "developer": {READ, RUN},
    "admin": ALL,
    "owner": ALL,
    "account owner": ALL,
    "administrator": ALL,
    "owner's token jobs:read": {READ},
    "owner's token jobs:write": {READ, RUN},
    "owner's token runner": {READ},
    "owner's token secrets:write": set(),
    "owner's token projects:write": {READ, CONFIGURE},
    "owner's token *": ALL,
    "owner's token * of this project": ALL,
    "owner's token * of another project": set(),
    "administrator's token * of another project": set(),
    "stranger's token *": set(),
}
"""What each may do in a private project."""


async def bearer(world: World, username: str, scope: str, project: Project | None = None) -> Actor:
    made = await world.engine.run(
        identity.create_token, SYSTEM, username, (scope,), project_uid=project.uid if project else None
    )
    return await world.engine.read(identity.actor_of_token, ANONYMOUS, made.secret)


async def member(world: World, project: Project, role: Role) -> Actor:
    name = f"{role.name.lower()}-of-stage"
    actor = await world.user(name)

    async def join(tx: Transaction, _actor: Actor) -> None:
        assert actor.user is not None
        await stored_identity.add_member(tx, actor.user, role, project=project.id)

    await world.engine.run(join, SYSTEM)
    return await world.engine.read(identity.actor_of_user, SYSTEM, name)


async def set_scene(world: World, visibility: Visibility) -> Scene:
    project = await world.engine.run(projects.create_project, world.owner, "bob", "stage", visibility=visibility)
    other = await world.engine.run(projects.create_project, world.owner, "bob", "elsewhere")
    pipeline = await world.define(job("only", outputs=("out",)), project=project)
    build = await world.submit(pipeline=pipeline)
    hand = await world.hand()
    grant = await hand.take()
    blob = await files.store_blob(world.engine, WORKER, one_piece(b"bytes"))
    output = OutputFile(path="out", sha256=Sha256(blob.sha256), size=blob.size, mode=0o644)
    await hand.report(Finished(attempt=grant.attempt, token=grant.token, result=Result.SUCCESS, outputs=[output]))
    ((artifact, maker),) = await world.engine.read(builds.list_artifacts, world.owner, build.build.uid)
    stranger = await world.user("eve")
    actors = {
        "anonymous": ANONYMOUS,
        "stranger": stranger,
        **{role.name.lower(): await member(world, project, role) for role in Role},
        "account owner": world.owner,
        "administrator": world.administrator,
        **{
            f"owner's token {scope}": await bearer(world, "bob", scope)
            for scope in ("jobs:read", "jobs:write", "runner", "secrets:write", "projects:write", "*")
        },
        "owner's token * of this project": await bearer(world, "bob", "*", project),
        "owner's token * of another project": await bearer(world, "bob", "*", other),
        "administrator's token * of another project": await bearer(world, "admin", "*", other),
        "stranger's token *": await bearer(world, "eve", "*"),
    }
    return Scene(world, project, other, pipeline, build, maker.uid, artifact.uid, actors)


async def outcome(act: Act, actor: Actor) -> str:
    try:
        await act(actor)
    except EngineError as exc:
        return type(exc).__name__
    return "done"


def expected(who: str, kind: str, visibility: Visibility, actor: Actor) -> set[str]:
    """The outcomes that are right."""
    if kind in MAY[who]:
        return {"done"}
    bound_elsewhere = "another project" in who
    may_read = READ in MAY[who] or (visibility is not Visibility.PRIVATE and "secrets" not in who)
    if bound_elsewhere or not may_read:
        return {NotFound.__name__}
    if kind == READ:
        return {"done"}
    return {Unauthenticated.__name__ if actor is ANONYMOUS else Forbidden.__name__}


@pytest.mark.parametrize("visibility", Visibility)
async def test_each_may_do_what_the_table_says_and_hears_no_more_than_he_may_know(
    sqlite_world: World, visibility: Visibility
) -> None:
    scene = await set_scene(sqlite_world, visibility)
    assert set(scene.actors) == set(MAY)
    wrong: list[str] = []
    for who, actor in scene.actors.items():
        for kind, acts in KINDS.items():
            for name, act in acts(scene).items():
                found = await outcome(act, actor)
                right = expected(who, kind, visibility, actor)
                if found not in right:
                    wrong.append(f"{name} by {who} on {visibility.name}: {found}, not {right}")
    assert wrong == []


@pytest.mark.parametrize("visibility", Visibility)
async def test_lists_and_totals_over_all_projects_hold_what_each_may_see(world: World, visibility: Visibility) -> None:
    scene = await set_scene(world, visibility)
    for who, actor in scene.actors.items():
        views, total = await world.engine.read(build_lists.list_visible_builds, actor, limit=10, offset=0)
        listed = await world.engine.read(projects.list_projects, actor)
        sees = READ in MAY[who] or (
            visibility is Visibility.PUBLIC and "secrets" not in who and "another project" not in who
        )
        assert [view.build.id for view in views] == ([scene.build.build.id] if sees else []), who
        assert total == (1 if sees else 0), who
        assert (scene.project.uid in {project.uid for project in listed}) == sees, who


async def test_images_and_users_are_the_servers(sqlite_world: World) -> None:
    scene = await set_scene(sqlite_world, Visibility.PUBLIC)
    run, read = sqlite_world.engine.run, sqlite_world.engine.read
    for number, (who, actor) in enumerate(scene.actors.items()):
        naming = await outcome(
            lambda a, n=number: run(images.create_image, a, slug=f"i{n}", url="docker://x/y:1", public=True),
            actor,
        )
        may_name = who not in ("anonymous",) and "jobs" not in who and "runner" not in who and "secrets" not in who
        may_name = may_name and "of " not in who
        assert (naming == "done") == may_name, (who, naming)
        users = await outcome(lambda a: read(identity.list_users, a), actor)
        assert (users == "done") == (who == "administrator"), (who, users)
        whole = await outcome(
            lambda a: read(audit.list_audit, a, project_uid=None, action=None, limit=1, offset=0), actor
        )
        assert (whole == "done") == (who == "administrator"), (who, whole)
