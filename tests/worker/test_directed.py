"""What a worker does when the server wishes it to pause, to leave, or is of another version; and whose clock counts."""

import time

import pytest

from buildyard.domain.states import Result
from buildyard.protocol import VERSION, Item, Output
from buildyard.worker.clock import Clock, ticks
from worker.conftest import Working
from worker.model_server import ModelServer
from worker.test_connection import running
from worker.test_steps import job

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


@pytest.mark.covers("worker.drained")
async def test_a_worker_that_shall_drain_ends_what_it_has_and_leaves(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print begun\nhang"))
    async with working() as worker:
        await running(attempt)
        server.direct(draining=True)
        following = server.submit(job("print never"))
        await server.until(lambda: server.claims[-1].free == 0)
        assert worker.is_draining
        assert server.left == []
        server.cancel(attempt)
        await attempt.finished()
        await server.until(lambda: server.left)

    assert server.left == [server.hellos[0].session]
    assert following.session == ""


@pytest.mark.covers("worker.drained")
async def test_a_drain_that_is_taken_back_in_time_lets_it_go_on(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print begun\nhang"))
    async with working():
        await running(attempt)
        server.direct(draining=True)
        await server.until(lambda: server.claims[-1].free == 0)
        server.direct()
        following = server.submit(job("print next"))
        await following.finished()
        assert server.left == []
        server.cancel(attempt)
        await attempt.finished()


@pytest.mark.covers("worker.pause")
async def test_a_paused_worker_stays_and_goes_on_when_it_is_resumed(server: ModelServer, working: Working) -> None:
    server.direct(paused=True)
    attempt = server.submit(job("print hello"))
    async with working():
        await server.until(lambda: len(server.heartbeats) > 1)
        assert attempt.session == ""
        server.direct()
        await attempt.finished()


@pytest.mark.covers("worker.versions")
async def test_a_worker_that_is_refused_for_its_version_asks_again_until_the_server_is_another(
    server: ModelServer, working: Working
) -> None:
    server.protocol = VERSION + 1
    refused = server.calls["hello"]
    attempt = server.submit(job("print hello"))
    async with working(incompatible_s=0.05):
        await server.until(lambda: server.calls["hello"] >= refused + 3)
        assert attempt.session == ""
        server.protocol = VERSION
        await attempt.finished()


@pytest.mark.covers("worker.versions")
async def test_what_runs_goes_on_and_is_reported_to_a_server_that_gives_no_more_jobs_to_this_version(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("print begun\nhang"))
    async with working(incompatible_s=0.05):
        await running(attempt)
        server.protocol = VERSION + 1
        server.submit(job("print never"))
        refused = server.calls["hello"]
        await server.until(lambda: server.calls["hello"] >= refused + 2)
        count = len(server.heartbeats)
        await server.until(lambda: len(server.heartbeats) > count)
        server.cancel(attempt)
        end = await attempt.finished()

    assert end.result is Result.CANCELLED


@pytest.mark.covers("worker.versions")
@pytest.mark.parametrize("newer", [True, False], ids=["newer", "older"])
async def test_a_server_that_tells_more_or_less_of_this_version_is_understood(
    server: ModelServer, working: Working, newer: bool
) -> None:
    if newer:
        server.unknown = {"later": {"nested": [1, None]}, "and_more": "words"}
    else:
        server.withheld = {"now", "paused", "draining", "drop"}
        server.heartbeat_s = 0.05
    attempt = server.submit(job("print hello"))
    async with working():
        await attempt.finished()
        await server.until(lambda: len(server.heartbeats) > 2)

    assert attempt.output() == "hello\n"


@pytest.mark.covers("worker.clock")
def test_the_servers_clock_counts_however_wrong_this_machines_is() -> None:
    clock = Clock()
    assert abs(clock.now() - time.time_ns() // 1000) < 60 * SECOND

    sent_at = ticks()
    clock.learn(NOW, sent_at, sent_at + 0.2)

    assert 0 <= clock.now() - (NOW - SECOND // 10) < 60 * SECOND


@pytest.mark.covers("worker.clock")
def test_a_reading_that_was_long_on_its_way_does_not_spoil_a_better_one() -> None:
    clock = Clock()
    at = ticks()
    clock.learn(NOW, at, at + 0.01)

    clock.learn(NOW + 1 * SECOND, at, at + 20)

    assert clock.now() - NOW >= -SECOND


@pytest.mark.covers("worker.clock")
def test_a_reading_that_proves_the_old_one_wrong_counts_however_long_its_way() -> None:
    clock = Clock()
    at = ticks()
    clock.learn(NOW, at, at + 0.01)

    clock.learn(NOW + 7200 * SECOND, at, at + 20)

    assert clock.now() - NOW > 7000 * SECOND


@pytest.mark.covers("worker.clock")
async def test_heartbeats_tell_of_a_servers_clock_that_was_set(server: ModelServer, working: Working) -> None:
    times: list[int] = []

    def note(item: Item) -> None:
        if isinstance(item, Output):
            times.extend(chunk.at for chunk in item.chunks)

    server.ack = note
    async with working():
        await server.until(lambda: server.heartbeats)
        server.clock_offset = -5 * 3600 * SECOND
        count = len(server.heartbeats)
        await server.until(lambda: len(server.heartbeats) > count + 1)
        await server.submit(job("print hello")).finished()

    assert all(abs(at - server.now()) < 120 * SECOND for at in times)
    assert times
