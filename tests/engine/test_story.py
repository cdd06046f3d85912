"""One build from submission to result, as people and workers see it."""

import asyncio

import pytest
from sqlalchemy import select

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.errors import LimitReached, NotFound
from buildyard.domain.ids import Sha256
from buildyard.domain.specs import FolderSource, GitSource, PipelineSpec
from buildyard.domain.states import Phase, Result
from buildyard.engine import audit, builds, files, pipelines
from buildyard.engine.builds import Submission
from buildyard.protocol import Answer, OutputFile
from buildyard.store import counters
from buildyard.store.statements import Statement, given
from buildyard.store.tables import evaluations, events
from buildyard.store.transactions import Transaction
from world import QUEUE_LIMIT, WORKER, World, job, one_piece

EVENTS = Statement(
    select(events.c.kind, events.c.entity).where(events.c.build == given("build")).order_by(events.c.seq)
)
EVALUATION = Statement(
    select(evaluations.c.kind, evaluations.c.submitter, evaluations.c.builds_left, evaluations.c.result).where(
        evaluations.c.id == given("key")
    )
)


@pytest.mark.covers("proof.both_databases", "engine.states.rollup", "engine.evaluations")
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
    (only,) = (await world.jobs(view)).values()
    assert [step.state.result for step in only.attempts[0].steps] == [Result.SUCCESS] * 2
    log = only.attempts[0].logs[1]
    assert (log.size, log.lines, log.sealed_at) == (6, 1, world.clock.now)
    assert b"".join([piece async for piece in world.engine.logs.read(log.id)]) == b"hello\n"

    async def evaluation(tx: Transaction, _actor: Actor) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await tx.fetch(EVALUATION, key=build.evaluation)]

    assert await world.engine.read(evaluation, SYSTEM) == [("trigger", "admin", 0, Result.SUCCESS)]


@pytest.mark.covers("engine.events")
async def test_every_move_is_told_once_and_in_order(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"))
    await hand.finish(await hand.take())

    async def told(tx: Transaction, _actor: Actor) -> list[tuple[str, str]]:
        return [(kind, entity) for kind, entity in await tx.fetch(EVENTS, build=view.build.id)]

    found = await world.engine.read(told, SYSTEM)
    assert [kind for kind, entity in found if entity == "job"] == ["queued", "leased", "running", "finished"]
    assert [kind for kind, entity in found if entity == "build"] == ["queued", "leased", "running", "finished"]
    assert [kind for kind, entity in found if entity == "attempt"] == ["leased", "running", "finished"]
    assert [kind for kind, entity in found if entity == "log"] == ["sealed", "sealed"]


@pytest.mark.covers("engine.builds.numbers")
async def test_builds_submitted_at_once_are_numbered_without_gaps(world: World) -> None:
    pipeline = await world.define(job("only"))
    views = await asyncio.gather(*(world.submit(pipeline=pipeline) for _ in range(20)))
    assert sorted(view.build.number for view in views) == list(range(1, 21))


@pytest.mark.covers("engine.revisions.git")
async def test_the_worker_gets_the_exact_git_revision(world: World) -> None:
    hand = await world.hand()
    source = GitSource(url="https://example.org/hello.git", branch="main", commit="a" * 40)
    view = await world.submit(job("only"), source=source)
    grant = await hand.take()
    assert grant.git is not None
    assert (grant.git.url, grant.git.branch, grant.git.commit) == (source.url, source.branch, source.commit)
    assert (grant.folder, grant.build, grant.project) == (None, view.build.id, world.project.slug)
    assert (await world.build(view)).revision is not None
    await hand.finish(grant)


@pytest.mark.covers("engine.revisions.folder", "engine.artifacts")
async def test_an_uploaded_folder_is_handed_on_and_outputs_reach_the_jobs_that_need_them(world: World) -> None:
    hand = await world.hand()
    folder = await files.store_blob(world.engine, WORKER, one_piece(b"a tar file"))
    view = await world.submit(
        job("make", outputs=("out",)), job("use", "make"), source=FolderSource(sha256=folder.sha256, size=folder.size)
    )
    grant = await hand.take()
    assert grant.folder == FolderSource(sha256=folder.sha256, size=folder.size)
    blob = await files.store_blob(world.engine, WORKER, one_piece(b"result"))
    finished = hand.finished(grant)
    output = OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)
    await hand.report(hand.started(grant), type(finished)(attempt=grant.attempt, token=grant.token,
                                                         result=Result.SUCCESS, outputs=[output]))  # fmt: skip
    hand.held.clear()
    use = await hand.take()
    assert [(one.path, one.sha256, one.mode) for one in use.inputs] == [("out", blob.sha256, 0o644)]
    ((artifact, maker),) = await world.engine.read(builds.list_artifacts, world.owner, view.build.uid)
    assert (artifact.path, maker.name) == ("out", "make")
    assert (await world.engine.read(builds.get_artifact, world.owner, artifact.uid)) == artifact
    await hand.finish(use)
    assert await world.result(view) is Result.SUCCESS


