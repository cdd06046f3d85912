"""Webhooks of users over GraphQL: made, listed, sampled, deleted."""

import json

import pytest

from apis.graphql.asking import ask, ask_badly
from apis.graphql.test_jobs import submit
from world import World

CREATE = """mutation($config: UserWebhookInput!) { createUserWebhook(config: $config) {
    __typename id events query url client { uuid } } }"""
QUERY = "{ webhook { event ... on JobEvent { job { id status } } } }"
CONFIG = {"url": "https://example.org/hook", "events": ["JOB_CREATED", "JOB_UPDATED"], "query": QUERY}
SAMPLE = "query($id: Int!) { userWebhook(id: $id) { sample(event: JOB_CREATED) } }"


@pytest.mark.covers(
    "sourcehut: POST /query: mutation createUserWebhook",
    "sourcehut: POST /query: query userWebhook",
    "sourcehut: POST /query: query userWebhooks",
    "sourcehut.graphql.webhooks",
)
async def test_a_webhook_is_made_and_found_by_its_owner_only(world: World) -> None:
    made = (await ask(world.engine, world.owner, CREATE, config=CONFIG))["createUserWebhook"]
    one = "query($id: Int!) { userWebhook(id: $id) { id query } userWebhooks { cursor results { id url events } } }"

    found = await ask(world.engine, world.owner, one, id=made["id"])
    eve = await ask(world.engine, await world.user("eve"), one, id=made["id"])

    assert made == {"__typename": "UserWebhookSubscription", "client": None, "id": made["id"], **CONFIG}
    assert found["userWebhook"] == {"id": made["id"], "query": QUERY}
    assert found["userWebhooks"] == {
        "cursor": None,
        "results": [{"id": made["id"], "url": CONFIG["url"], "events": CONFIG["events"]}],
    }
    assert eve == {"userWebhook": None, "userWebhooks": {"cursor": None, "results": []}}


@pytest.mark.covers("sourcehut.graphql.webhooks")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": "{ nothing }"}, "Cannot query field"),
        ({"query": "mutation { cancel(jobId: 1) { id } }"}, "exactly one operation of the kind query"),
        ({"query": ""}, "Syntax Error"),
        ({"url": "ftp://example.org"}, "not valid"),
        ({"url": "http://127.0.0.1/"}, "not valid"),
        ({"events": []}, "not valid"),
        ({"events": ["JOB_CREATED", "JOB_CREATED"]}, "not valid"),
    ],
)
async def test_a_webhook_that_cannot_work_is_refused(world: World, change: dict[str, object], words: str) -> None:
    assert words in await ask_badly(world.engine, world.owner, CREATE, config={**CONFIG, **change})


@pytest.mark.covers("sourcehut.graphql.webhooks")
async def test_a_sample_is_what_would_be_sent_and_has_no_samples_in_it(world: World) -> None:
    key = (await ask(world.engine, world.owner, CREATE, config=CONFIG))["createUserWebhook"]["id"]

    assert "no job of yours yet" in await ask_badly(world.engine, world.owner, SAMPLE, id=key)
    job = (await submit(world))["id"]
    sample = (await ask(world.engine, world.owner, SAMPLE, id=key))["userWebhook"]["sample"]

    assert json.loads(sample) == {"data": {"webhook": {"event": "JOB_CREATED", "job": {"id": job, "status": "QUEUED"}}}}
    nested = {**CONFIG, "query": "{ userWebhooks { results { sample(event: JOB_CREATED) } } }"}
    key = (await ask(world.engine, world.owner, CREATE, config=nested))["createUserWebhook"]["id"]
    sample = (await ask(world.engine, world.owner, SAMPLE, id=key))["userWebhook"]["sample"]
    assert "has no samples" in json.loads(sample)["errors"][0]["message"]


@pytest.mark.covers("sourcehut: POST /query: mutation deleteUserWebhook", "sourcehut.graphql.webhooks")
async def test_what_was_sent_is_listed_until_the_webhook_is_deleted(world: World) -> None:
    key = (await ask(world.engine, world.owner, CREATE, config=CONFIG))["createUserWebhook"]["id"]
    await submit(world)
    sent = """query($id: Int!) { userWebhook(id: $id) { deliveries { cursor results {
        uuid date event subscription { id } requestBody responseBody responseHeaders responseStatus } } } }"""
    delete = "mutation($id: Int!) { deleteUserWebhook(id: $id) { id } }"

    (delivery,) = (await ask(world.engine, world.owner, sent, id=key))["userWebhook"]["deliveries"]["results"]
    assert (delivery["event"], delivery["subscription"], delivery["responseStatus"]) == (
        "JOB_CREATED",
        {"id": key},
        None,
    )
    eve = await world.user("eve")
    assert await ask_badly(world.engine, eve, delete, id=key) == "webhook not found"
    assert await ask(world.engine, world.owner, delete, id=key) == {"deleteUserWebhook": {"id": key}}
    assert await ask(world.engine, world.owner, sent, id=key) == {"userWebhook": None}
