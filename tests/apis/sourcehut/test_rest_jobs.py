"""Jobs by REST: the replies, texts and statuses of the real service."""

import io

import aiohttp
import pytest

from apis.sourcehut.resting import MANIFEST, Reply, Rest
from buildyard.domain.ids import BuildId
from buildyard.domain.states import Result
from buildyard.engine import builds, manifest_jobs
from world import job

SCOPE = "Your OAuth token is not permitted to use this endpoint (needs builds.sr.ht/jobs:write)"
TAGS = "Invalid tag name, tags must use lowercase alphanumeric characters, underscores, dashes, or dots"


@pytest.mark.covers(
    "sourcehut.rest.submit", "sourcehut.rest.get", "sourcehut: POST /api/jobs", "sourcehut: GET /api/jobs/:id"
)
async def test_a_submission_is_answered_with_the_job_and_read_back(rest: Rest) -> None:
    wanted = {"manifest": MANIFEST, "note": "a *note*", "tags": ["lib", "x"], "unknown": 1}
    reply = await rest.post("/api/jobs", wanted)
    key = reply.json["id"]
    base = rest.world.engine.policy.public_url
    tasks = [{"name": name, "status": "pending", "log": f"{base}/logs/{key}/{name}/log"} for name in ("build", "check")]
    common = {
        "id": key,
        "setup_log": f"{base}/logs/{key}/log",
        "tasks": tasks,
        "note": "a *note*",
        "runner": None,
        "tags": "lib/x",
        "owner": {"canonical_name": "~bob", "name": "bob"},
    }
    assert (reply.status, reply.json) == (200, common)
    read = await rest.get(f"/api/jobs/{key}")
    assert read.json == {**common, "status": "queued"}
    assert list(read.json) == ["id", "status", "setup_log", "tasks", "note", "runner", "tags", "owner"]


@pytest.mark.covers("sourcehut.rest.submit")
async def test_a_job_without_tags_or_note_says_so(rest: Rest) -> None:
    reply = await rest.post("/api/jobs", {"manifest": MANIFEST})
    assert (reply.json["tags"], reply.json["note"]) == ("", None)
    read = await rest.get(f"/api/jobs/{reply.json['id']}")
    assert (read.json["tags"], read.json["note"]) == (None, None)


@pytest.mark.covers("sourcehut.rest.get")
async def test_tasks_follow_their_steps(rest: Rest) -> None:
    key = await rest.submit()
    hand = await rest.world.hand()
    grant = await hand.take()

    async def shown() -> tuple[str, list[str], str | None]:
        read = (await rest.get(f"/api/jobs/{key}")).json
        return read["status"], [task["status"] for task in read["tasks"]], read["runner"]

    assert await shown() == ("running", ["pending", "pending"], "w1")
    await hand.report(hand.started(grant), hand.step_started(grant, 1))
    assert await shown() == ("running", ["running", "pending"], "w1")
    await hand.report(hand.step_finished(grant, 1, Result.FAILURE), hand.finished(grant, Result.FAILURE))
    assert await shown() == ("failed", ["failed", "pending"], "w1")


@pytest.mark.covers("sourcehut.rest.list", "sourcehut: GET /api/jobs")
async def test_own_jobs_are_listed_in_pages(rest: Rest) -> None:
    ids = [await rest.submit() for _ in range(52)]
    await rest.submit(by=await rest.world.user("eve"))
    first = (await rest.get("/api/jobs")).json
    assert list(first) == ["next", "results", "total", "results_per_page"]
    assert [one["id"] for one in first["results"]] == ids[:1:-1]
    assert (first["next"], first["total"], first["results_per_page"]) == (str(ids[1]), 52, 50)
    last = (await rest.get(f"/api/jobs?start={first['next']}")).json
    assert ([one["id"] for one in last["results"]], last["next"], last["total"]) == ([ids[1], ids[0]], None, 52)
    for start, status in (("x", 400), ("-1", 400), ("", 200), ("9" * 30, 200), ("0", 200), ("1%00", 400)):
        assert (await rest.get(f"/api/jobs?start={start}")).status == status, start


