"""The queue, approvals and later starts over our own API."""

import pytest

from apis.native.serving import Server

WORKFLOW = """
concurrency: deploy
jobs:
  test: {run: "true"}
  deploy: {run: "true", needs: [test], approval: {users: [bob], expires: 24h}, locks: [prod]}
"""


@pytest.mark.covers("blockers.queue", "blockers.words")
async def test_the_queue_says_what_is_queued_and_what_waits_for_what(server: Server) -> None:
    first = (await server.submit(WORKFLOW, project="shop")).body["id"]
    second = (await server.submit(WORKFLOW, project="shop")).body
    assert second["phase"] == "waiting"

    found = (await server.call("GET", "/queue?project=shop")).body
    tree = (await server.call("GET", f"/builds/{second['id']}")).body

    assert [(one["build"], one["job"], one["position"]) for one in found["queued"]] == [(first, "test", 1)]
    assert (found["running"], found["queued_total"]) == ([], 1)
    waiting = {(one["build"], one["job"]): one["blocker"] for one in found["waiting"]}
    assert waiting[second["id"], ""]["detail"] == f"its turn in the group deploy, held by build {first}"
    assert waiting[first, "deploy"]["kind"] == "approval"
    assert [one["kind"] for one in tree["build"]["blockers"]] == ["group"]
    assert [(one["name"], [each["kind"] for each in one["blockers"]]) for one in tree["jobs"]] == [
        ("test", ["group"]),
        ("deploy", ["approval"]),
    ]
    assert tree["jobs"][1]["detail"].startswith("waits for test; an approval by bob until 20")
    assert (await server.call("GET", "/queue?project=none")).status == 404
    assert (await server.call("GET", "/queue?limit=0")).status == 400


@pytest.mark.covers("blockers.queue")
async def test_strangers_see_nothing_of_the_queue(server: Server) -> None:
    await server.submit(WORKFLOW, project="shop")
    bob = await server.token("bob", "*")

    seen = (await server.call("GET", "/queue", by=bob)).body

    assert seen == {"running": [], "queued": [], "queued_total": 0, "waiting": []}
    assert (await server.call("GET", "/queue?project=shop", by=bob)).status == 404


@pytest.mark.covers("blockers.approve")
async def test_answers_are_taken_from_who_may_give_them_once(server: Server) -> None:
    bob = await server.token("bob", "*")
    build = (await server.submit(WORKFLOW, project="his", by=bob)).body["id"]
    path = f"/builds/{build}/approval"

    refused = await server.call("POST", path, {"granted": True})
    unknown = await server.call("POST", path, {"granted": True, "job": "test"}, by=bob)
    given = await server.call("POST", path, {"granted": True, "reason": "fine"}, by=bob)
    again = await server.call("POST", path, {"granted": True}, by=bob)

    assert (refused.status, unknown.status, given.status, again.status) == (403, 409, 200, 409)
    assert "it waits for an approval by bob" in refused.body["error"]
    assert given.body["jobs"] == ["deploy"]
    assert (await server.call("POST", path, {"granted": False}, by=None)).status in (401, 404)
    assert (await server.call("POST", path, {"reason": "?"}, by=bob)).status == 400


@pytest.mark.covers("blockers.schedule")
async def test_a_start_is_a_time_with_a_zone_or_a_delay(server: Server) -> None:
    text = "jobs: {a: {run: 'true'}}"

    at = await server.submit(text, project="p", start_at="2100-01-01T00:00:00+02:00")
    later = await server.submit(text, project="p", delay_s=3600)

    tree = (await server.call("GET", f"/builds/{at.body['id']}")).body
    assert tree["build"]["blockers"][0]["until"] == "2099-12-31T22:00:00.000Z"
    assert (at.body["phase"], later.body["phase"]) == ("waiting", "waiting")
    for wrong in (
        {"start_at": "2100-01-01T00:00:00"},
        {"start_at": "soon"},
        {"delay_s": -1},
        {"delay_s": 2**62},
        {"delay_s": 1, "start_at": "2100-01-01T00:00:00Z"},
    ):
        assert (await server.submit(text, project="p", **wrong)).status == 400
