"""Approvals: who may answer, and what an answer, or none, leads to."""

import asyncio

import pytest

from buildyard.domain.access import SYSTEM, Actor, Role
from buildyard.domain.errors import Conflict, Forbidden, NotFound
from buildyard.domain.specs import Approval, LockSpec
from buildyard.domain.states import Phase, Result
from buildyard.engine import approvals, audit, builds, clockwork, identity
from buildyard.engine.builds import Submission
from buildyard.store import identity as people
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction
from invariants import check_invariants
from world import QUEUE_LIMIT, World, job

BY_ADMINS = Approval(roles=("admin",))


async def member(world: World, name: str, role: Role) -> Actor:
    user = (await world.user(name)).user
    assert user is not None

    async def join(tx: Transaction, _actor: Actor) -> None:
        await people.add_member(tx, user, role, project=world.project.id)

    await world.engine.run(join, SYSTEM)
    return await world.engine.read(identity.actor_of_user, SYSTEM, name)


async def answer(world: World, who: Actor, view: BuildView, name: str = "", *, granted: bool = True) -> tuple[str, ...]:
    found = await world.engine.run(
        approvals.answer_approval, who, view.build.uid, job=name, granted=granted, reason="because"
    )
    await world.engine.read(check_invariants, SYSTEM)
    return found.jobs


@pytest.mark.covers("blockers.approvals.who", "blockers.words")
async def test_people_named_and_those_of_the_role_may_answer_and_nobody_else(world: World) -> None:
    alice, chief = await member(world, "alice", Role.VIEWER), await member(world, "chief", Role.ADMIN)
    worker = await member(world, "dev", Role.DEVELOPER)
    named = job("a", approval=Approval(users=("alice", "carl"), message="look at the plan"))
    view = await world.submit(named, job("b", approval=BY_ADMINS))
    jobs = await world.jobs(view)
    assert jobs["a"].waits_for == "waits for an approval by alice or carl: look at the plan"
    assert jobs["b"].waits_for == "waits for an approval by an admin of the project"
    for who in (worker, chief, world.owner):
        with pytest.raises(Forbidden, match="it waits for an approval by alice or carl"):
            await answer(world, who, view, "a")
    with pytest.raises(Forbidden):
        await answer(world, alice, view, "b")
    with pytest.raises(NotFound):
        await answer(world, await world.user("stranger"), view)
    assert await answer(world, alice, view) == ("a",)
    assert await answer(world, chief, view) == ("b",)
    assert set((await world.states(view)).values()) == {Phase.QUEUED}
    with pytest.raises(Conflict, match="does not wait for an approval"):
        await answer(world, alice, view)


@pytest.mark.covers("blockers.approvals.submitter")
async def test_the_submitter_may_answer_only_if_named(world: World) -> None:
    pipeline = await world.define(job("a", approval=Approval(roles=("viewer",))))
    named = await world.define(job("a", approval=Approval(users=("bob",))))
    submission = Submission()
    for defined, allowed in ((pipeline, False), (named, True)):
        view = await world.engine.run(
            builds.submit_build, world.owner, world.project.uid, defined.uid, submission, queue_limit=QUEUE_LIMIT
        )
        if allowed:
            assert await answer(world, world.owner, view) == ("a",)
        else:
            with pytest.raises(Forbidden):
                await answer(world, world.owner, view)
            assert await answer(world, world.administrator, view) == ("a",)


@pytest.mark.covers("blockers.approvals.token")
async def test_a_token_answers_only_with_the_scope_for_it(world: World) -> None:
    view = await world.submit(job("a", approval=Approval(users=("bob",))))
    for scope, allowed in (("jobs:write", False), ("runner", False), ("approvals:write", True)):
        secret = (await world.engine.run(identity.create_token, SYSTEM, "bob", (scope,))).secret
        actor = await world.engine.read(identity.actor_of_token, SYSTEM, secret)
        if allowed:
            assert await answer(world, actor, view) == ("a",)
        else:
            with pytest.raises(Forbidden):
                await answer(world, actor, view)


