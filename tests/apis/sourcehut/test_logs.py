"""Logs at their addresses: before, while and after a task runs, by whom, and through lost attempts."""

import asyncio
from pathlib import Path

import pytest

from apis.sourcehut.serving import Site
from buildyard.apis.sourcehut.addresses import setup_log_url, task_log_url
from buildyard.domain.access import SYSTEM
from buildyard.domain.retention import Bounds, What
from buildyard.domain.specs import JobSpec, StepSpec
from buildyard.domain.states import Result
from buildyard.engine import garbage, retention, task_logs
from buildyard.engine.loops import seal_logs_of
from buildyard.store.builds import BuildView
from world import Hand, World, job


def tasks(*names: str) -> JobSpec:
    """A job with steps of these names."""
    return JobSpec(name="job", steps=tuple(StepSpec(name=name, run="true") for name in names))


async def begun(world: World, *names: str) -> tuple[BuildView, Hand]:
    """A build of one job with these tasks, which a worker holds and has begun."""
    view = await world.submit(tasks(*names))
    hand = await world.hand()
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 0))
    return view, hand


async def write(hand: Hand, number: int, data: bytes) -> None:
    """Let the worker begin a step, if it has not, and write."""
    (grant,) = hand.held.values()
    await hand.report(hand.step_started(grant, number), hand.output(grant, number, data))


@pytest.mark.covers("sourcehut: GET /logs/:id/log", "sourcehut: GET /logs/:id/:task/log", "sourcehut.logs.live")
async def test_setup_and_tasks_have_logs_of_their_own_that_grow_while_they_run(site: Site) -> None:
    view, hand = await begun(site.world, "build", "test")
    setup, build, test = (f"/logs/{view.build.id}/{name}" for name in ("log", "build/log", "test/log"))
    owner = site.world.owner
    await hand.report(hand.output(next(iter(hand.held.values())), 0, b"cloning\n"))
    await write(hand, 1, b"one\n")

    assert (await site.get(setup, by=owner)).data == b"cloning\n"
    first = await site.get(build, by=owner)
    assert (first.status, first.data) == (200, b"one\n")
    await write(hand, 1, b"two\n")
    more = await site.get(build, by=owner, Range="bytes=4-", If_Range=first.headers["etag"])
    assert (more.status, more.data, more.headers["content-range"]) == (206, b"two\n", "bytes 4-7/*")
    nothing = await site.get(build, by=owner, Range="bytes=8-")
    assert (nothing.status, nothing.data, nothing.headers["content-range"]) == (206, b"", "bytes 8-8/*")
    early = await site.get(test, by=owner, Range="bytes=0-")
    assert (early.status, early.data, early.headers["content-range"]) == (206, b"", "bytes 0-0/*")


@pytest.mark.covers("sourcehut.logs.headers")
async def test_a_finished_log_says_its_length_and_what_it_is(site: Site) -> None:
    view, hand = await begun(site.world, "test")
    await write(hand, 1, b"hello\n")
    (grant,) = hand.held.values()
    await hand.report(hand.step_finished(grant, 1), hand.finished(grant))
    address = f"/logs/{view.build.id}/test/log"

    part = await site.get(address, by=site.world.owner, Range="bytes=-2", Accept_Encoding="gzip, br, zstd")
    assert (part.status, part.data, part.headers["content-range"]) == (206, b"o\n", "bytes 4-5/6")
    assert "content-encoding" not in part.headers
    head = await site.get(address, by=site.world.owner, method="HEAD", Range="bytes=-2")
    assert (head.status, head.data, head.headers["content-length"]) == (200, b"", "6")
    assert head.headers["content-type"] == "text/plain; charset=utf-8"
    assert head.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in head.headers["content-security-policy"]
    known = await site.get(address, by=site.world.owner, If_None_Match=head.headers["etag"])
    assert (known.status, known.data) == (304, b"")


@pytest.mark.covers("sourcehut.logs.setup_only")
async def test_before_a_worker_has_the_job_its_logs_are_there_and_empty(site: Site) -> None:
    view = await site.world.submit(tasks("test"))

    for name in ("log", "test/log"):
        answer = await site.get(f"/logs/{view.build.id}/{name}", by=site.world.owner, Range="bytes=7-")
        assert (answer.status, answer.data, answer.headers["content-range"]) == (206, b"", "bytes 0-0/*")
    assert (await site.get(f"/logs/{view.build.id}/other/log", by=site.world.owner)).status == 404


@pytest.mark.covers("sourcehut.logs.attempts")
async def test_the_next_attempt_writes_after_what_a_lost_one_wrote(site: Site) -> None:
    world = site.world
    view, hand = await begun(world, "test")
    address = f"/logs/{view.build.id}/test/log"
    await write(hand, 1, b"one")
    before = await site.get(address, by=world.owner)
    world.clock.advance(100)
    await world.expire()
    await seal_logs_of(world.engine, [next(iter(hand.held))])  # type: ignore[list-item]  # the attempt's id
    await hand.restart()
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 1), hand.output(grant, 1, b"two\n"))

    whole = await site.get(address, by=world.owner)
    assert whole.data == b"one\n--- attempt 2 ---\ntwo\n"
    rest = await site.get(address, by=world.owner, Range="bytes=3-", If_Range=before.headers["etag"])
    assert (rest.status, rest.data) == (206, b"\n--- attempt 2 ---\ntwo\n")


