"""One build from submission to result, as people and workers see it."""

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.domain.states import Phase, Result
from buildyard.protocol import Answer
from invariants import check_invariants
from world import World, job


@pytest.fixture(autouse=True)
async def _invariants(world: World):  # type: ignore[no-untyped-def]  # an async generator
    yield
    await world.engine.read(check_invariants, SYSTEM)


async def test_a_build_goes_from_queued_to_success_and_keeps_its_output(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    assert view.build.state.phase is Phase.QUEUED

    grant = await hand.take()
    assert (await world.build(view)).build.state.phase is Phase.LEASED

    await hand.report(hand.started(grant), hand.step_finished(grant, 0), hand.step_started(grant, 1))
    assert (await world.build(view)).build.state.phase is Phase.RUNNING

    acks = await hand.report(hand.output(grant, 1, b"hello\n"), hand.step_finished(grant, 1), hand.finished(grant))
    assert [ack.answer for ack in acks] == [Answer.DONE] * 3
    build = (await world.build(view)).build
    assert (build.state.result, build.jobs_left, build.number) == (Result.SUCCESS, 0, 1)
    ((only,)) = (await world.jobs(view)).values()
    assert [step.state.result for step in only.attempts[0].steps] == [Result.SUCCESS] * 2
    log = only.attempts[0].logs[1]
    assert (log.size, log.lines, log.sealed_at) == (6, 1, world.clock.now)
    assert b"".join([piece async for piece in world.engine.logs.read(log.id)]) == b"hello\n"