@pytest.mark.covers("engine.artifacts")
async def test_an_end_that_names_bytes_that_were_never_stored_is_refused_and_can_be_corrected(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only", outputs=("out",)))
    grant = await hand.take()
    missing = OutputFile(path="out", sha256=Sha256("0" * 64), size=1, mode=0o644)
    finished = type(hand.finished(grant))(
        attempt=grant.attempt, token=grant.token, result=Result.SUCCESS, outputs=[missing]
    )
    (ack,) = await hand.report(finished)
    assert ack.answer is Answer.REFUSED
    assert await world.result(view) is None
    await hand.finish(grant, Result.FAILURE)
    assert await world.result(view) is Result.FAILURE


@pytest.mark.covers("engine.retry", "engine.audit")
async def test_a_rebuild_is_a_new_build_of_the_same_version_and_revision_with_who_and_why(world: World) -> None:
    hand = await world.hand()
    view = await world.submit(job("only"), source=GitSource(url="https://example.org/x.git", commit="b" * 40))
    await hand.run_all()
    again = await world.engine.run(
        builds.rebuild_build, world.owner, view.build.uid, reason="flaky", queue_limit=QUEUE_LIMIT
    )
    assert (again.build.rebuild_of, again.build.number) == (view.build.id, 2)
    assert again.build.pipeline_version == view.build.pipeline_version
    assert again.build.revision == view.build.revision
    await hand.run_all()
    assert await world.result(again) is Result.SUCCESS
    entries, total = await world.engine.read(
        audit.list_audit, world.owner, project_uid=world.project.uid, action="build.retry", limit=10, offset=0
    )
    assert total == 1
    assert (entries[0].actor, entries[0].reason, entries[0].resource_id) == ("bob", "flaky", again.build.uid)


@pytest.mark.covers("engine.pipelines.versions")
async def test_the_same_definition_is_the_same_version(world: World) -> None:
    async def define(*names: str) -> int:
        spec = PipelineSpec(jobs=tuple(job(name) for name in names))
        _, version = await world.engine.run(
            pipelines.define_pipeline, world.owner, world.project.uid, "main", spec, defined_by="test"
        )
        return version

    first, second, third = await define("a"), await define("a", "b"), await define("a")
    assert first == third != second


@pytest.mark.covers("engine.limits.queue")
async def test_over_the_limit_of_the_queue_new_work_is_refused(world: World) -> None:
    pipeline = await world.define(job("a"), job("b"))
    submit = world.engine.run(
        builds.submit_build, world.owner, world.project.uid, pipeline.uid, Submission(), queue_limit=3
    )
    await submit
    with pytest.raises(LimitReached, match="at most 3"):
        await world.engine.run(
            builds.submit_build, world.owner, world.project.uid, pipeline.uid, Submission(), queue_limit=3
        )


@pytest.mark.covers("engine.counters")
async def test_lists_are_pages_with_the_number_of_all(world: World) -> None:
    pipeline = await world.define(job("only"))
    made = [(await world.submit(pipeline=pipeline)).build.id for _ in range(7)]
    page, total = await world.engine.read(builds.list_builds, world.owner, world.project.uid, limit=3, offset=2)
    assert [view.build.id for view in page] == made[::-1][2:5]
    assert total == 7
    beyond, total = await world.engine.read(builds.list_builds, world.owner, world.project.uid, limit=3, offset=70)
    assert (beyond, total) == ([], 7)

    async def counted(tx: Transaction, _actor: Actor) -> dict[str, int]:
        return await counters.all_of(tx, "pipeline", pipeline.id)

    assert await world.engine.read(counted, SYSTEM) == {"builds": 7}


async def test_a_pipeline_of_another_project_cannot_be_built_here(world: World) -> None:
    pipeline = await world.define(job("only"))
    stranger = await world.user("eve")
    with pytest.raises(NotFound):
        await world.engine.run(
            builds.submit_build, stranger, world.project.uid, pipeline.uid, Submission(), queue_limit=QUEUE_LIMIT
        )