@pytest.mark.covers("sourcehut.logs.removed")
async def test_a_log_that_retention_removed_says_so(site: Site) -> None:
    world = site.world
    view, hand = await begun(world, "test")
    await write(hand, 1, b"hello\n")
    (grant,) = hand.held.values()
    await hand.report(hand.step_finished(grant, 1), hand.finished(grant, Result.FAILURE))
    await world.engine.run(retention.set_rule, world.owner, world.project.uid, "", What.LOGS, Bounds(days=1))
    world.clock.advance(3 * 86400)
    await garbage.collect_garbage(world.engine, SYSTEM, "", dry=False)

    answer = await site.get(f"/logs/{view.build.id}/test/log", by=world.owner, Range="bytes=0-")
    assert (answer.status, "deleted by retention" in answer.text) == (410, True)


@pytest.mark.covers("sourcehut.logs.access")
async def test_who_may_not_see_the_job_finds_no_log(site: Site) -> None:
    view, hand = await begun(site.world, "test")
    await write(hand, 1, b"secret\n")
    eve = await site.world.user("eve")

    for path in (f"/logs/{view.build.id}/log", f"/logs/{view.build.id}/test/log"):
        for by in (None, eve):
            assert (await site.get(path, by=by)).status == 404
        assert (await site.get(path, Authorization="token wrong")).status == 401
    for path in ("/logs/0/log", "/logs/x/log", f"/logs/{10**30}/log", f"/logs/{2**31}/log", "/logs/-1/log", "/logs"):
        answer = await site.get(path, by=site.world.owner)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert (await site.get(f"/logs/{view.build.id}/log", method="POST")).status == 405


@pytest.mark.covers("sourcehut.logs.jobs")
async def test_the_tasks_of_a_build_of_several_jobs_are_its_jobs(site: Site) -> None:
    world = site.world
    view = await world.submit(job("a"), job("b", "a"))
    hand = await world.hand()
    grant = await hand.take()
    await hand.report(
        hand.started(grant),
        hand.step_started(grant, 0),
        hand.output(grant, 0, b"setup of a\n"),
        hand.step_started(grant, 1),
        hand.output(grant, 1, b"a runs\n"),
    )

    assert (await site.get(f"/logs/{view.build.id}/log", by=world.owner)).data == b"setup of a\n"
    assert (await site.get(f"/logs/{view.build.id}/a/log", by=world.owner)).data == b"setup of a\na runs\n"
    assert (await site.get(f"/logs/{view.build.id}/b/log", by=world.owner)).data == b""
    assert (await site.get(f"/logs/{view.build.id}/step1/log", by=world.owner)).status == 404


@pytest.mark.parametrize("name", ["a/b", "..", ".", "ü%41", "a b?c#d", "log"])
async def test_a_task_of_any_name_has_an_address(site: Site, name: str) -> None:
    view, hand = await begun(site.world, name)
    await write(hand, 1, b"hello\n")

    address = task_log_url(site.url, view.build.id, name)
    _, status, data = await curl(site, "-s", "-w", "%{stderr}%{http_code}", address)
    assert (status, data) == ("200", b"hello\n")
    assert (await site.get(setup_log_url(site.url, view.build.id), by=site.world.owner)).status == 200


async def curl(site: Site, *arguments: str) -> tuple[int, str, bytes]:
    """Run the real program as the owner: its exit status, what it wrote to standard error, and its output."""
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-H",
        f"Authorization: Bearer {await site.token(site.world.owner)}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode(), out


@pytest.mark.covers("sourcehut.logs.curl")
async def test_curl_resumes_a_growing_log_until_it_has_all(site: Site, tmp_path: Path) -> None:
    view, hand = await begun(site.world, "test")
    target = tmp_path / "log"
    address = task_log_url(site.url, view.build.id, "test")
    target.touch()
    whole = b""

    for piece in (b"", b"one\n", b"", b"x" * 300_000 + b"\n", b"", b"end\n"):
        if piece:
            await write(hand, 1, piece)
        whole += piece
        status, error, _ = await curl(site, "-sS", "--fail", "-C", "-", "-o", str(target), address)
        assert (status, error) == (0, "")
        assert target.read_bytes() == whole
    (grant,) = hand.held.values()
    await hand.report(hand.step_finished(grant, 1), hand.finished(grant))
    assert (await curl(site, "-sS", "--fail", "-C", "-", "-o", str(target), address))[0] == 0
    assert target.read_bytes() == whole


async def test_the_newest_bytes_of_a_log_are_given_for_previews(world: World) -> None:
    view, hand = await begun(world, "test")
    await write(hand, 1, b"0123456789")

    log = await world.engine.read(task_logs.get_task_log, SYSTEM, view.build.id, "test")
    none = await world.engine.read(task_logs.get_setup_log, SYSTEM, view.build.id)

    assert await task_logs.last_bytes(world.engine, log, 4) == b"6789"
    assert await task_logs.last_bytes(world.engine, log, 400) == b"0123456789"
    assert await task_logs.last_bytes(world.engine, none, 4) == b""
    assert await task_logs.last_bytes(world.engine, None, 4) == b""
