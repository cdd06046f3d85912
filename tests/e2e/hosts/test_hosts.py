"""Workers on other machines: cut off, slowed, killed, their clocks wrong."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildyard.client.messages import Worker
from buildyard.client.native import NativeClient
from e2e.running import (
    Oracle,
    Program,
    Yard,
    finished,
    has_logged,
    job_of,
    nothing_left,
    script,
    served,
    step_log,
    submit,
    tree_when,
    working,
)
from hosts import Host, Site, network
from needs import need

pytestmark = pytest.mark.covers("worker.hosts")

PORT = "8010"
AWAY = 60.0
Serving = Callable[..., AbstractAsyncContextManager[Yard]]


@pytest.fixture
def site() -> Iterator[Site]:
    """Machines."""
    with network() as made:
        yield made


@pytest.fixture
def serving(site: Site, tmp_path: Path) -> Serving:
    """Starts the server of the site, without a worker of its own."""

    @asynccontextmanager
    async def start(lease: float = 30.0) -> AsyncIterator[Yard]:
        variables = {
            "BUILDYARD_HOST": site.server.address,
            "BUILDYARD_PORT": PORT,
            "BUILDYARD_WORKERS": "0",
            "BUILDYARD_EXECUTOR": "process",
            "BUILDYARD_LEASE_SECONDS": str(lease),
        }
        async with served(tmp_path / "data", inside=site.server.inside, **variables) as yard:
            yield yard

    return start


def on(
    host: Host, yard: Yard, token: str, folder: Path, *before: str, executor: str = "process"
) -> AbstractAsyncContextManager[Program]:
    """A worker on a host, named after its folder; `before` is put before its command. Its jobs reach the oracle."""
    shared = {"BUILDYARD_SANDBOX_READ_ONLY_PATHS": str(folder.with_name("shared"))} if executor == "sandbox" else {}
    inside = (*host.inside, *before)
    return working(yard.url, token, folder, folder.name, executor=executor, inside=inside, **shared)


async def worker_when(client: NativeClient, name: str, fits: Callable[[Worker], bool]) -> Worker:
    """The worker once it is as wished."""
    async with asyncio.timeout(AWAY):
        while True:
            for worker in await client.workers():
                if worker.name == name and fits(worker):
                    return worker
            await asyncio.sleep(0.05)


def silent_for(worker: Worker) -> float:
    """Seconds since the server heard it."""
    return (datetime.now(UTC) - datetime.fromisoformat(worker.seen_at)).total_seconds()


async def test_a_worker_that_is_cut_off_and_back_in_time_goes_on(
    site: Site, serving: Serving, oracle: Oracle, tmp_path: Path, executor: str
) -> None:
    host = site.host()
    wait = oracle.gate("open")
    async with serving(lease=20) as yard:
        client, token = yard.client(), await yard.token("runner")
        async with on(host, yard, token, tmp_path / "far", executor=executor):
            words = [oracle.say("begins $BUILDYARD_ATTEMPT"), "echo before", wait, "echo after"]
            build = await submit(client, only=script("s", "\n".join(words)))
            await has_logged(client, build, "only", b"before\n")
            host.cut()
            await worker_when(client, "far", lambda worker: silent_for(worker) > 6)
            oracle.open_gate("open")
            host.join()
            tree = await finished(client, build)

            assert tree.build.result == "success"
            (attempt,) = job_of(tree, "only").attempts
            assert (attempt.worker, attempt.lost) == ("far", False)
            assert await step_log(client, tree, "only") == b"before\nafter\n"
            assert oracle.heard == ["begins 1"]
            await nothing_left(tmp_path / "far")


async def test_a_worker_that_is_back_too_late_kills_its_work_which_counts_once_elsewhere(
    site: Site, serving: Serving, oracle: Oracle, tmp_path: Path, executor: str
) -> None:
    near, far = site.host(), site.host()
    for name in ("ends-1", "ends-2", "lasts-1", "lasts-2"):
        oracle.gate(name)
    words = "\n".join(
        [
            oracle.beat("$BUILDYARD_JOB beats $BUILDYARD_ATTEMPT"),
            "echo attempt $BUILDYARD_ATTEMPT",
            f"read -r _ < {oracle.folder}/gate-$BUILDYARD_JOB-$BUILDYARD_ATTEMPT",
            oracle.say("$BUILDYARD_JOB ends $BUILDYARD_ATTEMPT"),
        ]
    )
    async with serving(lease=3) as yard:
        client, token = yard.client(), await yard.token("runner")
        async with on(far, yard, token, tmp_path / "far", executor=executor):
            build = await submit(client, ends=script("e", words), lasts=script("l", words))
            for name in ("ends", "lasts"):
                await has_logged(client, build, name, b"attempt 1\n")
            far.cut()
            oracle.open_gate("ends-1")
            await oracle.hears("ends ends 1")
            await tree_when(client, build, lambda tree: all(job.attempts[0].lost for job in tree.jobs))
            async with on(near, yard, token, tmp_path / "near", executor=executor):
                for name in ("ends", "lasts"):
                    await oracle.hears(f"{name} beats 2", 2)
                far.join()
                await nothing_left(tmp_path / "far")
                oracle.heard.clear()
                await oracle.hears("lasts beats 2", 5)
                assert not any(heard.endswith(" beats 1") for heard in oracle.heard)
                oracle.open_gate("ends-2")
                oracle.open_gate("lasts-2")
                tree = await finished(client, build)

            assert tree.build.result == "success"
            for job in tree.jobs:
                told = [(one.number, one.worker, one.lost, one.result) for one in job.attempts]
                assert told == [(1, "far", True, None), (2, "near", False, "success")]
            assert await step_log(client, tree, "ends", attempt=2) == b"attempt 2\n"


async def test_over_a_slow_line_logs_and_files_arrive_whole_and_no_lease_is_lost(
    site: Site, serving: Serving, tmp_path: Path
) -> None:
    host = site.host()
    print(host.slow())
    numbers = "".join(f"line {number}\n" for number in range(1, 4001))
    async with serving(lease=8) as yard:
        client, token = yard.client(), await yard.token("runner")
        async with on(host, yard, token, tmp_path / "far"):
            begun = time.monotonic()
            first = script(
                "f", "for i in $(seq 1 4000); do echo line $i; done; seq 1 9000 > made", "true", outputs=["made"]
            )
            build = await submit(client, first=first, second=script("s", "wc -l < made", needs=["first"]))
            tree = await finished(client, build)

            assert tree.build.result == "success"
            assert [len(job.attempts) for job in tree.jobs] == [1, 1]
            assert await step_log(client, tree, "first") == numbers.encode()
            assert await step_log(client, tree, "second") == b"9000\n"
            assert time.monotonic() - begun > 1, "the line was slow"


async def test_a_worker_that_is_killed_costs_one_attempt_after_its_lease(
    site: Site, serving: Serving, oracle: Oracle, tmp_path: Path, executor: str
) -> None:
    near, far = site.host(), site.host()
    wait = oracle.gate("open")
    async with serving(lease=3) as yard:
        client, token = yard.client(), await yard.token("runner")
        async with on(far, yard, token, tmp_path / "far", executor=executor) as worker:
            words = [oracle.say("begins $BUILDYARD_ATTEMPT on $BUILDYARD_WORKER"), "echo begun", wait]
            build = await submit(client, only=script("s", "\n".join(words)))
            await has_logged(client, build, "only", b"begun\n")
            async with on(near, yard, token, tmp_path / "near", executor=executor):
                await worker_when(client, "near", lambda one: one.connected)
                await worker.kill()
                await oracle.hears("begins 2 on near")
                oracle.open_gate("open")
                tree = await finished(client, build)

        assert tree.build.result == "success"
        first, second = job_of(tree, "only").attempts
        assert (first.lost, first.worker, second.result) == (True, "far", "success")
        assert oracle.heard == ["begins 1 on far", "begins 2 on near"]
        await nothing_left(tmp_path / "far")


def false_time() -> Path:
    """The library that makes a process believe in another time."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    need(found, "libfaketime (Debian: apt-get install faketime)")
    assert found is not None
    return found