@pytest.mark.covers("blockers.approvals.order", "blockers.slots")
async def test_an_approval_may_come_before_the_needs_are_met_and_takes_no_place_on_a_worker(world: World) -> None:
    hand = await world.hand()
    deploy = job("deploy", "test", approval=BY_ADMINS, locks=(LockSpec(name="prod"),))
    early, late = await world.submit(job("test"), deploy), await world.submit(job("test"), deploy)
    await answer(world, world.owner, early)
    assert (await world.jobs(early))["deploy"].waits_for == "waits for test"
    assert (await world.jobs(late))["deploy"].waits_for == "waits for test; an approval by an admin of the project"
    assert await hand.run_all() == ["test", "test", "deploy"]
    assert await hand.claim(9) == []
    await answer(world, world.owner, late, "deploy")
    assert await hand.run_all() == ["deploy"]
    assert [await world.result(view) for view in (early, late)] == [Result.SUCCESS] * 2


@pytest.mark.covers("blockers.approvals.reject", "blockers.approvals.audit")
async def test_a_rejected_job_ends_as_cancelled_with_who_and_why_and_what_needs_it_does_not_run(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("a"), job("b", approval=BY_ADMINS), job("c", "b", approval=BY_ADMINS), job("d", "a"))
    assert await answer(world, world.owner, view, granted=False) == ("b", "c")
    jobs = await world.jobs(view)
    assert jobs["b"].job.state.detail == "rejected by bob: because"
    assert await world.states(view) == {
        "a": Phase.QUEUED, "b": Result.CANCELLED, "c": Result.DEPENDENCY_FAILED, "d": Phase.WAITING,
    }  # fmt: skip
    assert await hand.run_all() == ["a", "d"]
    assert await world.result(view) is Result.CANCELLED
    entries, _ = await world.engine.read(
        audit.list_audit, world.owner, project_uid=world.project.uid, action="build.reject", limit=9, offset=0
    )
    assert [(one.actor, one.reason, one.details) for one in entries] == [("bob", "because", {"jobs": ["b", "c"]})]


@pytest.mark.covers("blockers.approvals.expiry")
async def test_without_an_answer_in_time_the_job_ends_as_cancelled(world: World) -> None:
    view = await world.submit(job("a", approval=Approval(roles=("admin",), expires_s=7200)), job("b", "a"))
    world.clock.advance(7199)
    assert await clockwork.pass_what_is_due(world.engine) == 0
    world.clock.advance(1)
    assert await clockwork.pass_what_is_due(world.engine) == 1
    jobs = await world.jobs(view)
    assert jobs["a"].job.state.detail == "nobody approved it within 2 h"
    assert await world.states(view) == {"a": Result.CANCELLED, "b": Result.DEPENDENCY_FAILED}
    assert await world.result(view) is Result.CANCELLED


@pytest.mark.covers("blockers.approvals.build")
async def test_a_build_as_a_whole_may_need_an_approval(world: World) -> None:
    pipeline = await world.define(job("a"), job("b", "a"))

    async def submit() -> BuildView:
        submission = Submission(approval=BY_ADMINS)
        return await world.engine.run(
            builds.submit_build, world.administrator, world.project.uid, pipeline.uid, submission,
            queue_limit=QUEUE_LIMIT,
        )  # fmt: skip

    granted, refused = await submit(), await submit()
    assert await answer(world, world.owner, granted) == ("",)
    assert await answer(world, world.owner, refused, granted=False) == ("",)
    assert await world.states(granted) == {"a": Phase.QUEUED, "b": Phase.WAITING}
    assert await world.states(refused) == {"a": Result.CANCELLED, "b": Result.CANCELLED}


@pytest.mark.covers("blockers.again")
async def test_a_rebuild_must_be_approved_again(world: World) -> None:
    view = await world.submit(job("a", approval=BY_ADMINS))
    await answer(world, world.owner, view)
    again = await world.engine.run(
        builds.rebuild_build, world.administrator, view.build.uid, reason="", queue_limit=QUEUE_LIMIT
    )
    assert await world.states(again) == {"a": Phase.WAITING}


@pytest.mark.covers("blockers.two_servers")
async def test_answers_expiry_and_cancel_at_once_leave_one_outcome(world: World) -> None:
    hand = await world.hand()
    for _ in range(6):
        view = await world.submit(job("a", approval=Approval(roles=("admin",), expires_s=1)), job("b", "a"))
        world.clock.advance(2)
        await asyncio.gather(
            answer(world, world.owner, view),
            answer(world, world.owner, view, granted=False),
            clockwork.pass_what_is_due(world.engine),
            world.cancel(view),
            return_exceptions=True,
        )
        await world.engine.read(check_invariants, SYSTEM)
        await hand.run_all()
        assert await world.result(view) is Result.CANCELLED
