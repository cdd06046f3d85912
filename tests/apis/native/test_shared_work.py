"""What one API starts is the same work in the other, for those who may see it."""

from typing import Any

import pytest

from apis.native.conftest import Serve
from apis.native.serving import Server

WORKFLOW = "jobs: {first: {run: 'true'}, then: {needs: [first], run: 'true'}}"
STEP = {"imageSlug": "debian", "runScript": "true", "cacheDirs": [], "outputPaths": []}
STEPS = [{**STEP, "name": "first", "dependsOn": []}, {**STEP, "name": "then", "dependsOn": ["first"]}]


@pytest.fixture
async def server(serve: Serve) -> Server:
    """A server on which the Build Server API asks for tokens, so that it knows who asks."""
    return await serve(BUILDYARD_BUILD_SERVER_AUTH="token")


async def started(server: Server, api: str, by: str) -> str:
    """The uid of a build that was started through an API."""
    if api == "native":
        return str((await server.submit(WORKFLOW, project="his", by=by)).body["uid"])
    await server.call("POST", "/api/docker-images", {"slug": "debian", "imageUrl": "example.org/debian:12"}, by=by)
    made = await server.call("POST", "/api/projects", {"accountId": "bob", "name": "his"}, by=by)
    where = f"/api/projects/{made.body['id']}"
    workflow = await server.call("POST", f"{where}/workflows", {"name": "ci", "steps": STEPS}, by=by)
    build = await server.call("POST", f"{where}/builds", {"workflowId": workflow.body["id"]}, by=by)
    assert build.status == 201, build.body
    return str(build.body["id"])


async def seen(server: Server, build: str, by: str | None) -> dict[str, Any]:
    """What somebody is shown of a build in both APIs: statuses of the single answer, and whether lists have it."""
    native = await server.call("GET", f"/builds/{build}", by=by)
    given = await server.call("GET", f"/api/builds/{build}", by=by)
    listed = await server.call("GET", "/builds", by=by)
    also = await server.call("GET", "/api/builds", by=by)
    return {
        "native": native.status,
        "build server": given.status,
        "listed": [one["uid"] for one in listed.body["builds"]] == [build],
        "listed too": also.status == 200 and [one["id"] for one in also.body["builds"]] == [build],
    }


ALL_OF_IT = {"native": 200, "build server": 200, "listed": True, "listed too": True}
NOTHING = {"native": 404, "build server": 404, "listed": False, "listed too": False}


@pytest.mark.covers("proof.cross")
@pytest.mark.parametrize("api", ["native", "build server"])
async def test_members_see_it_in_both_and_strangers_in_none_until_it_is_public(server: Server, api: str) -> None:
    bob, eve = await server.token("bob", "*"), await server.token("eve", "*")
    build = await started(server, api, bob)

    assert await seen(server, build, bob) == await seen(server, build, "") == ALL_OF_IT
    assert await seen(server, build, eve) == NOTHING
    assert await seen(server, build, None) == {**NOTHING, "build server": 401}

    await server.publish("his", listed=False)
    assert await seen(server, build, eve) == {**ALL_OF_IT, "listed": False, "listed too": False}
    await server.publish("his")
    assert await seen(server, build, eve) == ALL_OF_IT
    assert await seen(server, build, None) == {**ALL_OF_IT, "build server": 401, "listed too": False}


@pytest.mark.covers("proof.cross")
@pytest.mark.parametrize("api", ["native", "build server"])
async def test_it_has_the_same_parts_and_a_cancel_in_either_is_one_in_both(server: Server, api: str) -> None:
    bob = await server.token("bob", "*")
    build = await started(server, api, bob)

    async def states() -> tuple[dict[str, str], dict[str, str]]:
        tree = (await server.call("GET", f"/builds/{build}", by=bob)).body
        steps = (await server.call("GET", f"/api/builds/{build}/steps", by=bob)).body["steps"]
        assert {one["uid"] for one in tree["jobs"]} == {one["id"] for one in steps}
        return {one["name"]: one["result"] or one["phase"] for one in tree["jobs"]}, {
            one["name"]: one["status"] for one in steps
        }

    assert await states() == ({"first": "queued", "then": "waiting"}, {"first": "PENDING", "then": "PENDING"})

    path = f"/builds/{build}/cancel" if api == "build server" else f"/api/builds/{build}/cancel"
    assert (await server.call("POST", path, {"reason": "enough"}, by=bob)).status in (200, 204)

    native, given = await states()
    assert set(native.values()) == {"cancelled"}
    assert set(given.values()) == {"FAILED"}, "its word for cancelled work, by the table of states"
    audited = (await server.call("GET", "/api/audit-logs?action=build.cancel", by=bob)).body["auditLogs"]
    assert len(audited) == 1
