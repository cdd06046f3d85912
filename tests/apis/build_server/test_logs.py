"""Logs of steps: whole, by range, as lines, the tail, and live."""

import asyncio
import json
from typing import Any

import pytest

from apis.build_server.serving import Api, Submitted, step
from apis.build_server.test_runner import claimed, complete, send


async def written(api: Api) -> tuple[Submitted, str]:
    """A finished step that wrote a few lines in its setup and its run, and the address of its log."""
    build = await api.build(step())
    path, token = await claimed(api, build)
    await send(api, path, token, b"setup\n", command=0)
    await send(api, path, token, "eins\nzwölf\ndrei".encode())
    await complete(api, path, token=token)
    return build, f"/api/steps/{build.steps['test']}/logs"


WHOLE = "setup\neins\nzwölf\ndrei".encode()


@pytest.mark.covers("build-server: GET /api/steps/{id}/logs", "build_server.bytes")
async def test_a_log_is_read_whole_and_by_ranges(api: Api) -> None:
    _, address = await written(api)

    whole = await api.get(address)

    assert (whole.status, whole.data) == (200, WHOLE)
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    for header, expected in {
        "bytes=0-0": (206, WHOLE[:1]),
        "bytes=4-8": (206, WHOLE[4:9]),
        "bytes=7-": (206, WHOLE[7:]),
        "bytes=-3": (206, WHOLE[-3:]),
        "bytes=99-": (200, WHOLE),
        "lines=1-2": (200, WHOLE),
    }.items():
        part = await api.get(address, headers={"Range": header})
        assert (part.status, part.data) == expected, header


@pytest.mark.covers("build-server: GET /api/steps/{id}/logs")
async def test_a_log_is_read_as_lines_of_json_and_by_its_tail(api: Api) -> None:
    _, address = await written(api)

    lines = await api.get(address, headers={"Accept": "application/x-ndjson"})
    tail = await api.get(f"{address}?tail=2")

    decoded = [json.loads(line) for line in lines.data.splitlines()]
    assert [(one["step"], one["number"], one["text"]) for one in decoded] == [
        ("setup", 0, "setup"),
        ("run", 0, "eins"),
        ("run", 1, "zwölf"),
        ("run", 2, "drei"),
    ]
    assert tail.data.decode() == "zwölf\ndrei\n"
    assert (await api.get(f"{address}?tail=99")).data.decode() == "setup\neins\nzwölf\ndrei\n"
    assert (await api.get(f"{address}?tail=-1")).status == 400


def events(data: bytes) -> list[tuple[str, str, Any]]:
    """The server-sent events in some bytes: name, id, decoded data."""
    found = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":") and line)
        if fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


async def test_a_finished_log_is_followed_to_its_end_from_any_position(api: Api) -> None:
    _, address = await written(api)

    sse = {"Accept": "text/event-stream"}
    whole = events((await api.get(address, headers=sse)).data)
    later = events((await api.get(address, headers={**sse, "Last-Event-ID": "7"})).data)

    assert "".join(data["text"] for _, _, data in whole[:-1]).encode() == WHOLE
    assert whole[-2][1] == str(len(WHOLE))
    assert whole[-1] == ("end", "", {"status": "SUCCESS", "reason": "success"})
    assert "".join(data["text"] for _, _, data in later[:-1]).encode() == WHOLE[7:]


async def test_a_log_is_followed_from_before_its_beginning_through_a_lost_attempt(api: Api) -> None:
    from buildyard.domain.access import SYSTEM
    from buildyard.engine.leasing import lose_attempts
    from buildyard.engine.loops import seal_logs_of

    build = await api.build(step("first"), step("test", dependsOn=["first"]))
    address = f"{api.url}/api/steps/{build.steps['test']}/logs"
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def read() -> bytes:
        whole = b""
        async with api.session.get(f"{address}?follow=1") as response:
            async for piece in response.content.iter_any():
                whole += piece
                seen.put_nowait(whole)
        return whole

    async def until(text: bytes) -> None:
        while not (await seen.get()).endswith(text):
            pass

    async with asyncio.timeout(60):
        reading = asyncio.create_task(read())
        await complete(api, f"/api/runner/{build.steps['first']}")
        path, token = await claimed(api, build)
        await send(api, path, token, b"one")
        await until(b"one")
        key = await api.engine.read(_last_attempt, SYSTEM, build.steps["test"])
        await api.engine.run(lose_attempts, SYSTEM, [key], "test")
        await seal_logs_of(api.engine, [key])
        path, token = await claimed(api, build)
        await send(api, path, token, b"two\n")
        await until(b"one\n--- attempt 2 ---\ntwo\n")
        await complete(api, path, token=token)
        assert await reading == b"one\n--- attempt 2 ---\ntwo\n"
    assert (await api.get(address.removeprefix(api.url))).data == b"one\n--- attempt 2 ---\ntwo\n"
    middle = await api.get(address.removeprefix(api.url), headers={"Range": "bytes=2-9"})
    assert middle.data == b"e\n--- at"


async def _last_attempt(tx: Any, _actor: Any, uid: str) -> Any:
    from buildyard.store import attempts, jobs

    return (await attempts.of_job(tx, (await jobs.get_by_uid(tx, uid)).id))[-1].id


async def test_following_a_step_that_never_runs_ends(api: Api) -> None:
    build = await api.build(step("first"), step("test", dependsOn=["first"]))
    following = asyncio.create_task(
        api.get(f"/api/steps/{build.steps['test']}/logs", headers={"Accept": "text/event-stream"})
    )

    await complete(api, f"/api/runner/{build.steps['first']}", "failed")

    answer = await asyncio.wait_for(following, 60)
    assert events(answer.data) == [("end", "", {"status": "FAILED", "reason": "dependency_failed"})]


@pytest.mark.covers("logs.binary")
async def test_a_character_cut_in_two_by_chunks_is_followed_whole(api: Api) -> None:
    build = await api.build(step())
    path, token = await claimed(api, build)
    euro = "€".encode()
    await send(api, path, token, euro[:1])
    await send(api, path, token, euro[1:] + b"\xff", offset=1)
    await complete(api, path, token=token)

    answer = await api.get(f"/api/steps/{build.steps['test']}/logs", headers={"Accept": "text/event-stream"})

    assert "".join(data["text"] for name, _, data in events(answer.data) if name == "log") == "€\ufffd"
