"""What is going on and who did what, as far as the one who asks may see it."""

from dataclasses import replace

import pytest

from buildyard.domain.access import ANONYMOUS, SYSTEM
from buildyard.domain.errors import Invalid, NotFound, Unauthenticated
from buildyard.engine import audit, overview
from world import World, job


@pytest.mark.covers("cli.top")
async def test_it_shows_what_runs_and_what_waits_with_the_reason(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a", steps=2), job("b", labels=["gpu"]), job("c", "a"))
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_finished(grant, 0), hand.step_started(grant, 1))

    found = await world.engine.read(overview.read_overview, world.owner)

    (running,) = found.running
    assert (running.build, running.job, running.step, running.worker) == (view.build.id, "a", "step1", "w1")
    assert (running.jobs_left, running.jobs_total, running.attempt) == (3, 3, 1)
    (queue,) = found.queues
    assert (queue.queued.count, queue.queued.project_slug) == (1, "hello")
    assert queue.waits_for == "waits for a worker with label gpu: none that is known has all of it"


@pytest.mark.covers("cli.top")
async def test_nothing_of_a_private_project_is_shown_to_a_stranger_and_nothing_at_all_to_nobody(world: World) -> None:
    hand = await world.hand()
    await world.submit(job("a"), job("b"))
    await hand.take()
    stranger = await world.user("eve")
    other = await world.other_project()

    for who in (stranger, replace(world.owner, only_project=other.id)):
        found = await world.engine.read(overview.read_overview, who)
        assert (found.running, found.queues) == ((), ())
    with pytest.raises(Unauthenticated):
        await world.engine.read(overview.read_overview, ANONYMOUS)


@pytest.mark.covers("cli.audit")
async def test_the_audit_log_is_read_in_pages_and_by_project_action_and_user(world: World) -> None:
    engine, owner = world.engine, world.owner
    pipeline = await world.define(job("a"))
    views = [await world.submit(pipeline=pipeline) for _ in range(5)]
    for view in views[:3]:
        await world.cancel(view, "enough")

    newest = await engine.read(audit.read_audit, world.administrator, limit=4)
    older = await engine.read(audit.read_audit, world.administrator, before=newest[-1].id, limit=1000)
    assert [entry.id for entry in (*newest, *older)] == sorted({e.id for e in (*newest, *older)}, reverse=True)
    assert [entry.action for entry in newest[:3]] == ["build.cancel"] * 3
    cancelled = await engine.read(audit.read_audit, owner, project="hello", action="build.cancel", limit=9)
    assert [(entry.actor, entry.reason, entry.project_slug) for entry in cancelled] == [("bob", "enough", "hello")] * 3
    by_bob = await engine.read(audit.read_audit, world.administrator, user="bob", limit=1000)
    assert {entry.actor for entry in by_bob} == {"bob"}
    assert len(await engine.read(audit.read_audit, owner, limit=1000)) >= 8


@pytest.mark.covers("cli.audit")
async def test_who_administers_no_project_reads_no_acts_and_learns_of_no_project_or_user(world: World) -> None:
    stranger = await world.user("eve")
    read = audit.read_audit

    assert await world.engine.read(read, stranger, limit=9) == []
    for user in ("bob", "nobody"):
        assert await world.engine.read(read, stranger, user=user, limit=9) == []
    for project in ("hello", "nonesuch"):
        with pytest.raises(NotFound, match=f"project {project} not found"):
            await world.engine.read(read, stranger, project=project, limit=9)
    with pytest.raises(NotFound, match="user nobody"):
        await world.engine.read(read, SYSTEM, user="nobody", limit=9)
    with pytest.raises(Invalid, match="no action"):
        await world.engine.read(read, SYSTEM, action="build.undo", limit=9)
