"""What tokens must not be able to do, and to whom jobs, bytes and credentials must not go."""

from collections.abc import AsyncIterator

import pytest

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import Forbidden, NotFound
from buildyard.domain.specs import FolderSource, GitSource
from buildyard.engine import audit, builds, claiming, files, identity, images, projects
from buildyard.ports import BlobInfo
from buildyard.protocol import VERSION, Claim, Hello, JobGrant
from buildyard.store.projects import Project
from world import World, job


async def bearer(world: World, username: str, *scopes: str, project_uid: str | None = None) -> Actor:
    """Who shows a new token of this user."""
    made = await world.engine.run(identity.create_token, SYSTEM, username, scopes, project_uid=project_uid)
    return await world.engine.read(identity.actor_of_token, SYSTEM, made.secret)


LESSER = ("jobs:read", "jobs:write", "projects:write", "secrets:write", "runner")


@pytest.mark.parametrize("username", ["bob", "admin"])
@pytest.mark.parametrize("scope", LESSER)
async def test_a_token_that_may_not_do_everything_gets_at_no_password_and_no_token(
    sqlite_world: World, username: str, scope: str
) -> None:
    engine, actor = sqlite_world.engine, await bearer(sqlite_world, username, scope)
    other = (await engine.run(identity.create_token, SYSTEM, username, ("jobs:read",))).token

    with pytest.raises(Forbidden):
        await engine.run(identity.change_password, actor, username, "not a hash")
    with pytest.raises(Forbidden):
        await engine.run(identity.create_token, actor, username, (scope,))
    with pytest.raises(Forbidden):
        await engine.run(identity.revoke_token, actor, other.id)
    with pytest.raises(Forbidden):
        await engine.read(identity.list_tokens, actor, username)


async def test_people_and_tokens_for_everything_manage_their_own_password_and_tokens(sqlite_world: World) -> None:
    engine = sqlite_world.engine
    for actor in (sqlite_world.owner, await bearer(sqlite_world, "bob", "*")):
        made = await engine.run(identity.create_token, actor, "bob", ("jobs:read",))
        assert made.token in await engine.read(identity.list_tokens, actor, "bob")
        await engine.run(identity.revoke_token, actor, made.token.id)
        await engine.run(identity.change_password, actor, "bob", "not a hash")
        with pytest.raises(Forbidden):
            await engine.run(identity.change_password, actor, "admin", "not a hash")


async def test_a_token_of_one_project_gets_at_no_password_and_no_token_whatever_its_scope(sqlite_world: World) -> None:
    engine = sqlite_world.engine
    actor = await bearer(sqlite_world, "admin", "*", project_uid=sqlite_world.project.uid)

    for username in ("admin", "bob"):
        with pytest.raises(Forbidden):
            await engine.run(identity.change_password, actor, username, "not a hash")
        with pytest.raises(Forbidden):
            await engine.run(identity.create_token, actor, username, ("*",))


async def test_nobody_binds_a_token_to_a_project_that_they_cannot_see(sqlite_world: World) -> None:
    stranger = await sqlite_world.user("eve")

    with pytest.raises(NotFound):
        await sqlite_world.engine.run(
            identity.create_token, stranger, "eve", ("jobs:read",), project_uid=sqlite_world.project.uid
        )


# --- tokens of one project ----------------------------------------------------------------------


async def other_project(world: World) -> Project:
    """A project of somebody else."""
    await world.user("eve")
    return await world.engine.run(projects.create_project, world.administrator, "eve", "other")


async def test_a_token_of_one_project_does_nothing_to_the_server_as_a_whole(sqlite_world: World) -> None:
    engine = sqlite_world.engine
    hers = await other_project(sqlite_world)
    await engine.run(images.create_image, sqlite_world.administrator, slug="inner", url="example.org/x:1", public=False)
    actor = await bearer(sqlite_world, "admin", "*", project_uid=sqlite_world.project.uid)

    with pytest.raises(Forbidden):
        await engine.run(identity.create_user, actor, "mallory", password_hash=None, administrator=True)
    with pytest.raises(Forbidden):
        await engine.read(identity.list_users, actor)
    with pytest.raises(Forbidden):
        await engine.read(audit.list_audit, actor, project_uid=None, action=None, limit=10, offset=0)
    with pytest.raises(Forbidden):
        await engine.run(images.create_image, actor, slug="evil", url="example.org/x:1", public=True)
    with pytest.raises(Forbidden):
        await engine.run(projects.create_project, actor, "admin", "more")
    with pytest.raises(NotFound):
        await engine.read(projects.get_project, actor, hers.uid)
    others = await bearer(sqlite_world, "bob", "*", project_uid=sqlite_world.project.uid)
    assert [image.slug for image in await engine.read(images.list_images, others, public=None)] == []
    assert [project.id for project in await engine.read(projects.list_projects, actor)] == [sqlite_world.project.id]


class BoundWorker:
    """A worker whose token is of one project."""

    def __init__(self, world: World, actor: Actor) -> None:
        self.engine, self.actor, self.session, self.now = world.engine, actor, "s-bound", world.clock.now

    async def hello(self) -> None:
        """Introduce itself."""
        hello = Hello(
            protocol=VERSION,
            name="bound",
            session=self.session,
            state_id="x",
            version="0",
            labels=[],
            executors=["process"],
            system="",
            slots=9,
        )
        await claiming.hello(self.engine, self.actor, hello, address="", now=self.now)

    async def claim(self) -> list[JobGrant]:
        """What it is given."""
        return (
            await claiming.claim(self.engine, self.actor, Claim(session=self.session, free=9, have=[], wait_s=0))
        ).jobs

    async def knows(self, info: BlobInfo) -> bool:
        """Whether it may have these bytes."""
        return await self.engine.read(files.knows_blob, self.actor, info.sha256)


async def bytes_of(text: bytes) -> AsyncIterator[bytes]:
    """A stream of one piece."""
    yield text


@pytest.mark.covers("worker.token")
async def test_a_worker_with_a_token_of_one_project_gets_jobs_and_files_of_that_project_only(world: World) -> None:
    hers = await world.define(job("secret"), project=await other_project(world), by=world.administrator)
    await world.submit(pipeline=hers)
    source = await files.store_blob(world.engine, SYSTEM, bytes_of(b"his folder"))
    foreign = await files.store_blob(world.engine, SYSTEM, bytes_of(b"her folder"))
    await world.submit(job("mine"), source=FolderSource(sha256=source.sha256, size=source.size))
    worker = BoundWorker(world, await bearer(world, "admin", "runner", project_uid=world.project.uid))
    await worker.hello()
    assert not await worker.knows(source), "no job that it holds has it as source yet"

    (grant,) = await worker.claim()

    assert grant.spec.name == "mine"
    assert await worker.knows(source)
    assert not await worker.knows(foreign)


async def test_how_a_source_is_to_be_checked_out_reaches_the_worker_also_when_built_again(world: World) -> None:
    source = GitSource(url="https://example.org/a.git", branch="main", shallow=False, submodules=False)
    first = await world.submit(job("a"), source=source)
    await world.engine.run(
        builds.rebuild_build, world.owner, first.build.uid, reason="", queue_limit=world.engine.policy.queue_limit
    )
    hand = await world.hand()

    grants = await hand.claim(2)

    assert [grant.git for grant in grants] == [source, source]
    assert all(grant.trusted for grant in grants)
