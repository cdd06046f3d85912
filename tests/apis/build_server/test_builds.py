"""Builds: submitting, paging, reading, cancelling, building again; the audit log."""

import uuid

import pytest

from apis.build_server.conftest import Serve
from apis.build_server.serving import Api, step

LARGEST = 2**63 - 1


@pytest.mark.covers(
    "build-server: POST /api/projects/{id}/builds", "build-server: GET /api/builds/{id}", "build_server.statuses"
)
async def test_a_new_build_is_pending_and_tells_its_source(api: Api) -> None:
    project = await api.project()
    workflow = await api.workflow(project, step("a"), step("b", dependsOn=["a"]))
    source = {
        "repoUrl": "https://example.org/hello.git",
        "commitHash": "0123abc",
        "branch": "main",
        "commitMessage": "Say hello\n\nat last",
        "commitAuthor": "Ann <ann@example.org>",
    }

    made = await api.post(f"/api/projects/{project}/builds", {"workflowId": workflow, **source, "extra": 1})

    assert made.status == 201
    assert {key: made.body[key] for key in source} == source
    assert made.body["status"] == "PENDING"
    assert made.body.keys() == {"id", "projectId", "workflowId", "status", "createdAt", *source}
    read = (await api.get(f"/api/builds/{made.body['id']}")).body
    assert read.items() >= made.body.items()
    assert (read["number"], read["stepsTotal"], read["stepsLeft"]) == (1, 2, 2)
    assert "reason" not in read


async def test_without_a_repository_commit_and_branch_are_only_told(api: Api) -> None:
    build = await api.build(step(), commitHash="abcdef1", branch="feature/x")

    read = (await api.get(f"/api/builds/{build.id}")).body

    assert (read["commitHash"], read["branch"]) == ("abcdef1", "feature/x")
    assert "repoUrl" not in read


async def test_credentials_in_a_repository_address_are_not_shown(api: Api) -> None:
    secret = await api.build(step(), repoUrl="https://user:hunter2@example.org/x.git")
    project, workflow = secret.project, secret.workflow
    ssh = await api.build_again(project, workflow, repoUrl="ssh://git@example.org/x.git")

    assert (await api.get(f"/api/builds/{secret.id}")).body["repoUrl"] == "https://***@example.org/x.git"
    assert (await api.get(f"/api/builds/{ssh.id}")).body["repoUrl"] == "ssh://git@example.org/x.git"


@pytest.mark.covers("build_server.bad.local_source", "build_server.bad.types")
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("repoUrl", "file:///etc", "local_source"),
        ("repoUrl", "/etc", "local_source"),
        ("repoUrl", "http://127.0.0.1/x.git", "local_source"),
        ("repoUrl", "http://[::1]/x.git", "local_source"),
        ("repoUrl", "https://localhost/x.git", "local_source"),
        ("repoUrl", "ext::sh -c id", "url"),
        ("repoUrl", "--upload-pack=id", "url"),
        ("repoUrl", 5, "type"),
        ("commitHash", "HEAD", "commit"),
        ("commitHash", "ABCDEF1", "commit"),
        ("commitHash", "a" * 65, "commit"),
        ("branch", "-x", "branch"),
        ("branch", "a..b", "branch"),
        ("commitMessage", "a\0b", "nul"),
        ("commitAuthor", None, "type"),
    ],
)
async def test_a_source_that_is_not_allowed_is_refused(api: Api, field: str, value: object, code: str) -> None:
    project = await api.project()
    workflow = await api.workflow(project, step())

    answer = await api.post(f"/api/projects/{project}/builds", {"workflowId": workflow, field: value})

    assert (answer.status, answer.codes) == (400, {field: code})
    if code == "local_source":
        assert "BUILDYARD_ALLOW_LOCAL_SOURCES" in answer.body["details"][0]["message"]


async def test_local_sources_are_taken_where_they_are_allowed(serve: Serve) -> None:
    api = await serve(allow_local=True)

    build = await api.build(step(), repoUrl="file:///srv/hello.git")

    assert (await api.get(f"/api/builds/{build.id}")).body["repoUrl"] == "file:///srv/hello.git"


@pytest.mark.covers("build_server.bad.unknown")
async def test_a_workflow_of_another_project_is_a_404(api: Api) -> None:
    ours, theirs = await api.project("ours"), await api.project("theirs")
    workflow = await api.workflow(theirs, step())

    for unknown in (workflow, str(uuid.uuid4()), "7"):
        answer = await api.post(f"/api/projects/{ours}/builds", {"workflowId": unknown})
        assert (answer.status, answer.body["error"]) == (404, "workflow not found")
    assert (await api.post(f"/api/projects/{ours}/builds", {})).codes == {"workflowId": "required"}


