"""Secrets over our own API: set, listed without values, deleted, given to workers only."""

import base64
import json
from typing import Any

import msgspec
import pytest

from apis.native.serving import Server
from buildyard.protocol import VERSION, Claim, Claimed, Hello

VALUE = "s3cret-of-bob"
WORKFLOW = "jobs: {a: {run: 'true', secrets: [TOKEN, {name: KEY, as: file, path: ~/.ssh/id, mode: '0400'}]}}"


def new(name: str, value: str = VALUE, **more: Any) -> dict[str, Any]:
    """The body of a request that sets a secret."""
    return {"name": name, "value": base64.b64encode(value.encode()).decode(), **more}


async def claim(server: Server, token: str) -> Claimed:
    """What a worker is given."""
    hello = Hello(
        protocol=VERSION, name="w", session="s", state_id="w", version="0", labels=[], executors=["process"],
        system="x86_64-linux", slots=9,
    )  # fmt: skip
    assert (await server.call("POST", "/worker/v1/hello", data=msgspec.msgpack.encode(hello), by=token)).status == 200
    wish = Claim(session="s", free=9, have=[], wait_s=0)
    given = await server.call("POST", "/worker/v1/claim", data=msgspec.msgpack.encode(wish), by=token)
    return msgspec.msgpack.decode(given.data, type=Claimed)


@pytest.mark.covers("secrets.api", "secrets.hidden")
async def test_a_secret_travels_from_who_sets_it_to_the_worker_and_shows_nowhere_else(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (await server.submit("jobs: {a: {run: 'true'}}", project="hello")).status == 201
    await claim(server, await server.token("admin", "runner"))
    answers = [
        await server.call("PUT", "/secrets", new("TOKEN", account="admin")),
        await server.call("PUT", "/secrets", new("KEY", project="hello", kind="ssh_key")),
        await server.submit(WORKFLOW, project="hello"),
    ]
    assert [one.status for one in answers] == [200, 200, 201]
    grants = (await claim(server, await server.token("admin", "runner"))).jobs
    (grant,) = [one for one in grants if one.secrets]
    answers += [
        await server.call("GET", "/secrets"),
        await server.call("GET", "/secrets?project=hello"),
        await server.call("GET", f"/builds/{grant.build}"),
        await server.call("GET", "/api/audit-logs"),
        await server.call("PUT", "/secrets", new("TOKEN", project="hello", kind="none")),
        await server.call("PUT", "/secrets", {**new("TOKEN", project="hello"), "value": VALUE}),
        await server.call("PUT", "/secrets", {**new("TOKEN", project="hello"), "mode": VALUE}),
        await server.call("PUT", "/secrets", new("", project="hello")),
    ]

    assert [(one.variable, one.value.decode(), one.path, one.mode) for one in grant.secrets] == [
        ("TOKEN", VALUE, "", 0o600),
        ("KEY", VALUE, ".ssh/id", 0o400),
    ]
    assert [one.status for one in answers[3:]] == [200, 200, 200, 200, 400, 400, 400, 400]
    shown = b"".join(one.data for one in answers) + "".join(capfd.readouterr()).encode()
    assert VALUE.encode() not in shown
    assert base64.b64encode(VALUE.encode()) not in shown
    assert b"secret.use" in answers[6].data
    (key,) = answers[4].body["secrets"]
    assert {name: key[name] for name in ("name", "kind", "scope", "project", "mode")} == {
        "name": "KEY", "kind": "ssh_key", "scope": "project", "project": "hello", "mode": "0600",
    }  # fmt: skip
    assert key["used_at"] is not None
    assert len(answers[3].body["secrets"]) == 2


@pytest.mark.covers("secrets.api", "secrets.unknown")
async def test_a_workflow_that_names_an_unknown_secret_is_refused_with_words_that_help(server: Server) -> None:
    refused = await server.submit(WORKFLOW, project="hello")

    assert refused.status == 400
    assert refused.body["error"] == (
        "there is no secret KEY, TOKEN for hello:main; set it with `buildyard secret set KEY --project hello`"
    )
    assert refused.body["faults"][0]["code"] == "unknown_secret"


@pytest.mark.covers("secrets.api", "secrets.access")
async def test_only_tokens_for_secrets_set_them_and_none_reads_them(server: Server) -> None:
    assert (await server.submit("jobs: {a: {run: 'true'}}", project="hello")).status == 201
    writing, working = await server.token("admin", "secrets:write"), await server.token("admin", "jobs:write")
    stranger = await server.token("eve", "*")

    assert (await server.call("PUT", "/secrets", new("A", project="hello"), by=writing)).status == 200
    assert (await server.call("PUT", "/secrets", new("A", project="hello"), by=working)).status == 403
    assert (await server.call("PUT", "/secrets", new("A", project="hello"), by=stranger)).status == 404
    assert (await server.call("PUT", "/secrets", new("A", project="hello"), by=None)).status in (401, 404)
    assert (await server.call("GET", "/secrets", by=stranger)).body == {"secrets": []}
    assert (await server.call("GET", "/secrets/A?project=hello")).status == 405
    assert (await server.call("DELETE", "/secrets/A?project=hello", by=stranger)).status == 404
    assert (await server.call("DELETE", "/secrets/A?project=hello", by=writing)).status == 204
    assert (await server.call("DELETE", "/secrets/A?project=hello", by=writing)).status == 404


@pytest.mark.covers("secrets.api", "secrets.rotation")
async def test_the_key_is_rotated_by_administrators(server: Server) -> None:
    assert (await server.call("PUT", "/secrets", new("A", account="admin"))).status == 200

    assert (await server.call("POST", "/secrets/rotate-key", {}, by=await server.token("eve", "*"))).status == 403
    rotated = await server.call("POST", "/secrets/rotate-key", {})

    assert (rotated.status, rotated.body["rewritten"], rotated.body["damaged"]) == (200, 1, 0)
    assert len(json.loads(rotated.data)["key"]) == 16
