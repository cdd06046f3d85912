"""Workers and servers that lose each other: leases, fencing, reconnects, repeated and late deliveries."""

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from buildyard.domain.states import Cause, Result, Stream
from buildyard.protocol import Ack, Answer, Claimed, Finished, Item, Output, StepStarted
from worker.conftest import Working
from worker.model_server import GENEROUS_S, Attempt, Call, Fault, ModelServer
from worker.test_steps import job


async def running(attempt: Attempt) -> None:
    """Wait until the job printed its first line."""
    await attempt.until(lambda attempt: "\n" in attempt.output())


async def test_a_worker_that_finds_no_server_waits_for_it(working: Working, socket: Path) -> None:
    server = ModelServer()
    attempt = server.submit(job("print hello"))

    async with working():
        await asyncio.sleep(0)
        async with server.listening(socket):
            await attempt.finished()

    assert attempt.output() == "hello\n"


async def test_a_job_goes_on_while_the_server_restarts_and_its_log_continues(
    server: ModelServer, working: Working, socket: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    script = f"echo before; until [ -e {go_on} ]; do sleep 0.02; done; echo after"
    attempt = server.submit(job(script, executor="process"))

    async with working():
        await running(attempt)
        await server.stop()
        go_on.touch()
        await server.start(socket)
        end = await attempt.finished()
        await server.until(lambda: len(server.hellos) >= 2)

    assert end.result is Result.SUCCESS
    assert attempt.output() == "before\nafter\n"
    assert server.hellos[-1].session == server.hellos[0].session


async def test_after_a_restart_the_worker_says_what_it_holds(
    server: ModelServer, working: Working, socket: Path
) -> None:
    attempt = server.submit(job("print begun\nhang"))

    async with working():
        await running(attempt)
        await server.stop()
        await server.start(socket)
        await server.until(lambda: len(server.hellos) >= 2)

        assert [(held.attempt, held.token) for held in server.hellos[-1].held] == [(1, attempt.token)]


async def test_a_server_that_forgot_the_session_is_greeted_again(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("print begun\nhang"))

    async with working():
        await running(attempt)
        server.sessions.clear()
        await server.until(lambda: len(server.hellos) >= 2)
        server.cancel(attempt)
        end = await attempt.finished()

    assert end.result is Result.CANCELLED


async def test_a_worker_that_returns_too_late_kills_its_work(
    server: ModelServer, working: Working, socket: Path, tmp_path: Path
) -> None:
    attempt = server.submit(job("print begun\nhang"))

    async with working(slots=1):
        await running(attempt)
        await server.stop()
        server.drop(attempt)
        await server.start(socket)
        following = server.submit(job("print next"))
        await following.finished()

    assert attempt.ends == []
    assert list((tmp_path / "state/workspaces").iterdir()) == []


async def test_a_stale_report_kills_the_attempt(server: ModelServer, working: Working, tmp_path: Path) -> None:
    server.heartbeat_s = 60
    attempt = server.submit(job("sleep 1000", executor="process"))

    def take_away(item: Item) -> Ack | None:
        if item.attempt == attempt.grant.attempt and isinstance(item, StepStarted):
            attempt.session = attempt.token = "somebody else's"
            return Ack(answer=Answer.STALE)
        return None

    server.ack = take_away
    async with working(slots=1):
        await server.submit(job("true")).finished()

    assert attempt.ends == []
    assert list((tmp_path / "state/workspaces").iterdir()) == []


async def test_heartbeats_go_on_while_jobs_print_and_claims_wait(server: ModelServer, working: Working) -> None:
    attempt = server.submit(job("yes | head -c 30000000", executor="process"))

    async with working():
        await attempt.finished()
        count = len(server.heartbeats)
        await server.until(lambda: len(server.heartbeats) >= count + 3)

    assert bytes(attempt.log(1).data) == b"y\n" * 15_000_000


async def test_a_job_whose_grant_was_lost_is_delivered_again_and_runs_once(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    server.fault = lambda call: Fault.DROP_AFTER if call == Call("claim", 0) else Fault.NONE
    server.new_tokens = True
    attempt = server.submit(job(f"echo ran >> {tmp_path}/oracle", executor="process"))

    async with working():
        await attempt.finished()

    assert attempt.token == "token-1+"
    assert (tmp_path / "oracle").read_text() == "ran\n"


async def test_a_job_delivered_twice_runs_once_and_takes_the_new_token(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    script = f"echo ran >> {tmp_path}/oracle; echo ran; until [ -e {go_on} ]; do sleep 0.02; done"
    server.heartbeat_s = 60
    attempt = server.submit(job(script, executor="process"))

    def again(claimed: Claimed) -> Claimed:
        """Once the job runs, deliver it a second time, with a new token."""
        if not claimed.jobs:
            return claimed
        attempt.token = "token-2"
        return Claimed(jobs=[msgspec.structs.replace(attempt.grant, token="token-2")])

    async with working():
        await running(attempt)
        server.claimed = again
        following = server.submit(job("true"))
        await server.until(lambda: attempt.token == "token-2")
        server.claimed = lambda claimed: claimed
        await following.finished()
        go_on.touch()
        await attempt.finished()

    assert (tmp_path / "oracle").read_text() == "ran\n"


async def test_a_finished_job_that_is_delivered_again_is_not_run_again(
    server: ModelServer, working: Working, tmp_path: Path
) -> None:
    attempt = server.submit(job(f"echo ran >> {tmp_path}/oracle", executor="process"))

    async with working():
        await attempt.finished()
        while attempt.grant.attempt in server.claims[-1].have:
            await server.submit(job("true")).finished()
        server.claimed = lambda claimed: Claimed(jobs=[attempt.grant, *claimed.jobs])
        following = server.submit(job("true"))
        await following.finished()

    assert (tmp_path / "oracle").read_text() == "ran\n"


async def test_a_grant_that_comes_later_than_its_lease_is_not_begun(
    working: Working, socket: Path, tmp_path: Path
) -> None:
    server = ModelServer(lease_s=0.5, heartbeat_s=0.1)
    late = asyncio.get_running_loop().create_future()

    def hold_up(call: Call) -> "asyncio.Future[None] | None":
        return late if call == Call("claim", 0) else None

    server.before = hold_up
    attempt = server.submit(job(f"echo ran >> {tmp_path}/oracle", executor="process"))
    async with server.listening(socket), working():
        await server.until(lambda: len(server.heartbeats) >= 8)
        late.set_result(None)
        await server.until(lambda: len(server.claims) >= 2)
        assert server.claims[1].have == []
        await attempt.finished()

    assert (tmp_path / "oracle").read_text() == "ran\n"


async def test_reports_that_the_store_did_not_take_are_sent_again(server: ModelServer, working: Working) -> None:
    refusals = iter([Ack(answer=Answer.RETRY)] * 3)
    server.ack = lambda item: next(refusals, None) if isinstance(item, Output) else None
    attempt = server.submit(job("print one\nprint two"))

    async with working():
        await attempt.finished()

    assert attempt.output() == "one\ntwo\n"


async def test_output_that_the_server_refuses_ends_the_attempt_in_an_error(
    server: ModelServer, working: Working
) -> None:
    attempt = server.submit(job("print one\nhang"))
    log = attempt.grant.steps[1].log
    refused = Ack(answer=Answer.REFUSED, detail="the log is sealed")
    server.ack = lambda item: refused if isinstance(item, Output) and item.log == log else _lenient(attempt, item)

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.STORAGE)
    assert "the log is sealed" in end.detail


def _lenient(attempt: Attempt, item: Item) -> Ack | None:
    """Takes steps whose logs are not whole, too."""
    return Ack(answer=Answer.DONE) if not isinstance(item, Finished | Output) else None


async def test_an_end_that_the_server_refuses_becomes_an_error(server: ModelServer, working: Working) -> None:
    refused = Ack(answer=Answer.REFUSED, detail="unknown blob")
    server.ack = lambda item: refused if isinstance(item, Finished) and item.result is Result.SUCCESS else None
    attempt = server.submit(job("true"))

    async with working():
        end = await attempt.finished()

    assert (end.result, end.cause) == (Result.ERROR, Cause.STORAGE)
    assert "unknown blob" in end.detail


async def test_the_times_of_output_are_those_of_the_servers_clock(server: ModelServer, working: Working) -> None:
    seen: list[int] = []

    def note(item: Item) -> None:
        if isinstance(item, Output):
            seen.extend(chunk.at for chunk in item.chunks)

    server.ack = note
    server.clock_offset = 3600 * 1_000_000
    attempt = server.submit(job("print hello"))
    async with working():
        await attempt.finished()

    now = server.now()
    assert seen
    assert all(now - 60_000_000 < at <= now for at in seen)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_befalls_the_connection_each_job_runs_once_and_ends_once(
    server: ModelServer, working: Working, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    oracle = tmp_path / "oracle"
    faults = [*Fault, *[Fault.NONE] * 12]

    def delay(call: Call) -> "asyncio.Future[None] | None":
        if chance.random() > 0.1:
            return None
        return asyncio.ensure_future(asyncio.sleep(chance.random() * 0.05))

    server.fault = lambda call: Fault.NONE if call.name == "hello" else chance.choice(faults)
    server.before = delay
    script = f"echo $BUILDYARD_BUILD_ID >> {oracle}; echo out; echo err >&2"
    attempts = [server.submit(job(script, "echo two", executor="process")) for _ in range(60)]

    async with working(slots=4):
        async with asyncio.timeout(GENEROUS_S * 2):
            for attempt in attempts:
                await attempt.finished()

    assert sorted(oracle.read_text().split()) == sorted(attempt.grant.build_uid for attempt in attempts)
    assert {attempt.end.result for attempt in attempts} == {Result.SUCCESS}
    assert {(attempt.output(1), attempt.output(2)) for attempt in attempts} == {("out\n", "two\n")}
    assert {attempt.log(1).text(Stream.ERROR) for attempt in attempts} == {"err\n"}
