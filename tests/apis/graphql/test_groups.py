"""Groups of jobs over GraphQL."""

import pytest

from apis.graphql.asking import ask, ask_badly
from apis.graphql.test_jobs import submit
from world import World

CREATE = """mutation($jobs: [Int!]!, $triggers: [TriggerInput!], $execute: Boolean, $note: String) {
    createGroup(jobIds: $jobs, triggers: $triggers, execute: $execute, note: $note) {
        id note created owner { canonicalName } jobs { id status group { id } }
        triggers { __typename condition ... on EmailTrigger { to cc inReplyTo } ... on WebhookTrigger { url } } } }"""
TRIGGERS = [
    {
        "type": "EMAIL",
        "condition": "FAILURE",
        "email": {"to": "a@example.org, b@example.org", "cc": "c@example.org", "inReplyTo": "<x@example.org>"},
    },
    {"type": "WEBHOOK", "condition": "ALWAYS", "webhook": {"url": "https://example.org/hook"}},
]


@pytest.mark.covers("sourcehut: POST /query: mutation createGroup", "sourcehut.graphql.groups")
async def test_a_group_starts_its_jobs_and_tells_its_triggers(world: World) -> None:
    keys = [(await submit(world, execute=False))["id"] for _ in range(3)]

    made = (await ask(world.engine, world.owner, CREATE, jobs=keys, triggers=TRIGGERS, note="all"))["createGroup"]

    seen = "query($id: Int!) { job(id: $id) { id group { id triggers { condition } } } }"
    eve = await ask(world.engine, await world.user("eve"), seen, id=keys[0])
    assert eve == {"job": {"id": keys[0], "group": None}}
    assert (made["note"], made["owner"]) == ("all", {"canonicalName": "~bob"})
    assert made["jobs"] == [{"id": key, "status": "QUEUED", "group": {"id": made["id"]}} for key in keys]
    assert made["triggers"] == [
        {
            "__typename": "EmailTrigger",
            "condition": "FAILURE",
            "to": "a@example.org, b@example.org",
            "cc": "c@example.org",
            "inReplyTo": "<x@example.org>",
        },
        {"__typename": "WebhookTrigger", "condition": "ALWAYS", "url": "https://example.org/hook"},
    ]


@pytest.mark.covers("sourcehut: POST /query: mutation startGroup", "sourcehut.graphql.groups")
async def test_a_deferred_group_is_started_by_its_owner(world: World) -> None:
    keys = [(await submit(world, execute=False))["id"] for _ in range(2)]
    made = (await ask(world.engine, world.owner, CREATE, jobs=keys, execute=False))["createGroup"]
    start = "mutation($id: Int!) { startGroup(groupId: $id) { jobs { status } } }"

    assert [one["status"] for one in made["jobs"]] == ["PENDING", "PENDING"]
    eve = await world.user("eve")
    assert await ask_badly(world.engine, eve, start, id=made["id"]) == "Found no job group by this ID for your account"
    started = await ask(world.engine, world.owner, start, id=made["id"])
    assert [one["status"] for one in started["startGroup"]["jobs"]] == ["QUEUED", "QUEUED"]


@pytest.mark.covers("sourcehut.graphql.groups")
async def test_what_cannot_be_a_group_is_refused(world: World) -> None:
    waiting = (await submit(world, execute=False))["id"]
    queued = (await submit(world))["id"]

    for jobs in ([queued], [4711], [waiting, queued]):
        assert "Invalid list of job IDs" in await ask_badly(world.engine, world.owner, CREATE, jobs=jobs)
    bad = [{"type": "EMAIL", "condition": "ALWAYS"}]
    assert "needs the field email" in await ask_badly(world.engine, world.owner, CREATE, jobs=[waiting], triggers=bad)
    assert (await submit(world, execute=False))["status"] == "PENDING"