@pytest.mark.covers("sourcehut.rest.manifest", "sourcehut: GET /api/jobs/:id/manifest")
async def test_the_manifest_is_given_as_written_without_a_token_if_everyone_may_read(rest: Rest) -> None:
    public = await rest.submit()
    private = await rest.submit(**{"access:read": []})
    reply = await rest.get(f"/api/jobs/{public}/manifest", authorization="")
    assert (reply.status, reply.data.decode()) == (200, MANIFEST)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert (await rest.get(f"/api/jobs/{private}/manifest", authorization="")).status == 404
    assert (await rest.get(f"/api/jobs/{private}/manifest")).data.decode() == MANIFEST
    bad = await rest.get(f"/api/jobs/{public}/manifest", authorization="token wrong")
    assert bad.status == 401


@pytest.mark.covers("sourcehut.rest.others")
async def test_what_another_api_started_is_a_job_too(rest: Rest) -> None:
    world = rest.world
    single = await world.submit(job("build", steps=2))
    several = await world.submit(job("build"), job("test", "build"))
    one = (await rest.get(f"/api/jobs/{single.build.id}")).json
    assert one["tags"] == f"{single.project_slug}/{single.pipeline_slug}"
    assert len(one["tasks"]) == 2
    two = (await rest.get(f"/api/jobs/{several.build.id}")).json
    assert [task["name"] for task in two["tasks"]] == ["build", "test"]
    text = (await rest.get(f"/api/jobs/{several.build.id}/manifest")).data.decode()
    assert text.splitlines()[0] == "# generated"
    assert text.index("build") < text.index("test")
    assert (await rest.get(f"/api/jobs/{several.build.id}/manifest", authorization="")).status == 404
    cancelled = await rest.post(f"/api/jobs/{several.build.id}/cancel")
    assert (cancelled.status, cancelled.json) == (200, {})
    assert await world.result(several) is Result.CANCELLED


@pytest.mark.covers("sourcehut.rest.start", "sourcehut: POST /api/jobs/:id/start")
async def test_a_pending_job_is_started_once(rest: Rest) -> None:
    key = await rest.submit(execute=False)
    assert (await rest.get(f"/api/jobs/{key}")).json["status"] == "pending"
    reply = await rest.post(f"/api/jobs/{key}/start")
    assert (reply.status, reply.json) == (200, {})
    again = await rest.post(f"/api/jobs/{key}/start")
    assert (again.status, again.reasons) == (400, [("", "This job is already queued")])
    hand = await rest.world.hand()
    grant = await hand.take()
    assert (await rest.post(f"/api/jobs/{key}/start")).reasons == [("", "This job is already running")]
    await hand.finish(grant)
    assert (await rest.post(f"/api/jobs/{key}/start")).reasons == [("", "This job is already complete")]


@pytest.mark.covers("sourcehut.rest.cancel", "sourcehut: POST /api/jobs/:id/cancel")
async def test_a_job_is_cancelled_and_again_without_effect(rest: Rest) -> None:
    key = await rest.submit()
    for _ in range(2):
        reply = await rest.post(f"/api/jobs/{key}/cancel")
        assert (reply.status, reply.json) == (200, {})
    assert (await rest.get(f"/api/jobs/{key}")).json["status"] == "cancelled"


@pytest.mark.covers("sourcehut.rest.tokens")
async def test_tokens_are_refused_in_the_words_of_the_real_service(rest: Rest) -> None:
    token = await rest.token(rest.world.owner)
    refused = {
        "": "No authorization supplied (expected an OAuth token)",
        "token": "Invalid authorization supplied",
        f"token {token} x": "Invalid authorization supplied",
        "Basic Ym9iOmJvYg==": "Invalid authorization supplied",
        "token wrong": "Invalid or expired OAuth token",
    }
    for given, reason in refused.items():
        reply = await rest.get("/api/jobs", authorization=given)
        assert (reply.status, reply.reasons) == (401, [("", reason)]), given
    assert (await rest.get("/api/jobs", authorization=f"Bearer {token}")).status == 200
    key = await rest.submit()
    for path in (
        "/api/jobs",
        f"/api/jobs/{key}/start",
        f"/api/jobs/{key}/cancel",
        "/api/job-group",
        "/api/jobs/999/start",
    ):
        reply = await rest.post(path, {}, scopes=("jobs:read",))
        assert (reply.status, reply.reasons) == (403, [("", SCOPE)]), path


