"""Each path has one owner, chosen by whole segments; the start page greets people."""

import pytest
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from buildyard.apis.dispatch import Dispatcher, Mount
from buildyard.web.start import start_app


class Named:
    """An application that only has a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve nothing."""


def test_the_longest_path_of_whole_segments_decides() -> None:
    jobs, jobsets, api, rest = Named("jobs"), Named("jobsets"), Named("api"), Named("rest")
    dispatcher = Dispatcher(
        [Mount("/api/jobs", "a", jobs), Mount("/api/jobsets", "b", jobsets), Mount("/api", "c", api)], fallback=rest
    )
    owners = {
        "/api/jobs": jobs,
        "/api/jobs/7": jobs,
        "/api/jobsets": jobsets,
        "/api/jobsetsx": api,
        "/api": api,
        "/apix": rest,
        "/": rest,
    }
    assert {path: dispatcher.owner_of(path) for path in owners} == owners


def test_a_beginning_of_a_segment_is_owned_where_no_whole_segments_are() -> None:
    people, logs, rest = Named("people"), Named("logs"), Named("rest")
    dispatcher = Dispatcher([Mount("/~*", "a", people), Mount("/logs", "b", logs)], fallback=rest)
    owners = {"/~bob": people, "/~bob.svg": people, "/~bob/x/y": people, "/logs/~bob": logs, "/bob": rest, "/": rest}
    assert {path: dispatcher.owner_of(path) for path in owners} == owners


def test_two_owners_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="belongs to a and to b"):
        Dispatcher([Mount("/api", "a", Named("a")), Mount("/api/", "b", Named("b"))], fallback=Named("rest"))


async def get(app: Starlette, path: str) -> tuple[int, str]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


async def test_the_start_page_leads_on_and_unknown_addresses_say_so() -> None:
    status, page = await get(start_app(), "/")
    assert (status, 'href="/docs"' in page) == (200, True)
    assert await get(start_app(), "/nowhere") == (404, "There is nothing at this address.\n")
