"""Settings that say how the Build Server API answers reach it."""

import pytest

from apis.native.conftest import Serve
from apis.native.serving import Server

NOTHING = {"error": "there is nothing at this address", "details": []}


@pytest.mark.covers("ops.switch")
async def test_by_default_the_build_server_api_is_open_and_answers_for_all_below_api(server: Server) -> None:
    assert (await server.call("GET", "/api/builds", by=None)).status == 200

    unowned = await server.call("GET", "/api/nothing", by=None)

    assert (unowned.status, unowned.body) == (404, NOTHING)


@pytest.mark.covers("ops.switch")
async def test_switched_off_it_answers_nothing_but_404_and_the_rest_goes_on(serve: Serve) -> None:
    server = await serve(BUILDYARD_BUILD_SERVER="off")

    for method, path in (("GET", "/api/builds"), ("POST", "/api/projects"), ("GET", "/api/nothing")):
        answer = await server.call(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.body) == (404, NOTHING), path
    for path in ("/docs", "/docs/openapi.json"):
        async with server.session.get(server.url + path) as page:
            assert page.status == 404
    assert (await server.submit("jobs: {a: {run: 'true'}}")).status == 201
    async with server.session.get(f"{server.url}/ready") as ready:
        assert ready.status == 200


async def test_a_public_address_elsewhere_makes_it_ask_for_tokens(serve: Serve) -> None:
    server = await serve(BUILDYARD_PUBLIC_URL="https://ci.example.org")

    assert (await server.call("GET", "/api/builds", by=None)).status == 401
    assert (await server.call("GET", "/api/builds")).status == 200


async def test_only_allowed_hosts_are_answered(serve: Serve) -> None:
    server = await serve(BUILDYARD_ALLOWED_HOSTS="CI.internal")

    assert (await server.call("GET", "/api/builds", by=None, host="ci.internal:8010")).status == 200
    assert (await server.call("GET", "/api/builds", by=None, host="evil.example")).status == 403


async def test_scripts_and_bodies_have_the_limits_of_the_settings(serve: Serve) -> None:
    server = await serve(BUILDYARD_LIMIT_SCRIPT="1KiB", BUILDYARD_LIMIT_BODY="8KiB")
    made = await server.call("POST", "/api/projects", {"accountId": "acme", "name": "hello"}, by=None)
    where = f"/api/projects/{made.body['id']}/workflows"
    step = {"name": "a", "imageSlug": "x", "dependsOn": [], "cacheDirs": [], "outputPaths": []}

    script = await server.call("POST", where, {"name": "w", "steps": [{**step, "runScript": "x" * 1025}]}, by=None)
    body = await server.call("POST", where, {"name": "w", "steps": [{**step, "runScript": "x" * 9000}]}, by=None)

    assert (script.status, body.status) == (413, 413)
    assert "1 KiB" in script.data.decode()
    assert "8192 bytes" in body.data.decode()


async def test_a_nearly_full_disk_takes_no_builds(serve: Serve) -> None:
    server = await serve(BUILDYARD_LIMIT_FREE_DISK="1000000GiB")
    made = await server.call("POST", "/api/projects", {"accountId": "acme", "name": "hello"}, by=None)
    project = made.body["id"]

    answer = await server.call("POST", f"/api/projects/{project}/builds", {"workflowId": project}, by=None)

    assert answer.status == 507