@pytest.mark.covers("sourcehut.rest.access")
async def test_access_lists_say_who_reads_and_who_writes(rest: Rest) -> None:
    eve, ann = await rest.world.user("eve"), await rest.world.user("ann")
    public = await rest.submit(**{"access:write": ["~ann"]})
    named = await rest.submit(**{"access:read": ["eve"], "access:write": ["ann"]})
    for key, who, read, write in ((public, eve, 200, 401), (public, ann, 200, 200), (named, eve, 200, 401),
                                  (named, ann, 200, 200), (named, await rest.world.user("tom"), 404, 404)):  # fmt: skip
        for path in ("", "/artifacts", "/manifest"):
            assert (await rest.get(f"/api/jobs/{key}{path}", by=who)).status == read
        reply = await rest.post(f"/api/jobs/{key}/cancel", by=who)
        assert reply.status == write
        if write == 401:
            assert reply.reasons == [("", "401 unauthorized")]


@pytest.mark.covers("sourcehut.rest.forms")
async def test_forms_do_what_json_does(rest: Rest) -> None:
    fields = [
        ("manifest", MANIFEST), ("tags", "a"), ("tags", "b"), ("note", "n"), ("execute", "false"),
        ("access:read", "bob"), ("secrets", "off"),
        ("triggers", '[{"action": "email", "condition": "always", "to": "bob@example.org"}]'),
    ]  # fmt: skip
    multipart = aiohttp.FormData(fields, default_to_multipart=True)
    for data in (fields, multipart):
        reply = await rest.call("POST", "/api/jobs", data=data)
        await _check_form(rest, reply)


async def _check_form(rest: Rest, reply: Reply) -> None:
    assert (reply.status, reply.json["tags"], reply.json["note"]) == (200, "a/b", "n")
    view = await rest.world.engine.read(builds.get_build_by_id, rest.world.owner, BuildId(reply.json["id"]))
    assert not view.build.secrets_enabled
    assert (await rest.get(f"/api/jobs/{view.build.id}")).json["status"] == "pending"
    assert (await rest.get(f"/api/jobs/{view.build.id}/manifest", authorization="")).status == 404
    other = await rest.call(
        "POST", "/api/jobs", data={"note": "x"}, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert other.reasons == [("manifest", "manifest is required")]


@pytest.mark.covers("sourcehut.rest.errors")
@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("manifest", "manifest is required")]),
        ({"manifest": None}, [("manifest", "manifest may not be null")]),
        ({"manifest": 7, "note": [], "tags": "x", "execute": 1, "secrets": "no"}, [
            ("manifest", "manifest should be a str"), ("note", "note should be a str"),
            ("tags", "tags should be a list"), ("secrets", "secrets should be a bool"),
            ("execute", "execute should be a bool"),
        ]),
        ({"manifest": "tasks: [{a: b}]"}, [("manifest", "Missing image in manifest")]),
        ({"manifest": "image: x"}, [("manifest", "Attempted to create manifest with no tasks")]),
        ({"manifest": "image: x\n" + "#" * 17000}, [("manifest", "Manifest must be less than 16384 bytes")]),
        ({"manifest": MANIFEST, "tags": ["Über"]}, [("tags", TAGS)]),
        ({"manifest": MANIFEST, "tags": ["A"]}, [("tags", TAGS)]),
        ({"manifest": MANIFEST, "tags": [""]}, [("tags", TAGS)]),
        ({"manifest": MANIFEST, "tags": [1]}, [("tags", "tags should be a list of str")]),
        ({"manifest": MANIFEST, "note": "a\0b"}, [("note", "note holds characters that are no text")]),
        ({"manifest": MANIFEST, "note": "x" * 5000}, [("note", "note must have at most 4096 characters")]),
        ({"manifest": MANIFEST, "access:read": ["nobody"]}, [("access:read", "there is no user nobody")]),
        ({"manifest": MANIFEST, "access:write": ["*"]}, [("access:write", "'*' is not the name of a user")]),
        ({"manifest": MANIFEST, "triggers": [{"action": "sms", "condition": "always"}]},
         [("triggers[0].action", "action should be one of email, webhook")]),
        ({"manifest": MANIFEST, "triggers": [{"action": "email", "condition": "always"}]},
         [("triggers[0].to", "is missing: mail needs an address")]),
        ({"manifest": MANIFEST, "triggers": [3]}, [("triggers[0]", "triggers[0] should be a dict")]),
    ],
)  # fmt: skip
async def test_everything_wrong_with_a_submission_is_told_by_field(
    rest: Rest, body: dict[str, object], errors: list[tuple[str, str]]
) -> None:
    reply = await rest.post("/api/jobs", body)
    assert (reply.status, reply.reasons) == (400, errors)
    page = await rest.world.engine.read(manifest_jobs.list_jobs_of, rest.world.owner)
    assert page.total == 0