@pytest.mark.covers(
    "build-server: GET /api/projects/{id}/builds", "build-server: GET /api/builds", "build_server.paging"
)
async def test_builds_are_paged_newest_first_with_totals(api: Api) -> None:
    first = await api.build(step())
    ids = [first.id] + [(await api.build_again(first.project, first.workflow)).id for _ in range(4)]

    page = (await api.get(f"/api/projects/{first.project}/builds?limit=2&offset=1")).body
    rest = (await api.get(f"/api/projects/{first.project}/builds?limit=100&offset=3")).body
    every = (await api.get("/api/builds?limit=3")).body

    assert [one["id"] for one in page["builds"]] == [ids[3], ids[2]]
    assert page["pagination"] == {"total": 5, "limit": 2, "offset": 1, "hasMore": True}
    assert [one["id"] for one in rest["builds"]] == [ids[1], ids[0]]
    assert rest["pagination"]["hasMore"] is False
    assert [one["id"] for one in every["builds"]] == [ids[4], ids[3], ids[2]]
    assert every["pagination"] == {"total": 5, "limit": 3, "offset": 0, "hasMore": True}


@pytest.mark.covers("build_server.bad.paging")
@pytest.mark.parametrize("word", ["limit", "offset"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "9" * 40, str(LARGEST + 1), "0x10", "٣", "1e3", "null"])
async def test_bad_limits_and_offsets_are_refused(api: Api, word: str, value: str) -> None:
    project = await api.project()

    for path in (f"/api/projects/{project}/builds", "/api/audit-logs", "/api/builds"):
        answer = await api.get(path, params={word: value})
        assert (answer.status, list(answer.codes)) == (400, [word])


@pytest.mark.covers("build_server.bad.paging")
async def test_large_limits_are_capped_and_far_offsets_are_empty(api: Api) -> None:
    build = await api.build(step())

    capped = (await api.get(f"/api/projects/{build.project}/builds?limit={LARGEST}")).body
    far = (await api.get(f"/api/projects/{build.project}/builds?offset={LARGEST}&limit=0")).body
    audit = (await api.get("/api/audit-logs?limit=5000")).body

    assert capped["pagination"]["limit"] == 100
    assert far == {"builds": [], "pagination": {"total": 1, "limit": 0, "offset": LARGEST, "hasMore": False}}
    assert audit["pagination"]["limit"] == 1000


@pytest.mark.covers(
    "build-server: POST /api/builds/{id}/cancel",
    "build-server: POST /api/builds/{id}/retry",
    "build_server.statuses",
    "build_server.extensions",
)
async def test_a_build_is_cancelled_and_built_again_with_reasons(api: Api) -> None:
    build = await api.build(step(), branch="main")

    cancelled = await api.post(f"/api/builds/{build.id}/cancel", {"reason": "typo"})
    twice = await api.post(f"/api/builds/{build.id}/cancel")
    again = await api.post(f"/api/builds/{build.id}/retry", {"reason": "typo fixed"})

    assert (cancelled.status, cancelled.body["status"], cancelled.body["reason"]) == (200, "FAILED", "cancelled")
    assert twice.body == cancelled.body
    assert (again.status, again.body["status"], again.body["branch"]) == (201, "PENDING", "main")
    assert again.body["id"] != build.id
    actions = (await api.get(f"/api/audit-logs?projectId={build.project}")).body["auditLogs"]
    assert [(one["action"], one.get("reason")) for one in actions][:3] == [
        ("build.retry", "typo fixed"),
        ("build.cancel", "typo"),
        ("build.create", None),
    ]
    for word in ("cancel", "retry"):
        assert (await api.post(f"/api/builds/{uuid.uuid4()}/{word}")).status == 404


@pytest.mark.covers("build-server: GET /api/builds/{id}/steps", "build-server: GET /api/steps/{id}")
async def test_steps_tell_their_place_and_state(api: Api) -> None:
    build = await api.build(step("a"), step("b", dependsOn=["a"]))

    steps = (await api.get(f"/api/builds/{build.id}/steps")).body["steps"]

    assert [(one["name"], one["status"], one["dependsOn"]) for one in steps] == [
        ("a", "PENDING", []),
        ("b", "PENDING", ["a"]),
    ]
    assert (await api.get(f"/api/steps/{build.steps['b']}")).body == steps[1]


@pytest.mark.covers("build-server: GET /api/audit-logs", "build_server.audit")
async def test_the_audit_log_is_filtered_by_project_and_action(api: Api) -> None:
    build = await api.build(step())

    every = (await api.get("/api/audit-logs")).body
    ours = (await api.get(f"/api/audit-logs?projectId={build.project}&action=build.create")).body

    assert [one["action"] for one in every["auditLogs"]] == [
        "build.create",
        "workflow.create",
        "image.create",
        "project.create",
    ]
    assert "projectId" not in every["auditLogs"][2]
    assert every["pagination"] == {"total": 4, "limit": 100, "offset": 0, "hasMore": False}
    assert [one["resourceId"] for one in ours["auditLogs"]] == [build.id]
    assert ours["auditLogs"][0]["projectId"] == build.project
    assert (await api.get("/api/audit-logs?projectId=7")).status == 404
    assert (await api.get("/api/audit-logs?action=%00")).status == 400
