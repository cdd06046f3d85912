"""Webhooks to a real HTTP server: what it gets, what its answers come to, where none is sent."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from buildyard.adapters.notifiers.webhooks import WebhookNotifier
from buildyard.domain.notifications import Event, WebhookTarget
from buildyard.domain.states import Phase
from buildyard.ports import ANSWER_BYTES, Notice
from receiving import Received, Receiver

HOOKS = WebhookNotifier(allow_local=True, timeout_s=30.0)
MakeNotice = Callable[..., Notice]


@pytest.mark.covers("telling.webhooks")
async def test_the_receiver_can_tell_who_sent_it_what_and_which_message_it_is(
    receiver: Receiver, make_notice: MakeNotice
) -> None:
    target = WebhookTarget(url=f"{receiver.url}/hook?key=1", secret="server:hook")

    outcome = await HOOKS.send(make_notice(target, credential="s3cret"))

    (got,) = receiver.got
    assert (outcome.delivered, outcome.status, got.path) == (True, 204, "/hook?key=1")
    assert got.headers["X-Buildyard-Event"] == "build.finished"
    assert got.headers["X-Buildyard-Delivery"] == "0190aaaa-0000-7000-8000-00000000000d"
    signed = got.headers["X-Buildyard-Timestamp"].encode() + b"." + got.body
    expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert got.headers["X-Buildyard-Signature"] == f"sha256={expected}"
    assert outcome.request.encode() == got.body


@pytest.mark.covers("telling.webhooks")
async def test_the_document_says_what_was_built_and_what_failed_without_credentials(
    receiver: Receiver, make_notice: MakeNotice
) -> None:
    await HOOKS.send(make_notice(WebhookTarget(url=receiver.url)))

    (got,) = receiver.got
    told = json.loads(got.body)
    assert "X-Buildyard-Signature" not in got.headers
    assert b"secret" not in got.body
    assert (told["schema"], told["event"], told["build"]["result"]) == (1, "build.finished", "failure")
    assert told["source"]["repository"] == "https://***@example.org/hello.git"
    assert told["source"]["message"] == "Größer\n\nand better"
    assert told["failed"] == [
        {"job": "tests", "step": "pytest", "result": "failure", "cause": "", "detail": "exit status 1"}
    ]
    assert set(told["build"]) == {
        "uid", "id", "number", "phase", "result", "cause", "detail", "note", "restarts", "submitter", "link", "jobs",
        "failed_jobs", "created_at", "started_at", "finished_at",
    }  # fmt: skip


async def test_a_start_is_told_as_such(receiver: Receiver, make_notice: MakeNotice) -> None:
    begun = make_notice(WebhookTarget(url=receiver.url), event=Event.STARTED, phase=Phase.RUNNING, result=None,
                        finished_at=None, failed=(), failures=0)  # fmt: skip

    await HOOKS.send(begun)

    told = json.loads(receiver.got[0].body)
    assert (told["event"], told["build"]["phase"], told["build"]["result"]) == ("build.started", "running", None)


@pytest.mark.covers("telling.retries")
@pytest.mark.parametrize(
    ("status", "final"), [(302, True), (400, True), (404, False), (410, True), (429, False), (503, False)]
)
async def test_a_refusal_is_kept_with_status_headers_and_text(
    receiver: Receiver, make_notice: MakeNotice, status: int, final: bool
) -> None:
    receiver.always(status, "no, sorry", {"Retry-After": "120", "Location": f"{receiver.url}/elsewhere"})

    outcome = await HOOKS.send(make_notice(WebhookTarget(url=receiver.url)))

    assert (outcome.delivered, outcome.final, outcome.status, outcome.body) == (False, final, status, "no, sorry")
    assert (outcome.retry_after_s, len(receiver.got)) == (120.0, 1)
    assert "retry-after: 120" in outcome.headers


@pytest.mark.covers("telling.webhooks.targets")
async def test_of_an_endless_answer_the_beginning_is_kept(receiver: Receiver, make_notice: MakeNotice) -> None:
    async def endless(_received: Received) -> web.StreamResponse:
        return web.Response(status=500, body=b"\x00\xff\x1b" + b"x" * 1024**2)

    receiver.answer = endless

    outcome = await HOOKS.send(make_notice(WebhookTarget(url=receiver.url)))

    assert outcome.status == 500
    assert len(outcome.body) <= ANSWER_BYTES
    assert outcome.body.startswith("\ufffd\ufffd\ufffdx")


async def test_a_target_that_does_not_answer_is_given_up_in_time(receiver: Receiver, make_notice: MakeNotice) -> None:
    gate = asyncio.Event()

    async def wait(_received: Received) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    receiver.answer = wait
    outcome = await WebhookNotifier(allow_local=True, timeout_s=0.3).send(make_notice(WebhookTarget(url=receiver.url)))
    gate.set()

    assert (outcome.delivered, outcome.final, outcome.status) == (False, False, 0)
    assert "0.3 s" in outcome.error


async def test_a_target_that_cannot_be_reached_is_tried_again(receiver: Receiver, make_notice: MakeNotice) -> None:
    closed = WebhookTarget(url="http://127.0.0.1:9/")

    outcome = await HOOKS.send(make_notice(closed))

    assert (outcome.delivered, outcome.final, outcome.status) == (False, False, 0)
    assert "cannot be reached" in outcome.error


@pytest.mark.covers("telling.webhooks.targets")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_nothing_is_sent_to_private_addresses(receiver: Receiver, make_notice: MakeNotice, host: str) -> None:
    port = receiver.url.rpartition(":")[2]

    outcome = await WebhookNotifier(allow_local=False).send(make_notice(WebhookTarget(url=f"http://{host}:{port}/")))

    assert (outcome.delivered, outcome.final, receiver.got) == (False, True, [])
    assert "BUILDYARD_ALLOW_LOCAL_SOURCES" in outcome.error
