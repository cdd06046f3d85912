"""What a worker's token says of it wins over what it says of itself."""

import msgspec
import pytest

from apis.native.serving import Server
from buildyard.domain.access import SYSTEM
from buildyard.engine import identity
from buildyard.protocol import VERSION, Claim, Claimed, Hello

LABELLED = "jobs: {{a: {{run: 'true', labels: [{label}]}}}}"


async def claimed(server: Server, name: str, token: str, labels: list[str]) -> list[str]:
    """The projects of the jobs that a worker is given which says that it has these labels."""
    hello = Hello(
        protocol=VERSION,
        name=name,
        session=name,
        state_id=name,
        version="0",
        labels=labels,
        executors=["process"],
        system="x86_64-linux",
        slots=9,
    )
    said = await server.call("POST", "/worker/v1/hello", data=msgspec.msgpack.encode(hello), by=f"Bearer {token}")
    assert said.status == 200
    claim = Claim(session=name, free=9, have=[], wait_s=0)
    given = await server.call("POST", "/worker/v1/claim", data=msgspec.msgpack.encode(claim), by=f"Bearer {token}")
    return sorted(grant.project for grant in msgspec.msgpack.decode(given.data, type=Claimed).jobs)


async def token(server: Server, *labels: str, project: str | None = None) -> str:
    """The secret of a new worker's token."""
    made = await server.engine.run(
        identity.create_token, SYSTEM, "admin", ("runner",), labels=labels, project_uid=project
    )
    return made.secret


@pytest.mark.covers("worker.token")
async def test_labels_of_the_token_replace_those_that_the_worker_gives_itself(server: Server) -> None:
    for label in ("gpu", "signing"):
        assert (await server.submit(LABELLED.format(label=label), project=f"wants-{label}")).status == 201

    assert await claimed(server, "fixed", await token(server, "gpu"), ["gpu", "signing"]) == ["wants-gpu"]
    assert await claimed(server, "free", await token(server), ["gpu", "signing"]) == ["wants-signing"]


@pytest.mark.covers("worker.token")
async def test_a_token_of_a_project_gives_jobs_of_that_project_whatever_the_labels(server: Server) -> None:
    for name in ("his", "hers"):
        assert (await server.submit(LABELLED.format(label="gpu"), project=name)).status == 201
    found = await server.call("GET", "/api/projects?accountId=admin")
    uids = {one["name"]: one["id"] for one in found.body}

    bound = await token(server, "gpu", project=uids["his"])

    assert await claimed(server, "bound", bound, []) == ["his"]


@pytest.mark.covers("worker.token")
async def test_the_list_of_tokens_says_what_they_fix_and_not_their_secrets(server: Server) -> None:
    assert (await server.submit(LABELLED.format(label="gpu"), project="his")).status == 201
    wanted = {"user": "admin", "scopes": ["runner"], "project": "his", "labels": ["gpu", "feature:kvm"]}
    made = (await server.call("POST", "/tokens", wanted)).body

    listed = (await server.call("GET", "/tokens")).body["tokens"]

    (found,) = [token for token in listed if token["id"] == made["id"]]
    assert (found["project"], found["labels"], found["token"]) == ("his", ["gpu", "feature:kvm"], None)