@pytest.mark.covers("worker.clock")
@pytest.mark.parametrize("wrong", ["+5h", "-3d"])
async def test_however_wrong_its_clock_is_times_and_durations_are_the_servers(
    site: Site, serving: Serving, tmp_path: Path, wrong: str
) -> None:
    library = false_time()
    host = site.host()
    async with serving() as yard:
        client, token = yard.client(), await yard.token("runner")
        before = datetime.now(UTC) - timedelta(seconds=1)
        false_clock = ("env", f"LD_PRELOAD={library}", f"FAKETIME={wrong}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
        async with on(host, yard, token, tmp_path / "far", *false_clock):
            build = await submit(client, only=script("s", "sleep 1; echo done"))
            tree = await finished(client, build)
            after = datetime.now(UTC) + timedelta(seconds=1)

            first = re.search(r"\d{4}-\d\d-\d\dT[\d:.]+Z", (tmp_path / "far.log").read_text())
            assert first is not None
            assert abs(datetime.fromisoformat(first[0]) - before) > timedelta(hours=4), "the clock is wrong there"
            (attempt,) = job_of(tree, "only").attempts
            for step in attempt.steps:
                begun, ended = (datetime.fromisoformat(one or "") for one in (step.started_at, step.finished_at))
                assert before < begun <= ended < after
            begun, ended = (datetime.fromisoformat(one or "") for one in (attempt.started_at, attempt.finished_at))
            assert timedelta(seconds=1) <= ended - begun < after - before
