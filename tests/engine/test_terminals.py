"""Terminals in workspaces as use-cases: who may have one, why there may be none, how the worker hears of it."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from buildyard.domain.access import SYSTEM, Actor, Role
from buildyard.domain.errors import Conflict, EngineError, Forbidden, Gone, Invalid, NotFound, Unauthenticated
from buildyard.domain.states import Result
from buildyard.engine import audit, identity, manifest_jobs, terminals
from buildyard.engine.manifest_jobs import NewManifestJob
from buildyard.engine.terminals import Window
from buildyard.protocol import JobGrant
from buildyard.store import identity as people
from buildyard.store.builds import BuildView
from buildyard.store.statements import Statement, given
from buildyard.store.tables import builds, workers
from buildyard.store.transactions import Transaction
from world import Hand, World, job

MISTRUST = Statement(update(builds).where(builds.c.id == given("key")).values(trusted=0))
SPEAKS = Statement(update(workers).values(protocol=given("version")))


async def _do(tx: Transaction, _actor: Actor, statement: Statement, values: dict[str, Any]) -> None:
    await tx.execute(statement, **values)


async def _wish(world: World, view: BuildView, name: str = "", *, by: Actor | None = None, key: str = "k") -> int:
    return await world.engine.run(
        terminals.wish_terminal, by or world.owner, view.build.uid, name, Window(), key=key, lease=30.0
    )


async def _finish(hand: Hand, grant: JobGrant, kept_s: int) -> None:
    end = msgspec.structs.replace(hand.finished(grant, Result.FAILURE), kept_s=kept_s)
    await hand.report(hand.started(grant), end)
    hand.held.clear()


@pytest.fixture
async def hand(world: World) -> Hand:
    """A worker."""
    return await world.hand()


@pytest.mark.covers("sourcehut.attach.access")
async def test_a_wish_reaches_the_worker_that_holds_the_job_once_and_is_audited(world: World, hand: Hand) -> None:
    view = await world.submit(job("a"))
    grant = await hand.take()
    await hand.report(hand.started(grant))

    attempt = await world.engine.run(
        terminals.wish_terminal, world.owner, view.build.uid, "", Window(rows=5, columns=6, term="xterm"),
        key="secret", lease=30.0,
    )  # fmt: skip

    (wish,) = (await hand.poll(0, wait=5)).terminals
    assert (wish.key, wish.attempt, wish.rows, wish.columns, wish.term) == ("secret", attempt, 5, 6, "xterm")
    assert attempt == grant.attempt
    await world.engine.run(terminals.answer_terminal, hand.actor, "secret")
    assert (await hand.poll(0)).terminals == []
    with pytest.raises(NotFound):
        await world.engine.run(terminals.answer_terminal, hand.actor, "secret")
    acts, _ = await world.engine.read(
        audit.list_audit, world.owner, project_uid=world.project.uid, action="build.attach", limit=9, offset=0
    )
    assert [(act.actor, act.resource) for act in acts] == [("bob", "build")]


async def test_a_wish_that_nobody_waits_for_any_more_is_not_told(world: World, hand: Hand) -> None:
    view = await world.submit(job("a"))
    await hand.report(hand.started(await hand.take()))
    await _wish(world, view, key="old")
    await _wish(world, view, key="withdrawn")
    await world.engine.run(terminals.withdraw_terminal, world.owner, "withdrawn")

    world.clock.advance(terminals.ANSWER_S + 1)
    await hand.beat()

    assert (await hand.poll(0)).terminals == []
    with pytest.raises(NotFound):
        await world.engine.read(terminals.find_terminal, hand.actor, "old")
    await _wish(world, view, key="new")
    assert [wish.key for wish in (await hand.poll(0)).terminals] == ["new"]


@pytest.mark.covers("sourcehut.attach.reasons")
async def test_without_a_workspace_the_reason_is_told(world: World, hand: Hand) -> None:
    async def refused(view: BuildView, name: str = "") -> tuple[type[EngineError], str]:
        with pytest.raises(EngineError) as told:
            await _wish(world, view, name)
        return told.type, str(told.value)

    view = await world.submit(job("a"))
    assert await refused(view) == (Conflict, "job a has not begun yet, so it has no workspace")
    two = await world.submit(job("one"), job("two", "one"))
    assert await refused(two) == (Invalid, "the build has several jobs, so say which: one, two")
    assert await refused(two, "three") == (NotFound, "the build has no job 'three'; it has one, two")

    await _finish(hand, await hand.take(), kept_s=0)
    assert await refused(view) == (NotFound, "job a has ended, and its workspace was not kept")

    kept = await world.submit(job("b"))
    grants = {grant.spec.name: grant for grant in await hand.claim(9)}
    await _finish(hand, grants["b"], kept_s=600)
    assert await _wish(world, kept) == grants["b"].attempt
    await world.engine.run(_do, SYSTEM, SPEAKS, {"version": 1})
    kind, words = await refused(kept)
    assert (kind, "version 1" in words, "upgrade it" in words) == (Conflict, True, True)
    await world.engine.run(_do, SYSTEM, SPEAKS, {"version": 2})
    world.clock.advance(31)
    assert await refused(kept) == (Conflict, "worker w1, which has the workspace of job b, is not connected")
    await hand.hello()
    world.clock.advance(570)
    kind, words = await refused(kept)
    assert (kind, words.startswith("the workspace of job b was kept until 2027-")) == (Gone, True)


@pytest.mark.covers("sourcehut.attach.reasons")
async def test_the_workspace_of_a_worker_that_has_ended_is_gone(world: World, hand: Hand) -> None:
    view = await world.submit(job("a"))
    await _finish(hand, await hand.take(), kept_s=600)

    await hand.restart()

    with pytest.raises(Gone, match="its worker w1 has ended since"):
        await _wish(world, view)


@pytest.mark.covers("sourcehut.attach.access")
async def test_only_who_may_configure_attaches_to_an_untrusted_build(world: World, hand: Hand) -> None:
    view = await world.submit(job("a"))
    await hand.report(hand.started(await hand.take()))
    developer = await world.user("dora")
    assert developer.user is not None

    async def join(tx: Transaction, _actor: Actor) -> None:
        await people.add_member(tx, developer.user, Role.DEVELOPER, project=world.project.id)

    await world.engine.run(join, SYSTEM)
    developer = await world.engine.read(identity.actor_of_user, SYSTEM, "dora")
    await _wish(world, view, by=developer, key="trusted")

    await world.engine.run(_do, SYSTEM, MISTRUST, {"key": view.build.id})

    with pytest.raises(Forbidden, match="not trusted") as told:
        await _wish(world, view, by=developer, key="untrusted")
    assert not isinstance(told.value, Unauthenticated)
    await _wish(world, view, by=world.owner, key="owner")


async def test_a_window_that_cannot_be_is_refused(world: World, hand: Hand) -> None:
    view = await world.submit(job("a"))
    await hand.report(hand.started(await hand.take()))

    with pytest.raises(Invalid) as told:
        await world.engine.run(
            terminals.wish_terminal, world.owner, view.build.uid, "", Window(rows=0, columns=5000, term="a b"),
            key="k", lease=30.0,
        )  # fmt: skip

    assert [fault.path for fault in told.value.faults] == ["rows", "columns", "term"]


@pytest.mark.covers("sourcehut.attach.access")
async def test_a_builds_own_list_lets_in_but_shows_nobody_what_was_lent(world: World, hand: Hand) -> None:
    eve, mallory = await world.user("eve"), await world.user("mallory")

    async def attaches(by: Actor, view: BuildView) -> str:
        try:
            await world.engine.run(terminals.require_attachable, by, view.build.uid)
        except EngineError as exc:
            return type(exc).__name__
        return "yes"

    async def submit(manifest: str) -> BuildView:
        wanted = NewManifestJob(text=manifest, read=("mallory",), write=("eve",))
        return await manifest_jobs.submit_manifest(world.engine, world.owner, wanted)

    plain = await submit("{image: debian, tasks: [{one: 'true'}]}")
    lent = await submit("{image: debian, oauth: 'builds.sr.ht/JOBS:RO', tasks: [{one: 'true'}]}")

    actors = {"owner": world.owner, "writer": eve, "reader": mallory, "administrator": world.administrator}
    answers = {name: (await attaches(by, plain), await attaches(by, lent)) for name, by in actors.items()}
    assert answers == {
        "owner": ("yes", "yes"),
        "writer": ("yes", "Forbidden"),
        "reader": ("Forbidden", "Forbidden"),
        "administrator": ("yes", "yes"),
    }
