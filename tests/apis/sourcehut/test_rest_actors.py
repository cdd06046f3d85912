"""Every route of the REST part with every kind of actor."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from apis.sourcehut.resting import MANIFEST, Reply, Rest
from buildyard.apis.sourcehut.config import SourcehutConfig
from buildyard.apis.sourcehut.routes import sourcehut_app
from buildyard.domain.access import SYSTEM, Actor, Role
from buildyard.engine import identity, manifest_jobs
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.store import identity as people
from buildyard.store.transactions import Transaction
from world import World

pytestmark = pytest.mark.covers("sourcehut.rest.access", "sourcehut.rest.tokens")

EVERYONE = {"reader", "stranger", "viewer", "developer", "owner", "administrator", "of another project"}
WRITERS = {"developer", "owner", "administrator"}
NAMES = ("anonymous", "nonsense", "stranger", "reader", "worker", "viewer", "developer", "owner", "administrator",
         "of another project")  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A job in the owner's private project without a list of its own, and a group of another one."""

    rest: Rest
    job: int
    group: int
    authorizations: dict[str, str]

    async def call(self, method: str, path: str, body: object, who: str) -> Reply:
        """A request by one kind of actor."""
        return await self.rest.call(method, path, body=body, authorization=self.authorizations[who])


async def _member(world: World, name: str, role: Role) -> Actor:
    user = (await world.user(name)).user
    assert user is not None

    async def join(tx: Transaction, _actor: Actor) -> None:
        await people.add_member(tx, user, role, project=world.project.id)

    await world.engine.run(join, SYSTEM)
    return await world.engine.read(identity.actor_of_user, SYSTEM, name)


@pytest.fixture
async def place(rest: Rest) -> Place:
    """All of it, with a token for each kind of actor."""
    world = rest.world
    wanted = NewManifestJob(text=MANIFEST, project=world.project.slug, execute=False)
    view = await manifest_jobs.submit_manifest(world.engine, world.owner, wanted)
    other = await rest.submit(execute=False)
    group = (await rest.post("/api/job-group", {"jobs": [other]})).json["id"]
    elsewhere = await world.other_project()
    bound = await world.engine.run(
        identity.create_token, SYSTEM, "bob", ("jobs:read", "jobs:write"), project_uid=elsewhere.uid
    )
    tokens = {
        "stranger": await rest.token(await world.user("eve")),
        "reader": await rest.token(world.owner, ("jobs:read",)),
        "worker": await rest.token(world.administrator, ("runner",)),
        "viewer": await rest.token(await _member(world, "val", Role.VIEWER)),
        "developer": await rest.token(await _member(world, "dev", Role.DEVELOPER)),
        "owner": await rest.token(world.owner),
        "administrator": await rest.token(world.administrator),
        "of another project": bound.secret,
    }
    given = {name: f"token {token}" for name, token in tokens.items()}
    return Place(rest, view.build.id, group, {"anonymous": "", "nonsense": "token nonsense", **given})


ROUTES: dict[tuple[str, str], tuple[set[str], object, Callable[[Place], str]]] = {
    ("GET", "/api/jobs"): (EVERYONE | {"worker"}, None, lambda _at: "/api/jobs"),
    ("POST", "/api/jobs"): (
        {"stranger", "viewer", "developer", "owner", "administrator"},
        {"manifest": MANIFEST, "execute": False},
        lambda _at: "/api/jobs",
    ),
    ("GET", "/api/jobs/{id}"): (
        {"reader", "viewer", "developer", "owner", "administrator", "worker"}, None, lambda at: f"/api/jobs/{at.job}",
    ),
    ("GET", "/api/jobs/{id}/artifacts"): (
        {"reader", "viewer", "developer", "owner", "administrator", "worker"},
        None,
        lambda at: f"/api/jobs/{at.job}/artifacts",
    ),
    ("GET", "/api/jobs/{id}/manifest"): (
        {"reader", "viewer", "developer", "owner", "administrator", "worker"},
        None,
        lambda at: f"/api/jobs/{at.job}/manifest",
    ),
    ("POST", "/api/jobs/{id}/cancel"): (WRITERS, None, lambda at: f"/api/jobs/{at.job}/cancel"),
    ("GET", "/api/job-group/{id}"): (
        {"reader", "owner", "administrator", "worker"}, None, lambda at: f"/api/job-group/{at.group}",
    ),
    ("POST", "/api/job-group/{id}/start"): (
        {"owner", "administrator"}, None, lambda at: f"/api/job-group/{at.group}/start",
    ),
    ("POST", "/api/job-group/{id}/cancel"): (
        {"owner", "administrator"}, None, lambda at: f"/api/job-group/{at.group}/cancel",
    ),
}  # fmt: skip
"""Who is let in; the others get 401, 403 or 404. What may be done once only is asked of each in a test of its own."""
ONCE = {("POST", "/api/jobs/{id}/start"), ("POST", "/api/job-group")}


def test_no_route_is_forgotten(sqlite_world: World) -> None:
    app = sourcehut_app(sqlite_world.engine, SourcehutConfig(body_bytes=1))
    found = {
        (method, getattr(route, "path", ""))
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "HEAD"
    }
    assert found == {*ROUTES, *ONCE}


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_each_route_lets_in_those_it_should_and_nobody_else(place: Place, route: tuple[str, str]) -> None:
    expected, body, path = ROUTES[route]
    replies = {who: await place.call(route[0], path(place), body, who) for who in NAMES}
    assert {who for who, reply in replies.items() if reply.status == 200} == expected
    assert {reply.status for reply in replies.values()} <= {200, 401, 403, 404}
    for who, reply in replies.items():
        if reply.status != 200:
            assert who != "anonymous" or reply.status in (401, 404)
            assert "errors" in reply.json or reply.json == {}


async def test_only_writers_start_jobs_and_collect_them(place: Place) -> None:
    for who in NAMES:
        started = await place.call("POST", f"/api/jobs/{place.job}/start", None, who)
        collected = await place.call("POST", "/api/job-group", {"jobs": [place.job]}, who)
        if who not in WRITERS:
            assert started.status in (401, 403, 404), who
            assert collected.status in (400, 401, 403), who
    made = await place.call("POST", "/api/job-group", {"jobs": [place.job]}, "developer")
    assert made.status in (200, 400)