@pytest.mark.covers("sourcehut.rest.errors")
async def test_bodies_that_are_none_are_refused(rest: Rest) -> None:
    for data, reason in (
        (b"{", "Invalid JSON provided"),
        (b"\xff", "Invalid JSON provided"),
        (b'{"manifest": "\\ud800"}', "Invalid JSON provided"),
        (b"[" * 100_000, "Invalid JSON provided"),
        (b"[]", "Expected JSON dictionary"),
        (b"null", "Expected JSON dictionary"),
    ):
        reply = await rest.call("POST", "/api/jobs", data=data, headers={"Content-Type": "application/json"})
        assert (reply.status, reply.reasons) == (400, [("", reason)]), data[:20]
    large = await rest.call(
        "POST", "/api/jobs", data=io.BytesIO(b"x" * 2_000_000), headers={"Content-Type": "application/json"}
    )
    assert large.status == 413
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await rest.call("POST", "/api/jobs", data=b"--y\r\n\xff", headers=form)).status == 400


@pytest.mark.covers("sourcehut.rest.errors")
async def test_addresses_that_are_none_are_answered_in_the_standard_format(rest: Rest) -> None:
    for key in ("0", "-1", "x", "99999999999", "1e3", "%00", "2147483648", "2147483647"):
        for method, tail in (("GET", ""), ("GET", "/manifest"), ("GET", "/artifacts"), ("POST", "/start")):
            reply = await rest.call(method, f"/api/jobs/{key}{tail}")
            assert (reply.status, reply.reasons) == (404, [("", "404 not found")]), key
        assert (await rest.get(f"/api/job-group/{key}")).status == 404
    assert (await rest.get("/api/jobs/1/nothing")).reasons == [("", "404 not found")]
    wrong = await rest.call("DELETE", "/api/jobs")
    assert (wrong.status, wrong.reasons) == (405, [("", "405 method not allowed")])


@pytest.mark.covers("sourcehut.rest.artifacts", "sourcehut: GET /api/jobs/:id/artifacts")
async def test_a_job_without_artifacts_has_an_empty_list(rest: Rest) -> None:
    key = await rest.submit()
    assert (await rest.get(f"/api/jobs/{key}/artifacts")).json == []


@pytest.mark.covers(
    "sourcehut.rest.groups",
    "sourcehut: POST /api/job-group",
    "sourcehut: GET /api/job-group/:id",
    "sourcehut: POST /api/job-group/:id/start",
    "sourcehut: POST /api/job-group/:id/cancel",
)
async def test_job_groups_are_made_started_and_cancelled(rest: Rest) -> None:
    jobs = [await rest.submit(execute=False) for _ in range(2)]
    trigger = {"action": "webhook", "condition": "failure", "url": "https://example.org/hook"}
    made = await rest.post("/api/job-group", {"jobs": jobs, "note": "both", "triggers": [trigger]})
    wanted = {
        "id": made.json["id"],
        "note": "both",
        "owner": {"canonical_name": "~bob", "name": "bob"},
        "jobs": [{"id": key, "status": "pending"} for key in jobs],
    }
    assert (made.status, made.json) == (200, wanted)
    path = f"/api/job-group/{wanted['id']}"
    assert (await rest.get(path)).json == wanted
    started = await rest.post(f"{path}/start")
    assert started.json == {**wanted, "jobs": [{"id": key, "status": "queued"} for key in jobs]}
    cancelled = await rest.post(f"{path}/cancel")
    assert {one["status"] for one in cancelled.json["jobs"]} == {"cancelled"}
    eve = await rest.world.user("eve")
    for method, tail in (("GET", ""), ("POST", "/start"), ("POST", "/cancel")):
        reply = await rest.call(method, path + tail, by=eve)
        assert (reply.status, reply.json) == (404, {})
    again = await rest.post("/api/job-group", {"jobs": jobs})
    assert [field for field, _ in again.reasons] == ["jobs", "jobs"]


@pytest.mark.covers("sourcehut.rest.groups")
@pytest.mark.parametrize("jobs", [None, "1", [], ["1"], [-1], [2**40], [True], [999]])
async def test_a_group_of_what_are_no_jobs_is_refused(rest: Rest, jobs: object) -> None:
    reply = await rest.post("/api/job-group", {"jobs": jobs})
    assert reply.status == 400
    assert {field for field, _ in reply.reasons} == {"jobs"}
