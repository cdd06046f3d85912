"""Jobs over GraphQL: submitted, read with all that belongs to them, started, cancelled, shown to others."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from apis.graphql.asking import ask, ask_badly, with_scopes
from buildyard.apis.sourcehut.graphql.execution import execute_query
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import BuildId, Moment, Uid
from buildyard.domain.states import Result
from buildyard.domain.user_webhooks import JobEvent, Occasion
from buildyard.engine import files
from buildyard.protocol import OutputFile
from world import World, job, one_piece

MANIFEST = """image: alpine/edge
tasks:
  - build: |
      make
  - check: make check
"""
SUBMIT = """mutation($manifest: String!, $tags: [String!], $note: String, $execute: Boolean, $secrets: Boolean,
    $visibility: Visibility) {
    submit(manifest: $manifest, tags: $tags, note: $note, execute: $execute, secrets: $secrets, visibility: $visibility)
    { id status tags note visibility image manifest runner } }"""
JOB = """query($id: Int!) { job(id: $id) { id created updated status manifest note tags visibility image runner
    owner { canonicalName id } group { id } tasks { id name status log { fullURL } job { id } }
    artifacts { path size url } log { fullURL last128KiB } secrets { uuid } } }"""


async def submit(world: World, by: Actor | None = None, **given: Any) -> dict[str, Any]:
    """A new job."""
    asked = {"manifest": MANIFEST, **given}
    return dict((await ask(world.engine, by or world.owner, SUBMIT, **asked))["submit"])


@pytest.mark.covers("sourcehut: POST /query: mutation submit", "sourcehut.graphql.jobs")
async def test_a_submitted_job_is_queued_unlisted_with_its_tags(world: World) -> None:
    made = await submit(world, tags=["hello", "", "Main"], note="first")

    assert made == {
        "id": made["id"],
        "status": "QUEUED",
        "tags": ["hello", "Main"],
        "note": "first",
        "visibility": "UNLISTED",
        "image": "alpine/edge",
        "manifest": MANIFEST,
        "runner": None,
    }


@pytest.mark.covers("sourcehut: POST /query: query job", "sourcehut.graphql.jobs")
async def test_a_job_tells_all_that_belongs_to_it_while_it_runs(world: World) -> None:
    key = (await submit(world, tags=["hello"]))["id"]
    waiting = (await ask(world.engine, world.owner, JOB, id=key))["job"]
    hand = await world.hand("w7")
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 1))
    running = (await ask(world.engine, world.owner, JOB, id=key))["job"]

    assert [(task["name"], task["status"]) for task in waiting["tasks"]] == [("build", "PENDING"), ("check", "PENDING")]
    assert waiting["runner"] is None
    assert waiting["log"] == {"fullURL": f"http://127.0.0.1:8010/logs/{key}/log", "last128KiB": ""}
    assert waiting["owner"] == {"canonicalName": "~bob", "id": world.owner.user}
    assert (running["status"], running["runner"]) == ("RUNNING", "w7")
    assert [(task["name"], task["status"]) for task in running["tasks"]] == [("build", "RUNNING"), ("check", "PENDING")]
    assert running["tasks"][0]["id"] > 0 > waiting["tasks"][0]["id"]
    assert running["tasks"][1]["log"]["fullURL"].endswith(f"/logs/{key}/check/log")
    assert running["tasks"][1]["job"] == {"id": key}
    assert (running["group"], running["artifacts"], running["secrets"]) == (None, [], [])


@pytest.mark.covers("sourcehut.graphql.logs")
async def test_the_end_of_a_log_is_told_by_whole_characters(world: World) -> None:
    key = (await submit(world))["id"]
    hand = await world.hand()
    grant = await hand.take()
    await hand.report(hand.started(grant), hand.step_started(grant, 1))
    for _ in range(3):
        await hand.report(hand.output(grant, 1, ("é" * 40_000 + "\n").encode()))
    query = "query($id: Int!) { job(id: $id) { tasks { log { last128KiB } } } }"

    tail = (await ask(world.engine, world.owner, query, id=key))["job"]["tasks"][0]["log"]["last128KiB"]

    assert tail.endswith("é\n")
    assert 128 * 1024 - 3 <= len(tail.encode()) <= 128 * 1024
    assert "�" not in tail


@pytest.mark.covers("sourcehut: POST /query: query jobs", "sourcehut.graphql.cursors")
async def test_ones_own_jobs_come_in_pages_newest_first(world: World) -> None:
    made = [(await submit(world, execute=False))["id"] for _ in range(53)]
    await submit(world, by=await world.user("eve"), visibility="PUBLIC")
    query = "query($cursor: Cursor) { jobs(cursor: $cursor) { cursor results { id status tasks { name } } } }"

    seen, cursor, pages = [], None, 0
    while cursor is not None or not pages:
        page = (await ask(world.engine, world.owner, query, cursor=cursor))["jobs"]
        seen += [one["id"] for one in page["results"]]
        assert all(len(one["tasks"]) == 2 for one in page["results"])
        cursor, pages = page["cursor"], pages + 1

    assert seen == made[::-1]
    assert pages == 3


@pytest.mark.covers("sourcehut.graphql.jobs")
async def test_others_find_public_jobs_in_lists_unlisted_ones_by_id_and_private_ones_never(world: World) -> None:
    made = {word: (await submit(world, visibility=word))["id"] for word in ("PUBLIC", "UNLISTED", "PRIVATE")}
    eve = await world.user("eve")
    listed = 'query { userByName(username: "bob") { jobs { results { id } } } }'

    found = await ask(world.engine, eve, listed)
    by_id = {word: (await ask(world.engine, eve, JOB, id=key))["job"] for word, key in made.items()}

    assert found["userByName"]["jobs"]["results"] == [{"id": made["PUBLIC"]}]
    assert by_id["PUBLIC"]["visibility"] == "PUBLIC"
    assert by_id["UNLISTED"]["visibility"] == "UNLISTED"
    assert by_id["PRIVATE"] is None
    assert (await ask(world.engine, eve, JOB, id=4711))["job"] is None


@pytest.mark.covers("sourcehut: POST /query: mutation update", "sourcehut.graphql.jobs")
async def test_who_sees_a_job_can_be_changed_by_its_owner_only(world: World) -> None:
    key = (await submit(world, visibility="PUBLIC"))["id"]
    eve = await world.user("eve")
    query = "mutation($id: Int!, $to: Visibility!) { update(jobId: $id, visibility: $to) { visibility } }"

    assert "Found no job" in await ask_badly(world.engine, eve, query, id=key, to="PRIVATE")
    changed = await ask(world.engine, world.owner, query, id=key, to="PRIVATE")

    assert changed == {"update": {"visibility": "PRIVATE"}}
    assert (await ask(world.engine, eve, JOB, id=key))["job"] is None


@pytest.mark.covers("sourcehut: POST /query: mutation start", "sourcehut: POST /query: mutation cancel")
async def test_a_deferred_job_is_started_once_and_cancelled_while_it_is_unfinished(world: World) -> None:
    key = (await submit(world, execute=False))["id"]
    start = "mutation($id: Int!) { start(jobID: $id) { status } }"
    cancel = "mutation($id: Int!) { cancel(jobId: $id) { status tasks { status } } }"
    eve = await world.user("eve")

    for other in (start, cancel):
        assert "your account" in await ask_badly(world.engine, eve, other, id=key)
    assert (await ask(world.engine, world.owner, start, id=key)) == {"start": {"status": "QUEUED"}}
    assert (
        await ask_badly(world.engine, world.owner, start, id=key)
        == "Found no pending jobs with this ID on your account"
    )
    assert (await ask(world.engine, world.owner, cancel, id=key))["cancel"] == {
        "status": "CANCELLED",
        "tasks": [{"status": "PENDING"}] * 2,
    }
    assert await ask_badly(world.engine, world.owner, cancel, id=key) == (
        "Found no running jobs for your account with this ID"
    )


@pytest.mark.covers("sourcehut.graphql.jobs")
async def test_a_manifest_with_faults_is_refused_with_all_of_them(world: World) -> None:
    found = await execute_query(
        world.engine, world.owner, SUBMIT, variables={"manifest": "tasks:\n  - BAD NAME: x\n  - a: x\n  - a: y\n"}
    )

    (error,) = found["errors"]
    assert found["data"] is None
    assert len(error["extensions"]["faults"]) >= 3
    assert error["message"].count("; ") >= 2
    reader = with_scopes(world.owner, "jobs:read")
    assert "JOBS:RW" in await ask_badly(world.engine, reader, SUBMIT, manifest=MANIFEST)


@pytest.mark.covers("sourcehut.graphql.jobs")
async def test_builds_of_other_origin_are_jobs_too(world: World) -> None:
    hand = await world.hand()
    single = await world.submit(job("only", steps=2, image="debian", outputs=("out",)))
    grant = await hand.take()
    end = hand.finished(grant)
    blob = await files.store_blob(world.engine, SYSTEM, one_piece(b"abc"))
    output = OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)
    await hand.report(
        hand.started(grant), type(end)(attempt=end.attempt, token=end.token, result=Result.SUCCESS, outputs=[output])
    )
    several = await world.submit(job("first"), job("second", "first"))

    one = (await ask(world.engine, world.owner, JOB, id=single.build.id))["job"]
    two = (await ask(world.engine, world.owner, JOB, id=several.build.id))["job"]

    assert (one["tags"], one["image"], one["visibility"]) == (["hello", "main"], "debian", "PRIVATE")
    assert one["manifest"].startswith("# generated\nimage: debian\n")
    assert [task["name"] for task in one["tasks"]] == ["step1", "step2"]
    (artifact,) = one["artifacts"]
    assert artifact["path"] == "out"
    assert artifact["url"].startswith(f"http://127.0.0.1:8010/logs/{single.build.id}/artifacts/")
    assert [(task["name"], task["status"]) for task in two["tasks"]] == [("first", "PENDING"), ("second", "PENDING")]


@pytest.mark.covers("sourcehut: POST /query: query webhook", "sourcehut.graphql.webhooks")
async def test_a_webhooks_query_is_told_its_event_and_may_change_nothing(world: World) -> None:
    key = (await submit(world))["id"]
    occasion = Occasion(uid=Uid("0190"), event=JobEvent.CREATED, at=Moment(1_800_000_000_000_000), build=BuildId(key))
    query = "{ webhook { uuid event date ... on JobEvent { job { id status } } } }"

    found = await ask(world.engine, world.owner, query, webhook=occasion)

    assert found["webhook"] == {
        "uuid": "0190",
        "event": "JOB_CREATED",
        "date": "2027-01-15T08:00:00Z",
        "job": {"id": key, "status": "QUEUED"},
    }
    assert "only for the queries of webhooks" in await ask_badly(world.engine, world.owner, query)
    change = f"mutation {{ cancel(jobId: {key}) {{ id }} }}"
    assert "may not change anything" in await ask_badly(world.engine, world.owner, change, webhook=occasion)
    stranger = await world.user("eve")
    private = await submit(world, visibility="PRIVATE")
    about = replace(occasion, build=BuildId(private["id"]))
    assert "no longer there" in await ask_badly(world.engine, stranger, query, webhook=about)


@dataclass
class Counting:
    """A database that counts what is read."""

    database: Any
    reads: int = 0

    async def run(self, body: Any) -> Any:
        """A transaction."""
        return await self.database.run(body)

    async def read(self, body: Any) -> Any:
        """A transaction that only reads."""
        self.reads += 1
        return await self.database.read(body)


@pytest.mark.covers("sourcehut.graphql.batches")
async def test_many_jobs_take_as_many_reads_as_one(world: World) -> None:
    query = """{ jobs { results { id manifest image tags visibility runner owner { canonicalName } group { id }
        tasks { name status } artifacts { path } secrets { uuid } } } }"""
    counts = []
    for more in (1, 19):
        for _ in range(more):
            await submit(world)
        counting = Counting(world.engine.database)
        found = await ask(replace(world.engine, database=counting), world.owner, query)
        assert found["jobs"]["results"]
        counts.append(counting.reads)

    assert counts[0] == counts[1] <= 13
