"""A branch becomes one commit for all jobs of a build, and for rebuilds."""

import pytest

from buildyard.domain.errors import Invalid, Stale
from buildyard.domain.specs import GitSource
from buildyard.engine import builds, revisions
from buildyard.protocol import JobGrant, PinRevision
from world import QUEUE_LIMIT, WORKER, World, job

FIRST, SECOND = "a" * 40, "b" * 40


def _found(grant: JobGrant, commit: str) -> PinRevision:
    return PinRevision(
        attempt=grant.attempt, token=grant.token, commit=commit, branch="main", subject="Fix", author="A"
    )


@pytest.mark.covers("workspace.checkout")
async def test_all_jobs_of_a_build_check_out_the_commit_that_the_first_found(world: World) -> None:
    source = GitSource(url="https://example.org/x.git", branch="main")
    view = await world.submit(job("one"), job("two"), source=source)
    hand = await world.hand(slots=2)
    one, two = await hand.claim(2)

    first = await world.engine.run(revisions.pin_revision, WORKER, _found(one, FIRST))
    second = await world.engine.run(revisions.pin_revision, WORKER, _found(two, SECOND))

    assert first.commit == second.commit == FIRST
    revision = (await world.build(view)).revision
    assert revision is not None
    assert (revision.commit, revision.message, revision.author) == (FIRST, "Fix", "A")
    again = await world.engine.run(
        builds.rebuild_build, world.administrator, view.build.uid, reason="", queue_limit=QUEUE_LIMIT
    )
    assert again.revision is not None
    assert again.revision.commit == FIRST


async def test_only_a_whole_commit_from_the_holder_of_the_attempt_is_kept(world: World) -> None:
    await world.submit(job("one"), source=GitSource(url="https://example.org/x.git"))
    grant = await (await world.hand()).take()

    with pytest.raises(Invalid):
        await world.engine.run(revisions.pin_revision, WORKER, _found(grant, "abc1234"))
    stranger = PinRevision(attempt=grant.attempt, token="not it", commit=FIRST)
    with pytest.raises(Stale):
        await world.engine.run(revisions.pin_revision, WORKER, stranger)
