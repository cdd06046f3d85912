"""Who may ask: the open mode's guard against browsers, and tokens."""

import pytest

from apis.build_server.conftest import Serve
from apis.build_server.serving import Api, step
from apis.build_server.test_runner import claimed, complete
from buildyard.domain.access import SYSTEM
from buildyard.engine import identity


@pytest.mark.covers("build_server.bad.origin", "build_server.auth.open")
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::2]", "a:b"]
)
async def test_a_foreign_host_is_refused(api: Api, host: str) -> None:
    answer = await api.get("/api/docker-images", headers={"Host": host})

    assert (answer.status, answer.body.keys()) == (403, {"error", "details"})


@pytest.mark.covers("build_server.auth.open")
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:3000", "127.0.0.1:1", "[::1]:80", "build.example:80"])
async def test_own_names_are_served(serve: Serve, host: str) -> None:
    api = await serve(hosts=frozenset({"build.example"}))

    assert (await api.get("/api/docker-images", headers={"Host": host})).status == 200


@pytest.mark.covers("build_server.bad.origin")
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_requests_of_other_sites_pages_are_refused(api: Api, headers: dict[str, str]) -> None:
    body = {"accountId": "acme", "name": "x"}

    assert (await api.get("/api/docker-images", headers=headers)).status == 403
    assert (await api.post("/api/projects", body, headers=headers)).status == 403
    assert (await api.get("/api/projects?accountId=acme")).body == []


async def test_requests_of_the_servers_own_pages_and_links_to_it_are_served(api: Api) -> None:
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

    assert (await api.post("/api/projects", {"accountId": "acme", "name": "x"}, headers=own)).status == 201
    assert (await api.get("/docs", headers=link)).status == 200


@pytest.mark.covers("build_server.auth.open")
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_bodies_that_a_form_could_send_are_refused(api: Api, kind: str) -> None:
    data = b'{"accountId":"acme","name":"x"}'

    answer = await api.post("/api/projects", data=data, headers={"Content-Type": kind})

    assert answer.status == 415


async def token_of(api: Api, user: str, *scopes: str) -> dict[str, str]:
    """The header of a new token of a user, made if need be."""
    await api.engine.run(_ensure_user, SYSTEM, user)
    made = await api.engine.run(identity.create_token, SYSTEM, user, scopes)
    return {"Authorization": f"Bearer {made.secret}"}


async def _ensure_user(tx: object, actor: object, name: str) -> None:
    from buildyard.store import identity as users

    if await users.find_user(tx, name) is None:  # type: ignore[arg-type]
        await identity.create_user(tx, actor, name, password_hash=None)  # type: ignore[arg-type]


@pytest.mark.covers("build_server.auth.token", "engine.access.unseen")
async def test_with_tokens_each_call_sees_what_its_account_may_see(serve: Serve) -> None:
    api = await serve(is_open=False)
    assert (await api.get("/api/docker-images")).status == 401
    assert (await api.get("/api/docker-images")).headers["www-authenticate"].startswith("Bearer")
    wrong = {"Authorization": "Bearer nonsense"}
    assert (await api.get("/api/docker-images", headers=wrong)).status == 401
    ann, bob = await token_of(api, "ann", "*"), await token_of(api, "bob", "*")
    api.headers = ann
    build = await api.build_of("ann")

    api.headers = bob
    unseen = [
        f"/api/projects/{build.project}/builds",
        f"/api/projects/{build.project}/workflows",
        f"/api/projects/{build.project}/workflows/{build.workflow}",
        f"/api/builds/{build.id}",
        f"/api/builds/{build.id}/steps",
        f"/api/builds/{build.id}/artifacts",
        f"/api/steps/{build.steps['test']}",
        f"/api/steps/{build.steps['test']}/logs",
        f"/api/runner/{build.steps['test']}",
        f"/api/audit-logs?projectId={build.project}",
        "/api/projects?accountId=nobody",
    ]
    for path in unseen:
        assert (await api.get(path)).status == 404, path
    for path in (f"builds/{build.id}/cancel", f"builds/{build.id}/retry", f"runner/{build.steps['test']}/claim"):
        assert (await api.post(f"/api/{path}", {})).status == 404, path
    assert (await complete(api, f"/api/runner/{build.steps['test']}")).status == 404
    assert (await api.post("/api/runner/claim", {})).status == 204
    assert (await api.post("/api/projects", {"accountId": "ann", "name": "mine"})).status == 404
    assert (await api.get("/api/projects?accountId=ann")).body == []
    assert (await api.get("/api/builds")).body == {
        "builds": [],
        "pagination": {"total": 0, "limit": 20, "offset": 0, "hasMore": False},
    }
    assert (await api.get("/api/docker-images")).body == []
    assert (await api.get("/api/audit-logs")).body["pagination"]["total"] == 0

    api.headers = ann
    assert (await api.get("/api/builds")).body["pagination"]["total"] == 1
    assert [one["slug"] for one in (await api.get("/api/docker-images")).body] == ["debian"]
    assert {one["action"] for one in (await api.get("/api/audit-logs")).body["auditLogs"]} >= {"build.create"}


@pytest.mark.covers("build_server.auth.token", "engine.tokens")
async def test_a_token_may_no_more_than_its_scopes(serve: Serve) -> None:
    api = await serve(is_open=False)
    whole, reader = await token_of(api, "ann", "*"), await token_of(api, "ann", "jobs:read")
    runner = await token_of(api, "ann", "runner")
    api.headers = whole
    build = await api.build_of("ann")

    api.headers = reader
    assert (await api.get(f"/api/builds/{build.id}")).status == 200
    assert (await api.post(f"/api/builds/{build.id}/cancel", {})).status == 403
    assert (await api.post(f"/api/runner/{build.steps['test']}/claim", {})).status == 403
    assert (await api.post("/api/docker-images", {"slug": "x", "imageUrl": "x"})).status == 403

    api.headers = runner
    path, token = await claimed(api, build)
    assert (await complete(api, path, token=token)).status == 200


@pytest.mark.covers("engine.images")
async def test_a_private_image_cannot_be_used_by_other_accounts(serve: Serve) -> None:
    api = await serve(is_open=False)
    ann, bob = await token_of(api, "ann", "*"), await token_of(api, "bob", "*")
    api.headers = ann
    await api.image("debian")
    api.headers = bob
    project = await api.project(account="bob")

    answer = await api.post(f"/api/projects/{project}/workflows", {"name": "ci", "steps": [step()]})

    assert (answer.status, answer.codes) == (400, {"steps[0].imageSlug": "unknown_image"})
