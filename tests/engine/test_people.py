"""Accounts, users and images: what is whose, and which names are taken."""

import pytest

from buildyard.domain.access import SYSTEM, Role
from buildyard.domain.errors import Conflict, NotFound
from buildyard.engine import identity, images, projects
from world import World


@pytest.mark.covers("engine.accounts")
async def test_a_user_owns_the_account_of_the_same_name_and_through_it_its_projects(world: World) -> None:
    engine, bob, eve = world.engine, world.owner, await world.user("eve")
    account = await engine.read(identity.account_id, SYSTEM, "bob")

    assert account is not None
    assert (bob.account, bob.account_roles) == (account, {account: Role.OWNER})
    assert (world.project.account, world.project.account_name) == (account, "bob")
    assert await engine.read(projects.list_projects, bob, "bob") == [world.project]
    assert await engine.read(projects.list_projects, eve, "bob") == []
    with pytest.raises(NotFound):
        await engine.run(projects.create_project, eve, "bob", "not hers to make")


@pytest.mark.covers("engine.accounts", "engine.projects")
async def test_users_and_projects_share_one_space_of_names(world: World) -> None:
    engine = world.engine

    with pytest.raises(Conflict, match="the name hello is a project's"):
        await engine.run(identity.create_user, world.administrator, "hello", password_hash=None)
    named_like_its_owner = await engine.run(projects.create_project, world.owner, "bob", "bob")

    assert named_like_its_owner.slug == "bob-2"


@pytest.mark.covers("engine.users")
async def test_names_and_addresses_of_users_are_unique(world: World) -> None:
    create = identity.create_user
    await world.engine.run(create, world.administrator, "ann", password_hash=None, email="ann@example.org")

    for name, address in (("ann", "other@example.org"), ("anne", "ann@example.org")):
        with pytest.raises(Conflict):
            await world.engine.run(create, world.administrator, name, password_hash=None, email=address)

    found = await world.engine.read(identity.list_users, world.administrator)
    assert [(user.username, user.email) for user in found if user.email] == [("ann", "ann@example.org")]


@pytest.mark.covers("engine.users")
def test_passwords_are_kept_as_argon2id_only() -> None:
    stored = identity.hash_password("correct horse")

    assert stored.startswith("$argon2id$")
    assert stored != identity.hash_password("correct horse"), "each has a salt of its own"
    assert identity.password_fits(stored, "correct horse")
    assert not identity.password_fits(stored, "correct hors")
    assert not identity.password_fits(None, "")


@pytest.mark.covers("engine.images")
async def test_a_slug_names_one_image_on_the_whole_server(world: World) -> None:
    engine, eve = world.engine, await world.user("eve")
    await engine.run(images.create_image, world.owner, slug="debian", url="example.org/debian:12", public=False)

    with pytest.raises(Conflict):
        await engine.run(images.create_image, eve, slug="debian", url="example.org/other:1", public=True)

    assert [image.url for image in await engine.read(images.list_images, world.owner, public=None)] == [
        "example.org/debian:12"
    ]
    assert await engine.read(images.list_images, eve, public=None) == []
