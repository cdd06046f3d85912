"""Commit statuses to a stand-in that takes what the forges' public documentation says they take."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from buildyard.adapters.notifiers.statuses import StatusNotifier
from buildyard.domain.notifications import Event, Forge, StatusTarget
from buildyard.domain.states import Phase, Result
from buildyard.ports import Notice
from receiving import Received, Receiver

STATUSES = StatusNotifier(allow_local=True, timeout_s=30.0)
MakeNotice = Callable[..., Notice]
SHA = "c" * 40
RUNNING: dict[str, Any] = {"event": Event.STARTED, "phase": Phase.RUNNING, "result": None, "failed": ()}

PATHS = {
    Forge.GITHUB: ("/repos/acme/tool/statuses/" + SHA, 201),
    Forge.GITLAB: ("/api/v4/projects/acme%2Ftool/statuses/" + SHA, 201),
    Forge.GITEA: ("/api/v1/repos/acme/tool/statuses/" + SHA, 201),
    Forge.BITBUCKET: ("/2.0/repositories/acme/tool/commit/" + SHA + "/statuses/build", 201),
    Forge.BITBUCKET_SERVER: ("/rest/build-status/1.0/commits/" + SHA, 204),
}
BASES = {Forge.GITLAB: "/api/v4", Forge.GITEA: "/api/v1/"}
AUTHORIZATION = {
    Forge.GITHUB: ("Authorization", "Bearer t0ken"),
    Forge.GITLAB: ("PRIVATE-TOKEN", "t0ken"),
    Forge.GITEA: ("Authorization", "token t0ken"),
    Forge.BITBUCKET: ("Authorization", "Bearer t0ken"),
    Forge.BITBUCKET_SERVER: ("Authorization", "Bearer t0ken"),
}
LEGAL = {
    Forge.GITHUB: {"pending", "success", "failure", "error"},
    Forge.GITLAB: {"pending", "running", "success", "failed", "canceled", "skipped"},
    Forge.GITEA: {"pending", "success", "error", "failure", "warning"},
    Forge.BITBUCKET: {"INPROGRESS", "SUCCESSFUL", "FAILED", "STOPPED"},
    Forge.BITBUCKET_SERVER: {"INPROGRESS", "SUCCESSFUL", "FAILED"},
}


def stand_in(forge: Forge) -> Callable[[Received], Any]:
    """A forge: it knows one commit and one token, and is strict about the fields."""
    path, created = PATHS[forge]
    header, token = AUTHORIZATION[forge]

    async def answer(got: Received) -> web.StreamResponse:
        if got.headers.get(header) != token:
            return web.json_response({"message": "401 Unauthorized"}, status=401)
        if got.path != path:
            return web.json_response({"message": "Not Found"}, status=404)
        body = json.loads(got.body)
        needed = {"state", "key", "url"} if "bitbucket" in forge else {"state"}
        if not needed <= set(body) or body["state"] not in LEGAL[forge] or len(body.get("key", "")) > 40:
            return web.json_response({"message": "Validation Failed"}, status=422)
        return web.Response(status=created)

    return answer


def target(forge: Forge, receiver: Receiver) -> StatusTarget:
    return StatusTarget(forge=forge, repository="acme/tool", token="server:t", api=receiver.url + BASES.get(forge, ""))


@pytest.mark.covers("telling.statuses")
@pytest.mark.parametrize("forge", Forge)
@pytest.mark.parametrize("result", [None, *Result])
async def test_each_forge_takes_the_start_and_every_end(
    receiver: Receiver, make_notice: MakeNotice, forge: Forge, result: Result | None
) -> None:
    receiver.answer = stand_in(forge)
    state = RUNNING if result is None else {"result": result}

    outcome = await STATUSES.send(make_notice(target(forge, receiver), credential="t0ken", **state))

    assert (outcome.delivered, outcome.error, outcome.status) == (True, "", PATHS[forge][1])


@pytest.mark.covers("telling.statuses")
@pytest.mark.parametrize(
    ("forge", "running", "failed", "name"),
    [
        (Forge.GITHUB, "pending", "failure", "context"),
        (Forge.GITLAB, "running", "failed", "name"),
        (Forge.GITEA, "pending", "failure", "context"),
        (Forge.BITBUCKET, "INPROGRESS", "FAILED", "key"),
        (Forge.BITBUCKET_SERVER, "INPROGRESS", "FAILED", "key"),
    ],
)
async def test_a_status_names_its_pipeline_leads_to_the_build_and_says_what_failed(
    receiver: Receiver, make_notice: MakeNotice, forge: Forge, running: str, failed: str, name: str
) -> None:
    receiver.answer = stand_in(forge)

    await STATUSES.send(make_notice(target(forge, receiver), credential="t0ken", **RUNNING))
    await STATUSES.send(make_notice(target(forge, receiver), credential="t0ken"))

    start, end = [json.loads(got.body) for got in receiver.got]
    assert (start["state"], end["state"]) == (running, failed)
    assert start[name] == end[name] == "buildyard/main"
    assert "http://yard.example.org/-/api/v1/builds/7" in end.values()
    assert end["description"] == "build 3 ended with failure: tests"


@pytest.mark.covers("telling.statuses")
async def test_a_wrong_token_is_tried_again_for_people_can_put_it_right(
    receiver: Receiver, make_notice: MakeNotice
) -> None:
    receiver.answer = stand_in(Forge.GITHUB)

    outcome = await STATUSES.send(make_notice(target(Forge.GITHUB, receiver), credential="other"))

    assert (outcome.delivered, outcome.final, outcome.status) == (False, False, 401)


@pytest.mark.covers("telling.statuses")
async def test_gitlab_may_say_that_it_has_the_status_already(receiver: Receiver, make_notice: MakeNotice) -> None:
    receiver.always(400, '{"message":"Cannot transition status via :run from :running"}')

    outcome = await STATUSES.send(make_notice(target(Forge.GITLAB, receiver), credential="t0ken"))

    assert (outcome.delivered, outcome.error) == (True, "")


async def test_a_long_name_becomes_a_key_of_at_most_forty_characters(
    receiver: Receiver, make_notice: MakeNotice
) -> None:
    receiver.answer = stand_in(Forge.BITBUCKET)

    outcome = await STATUSES.send(make_notice(target(Forge.BITBUCKET, receiver), credential="t0ken", pipeline="p" * 80))

    assert outcome.delivered
    assert json.loads(receiver.got[0].body)["name"] == "buildyard/" + "p" * 80


@pytest.mark.parametrize("credential", ["", "a\r\nX-Evil: 1", "größe"])
async def test_a_token_that_is_none_is_never_sent(receiver: Receiver, make_notice: MakeNotice, credential: str) -> None:
    outcome = await STATUSES.send(make_notice(target(Forge.GITHUB, receiver), credential=credential))

    assert (outcome.delivered, receiver.got) == (False, [])
    assert credential not in outcome.error or not credential
