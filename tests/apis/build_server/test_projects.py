"""Accounts, projects, workflows and images, and everything that can be wrong with them."""

import asyncio
import json

import pytest

from apis.build_server.serving import Api, step


@pytest.mark.covers("build-server: POST /api/projects", "build-server: GET /api/projects", "build_server.operations")
async def test_a_project_made_for_an_unknown_account_is_listed_there_alone(api: Api) -> None:
    assert (await api.get("/api/projects?accountId=acme")).body == []

    made = await api.post("/api/projects", {"accountId": "acme", "name": "Hello, world", "shoe": 43})
    other = await api.post("/api/projects", {"accountId": "other", "name": "Hello, world"})

    assert (made.status, other.status) == (201, 201)
    assert made.body.keys() == {"id", "accountId", "name", "createdAt", "updatedAt"}
    assert (made.body["accountId"], made.body["name"]) == ("acme", "Hello, world")
    assert made.body["createdAt"].endswith("Z")
    assert (await api.get("/api/projects?accountId=acme")).body == [made.body]


@pytest.mark.covers("build_server.bad.names")
@pytest.mark.parametrize(
    ("name", "code"), [("", "too_short"), ("x" * 101, "too_long"), ("a\0b", "nul"), (7, "type"), (None, "type")]
)
async def test_a_bad_name_is_a_400_that_names_the_field(api: Api, name: object, code: str) -> None:
    answer = await api.post("/api/projects", {"accountId": "acme", "name": name})

    assert (answer.status, answer.codes) == (400, {"name": code})
    assert answer.body["error"]


@pytest.mark.covers("build_server.bad.names", "build_server.bad.json")
@pytest.mark.parametrize(
    "data",
    [
        b'{"accountId": "acme", "name": "\xff\xfe"}',
        b'{"accountId": "acme", "name": "\\ud800"}',
        b'{"accountId": "acme"',
        b"[" * 100_000,
        b"nonsense",
        b'{"a": 1} x',
    ],
)
async def test_malformed_json_is_a_400(api: Api, data: bytes) -> None:
    answer = await api.post("/api/projects", data=data, headers={"Content-Type": "application/json"})

    assert (answer.status, answer.body["details"][0]["code"]) == (400, "malformed")


@pytest.mark.covers("build_server.bad.types", "build_server.errors")
async def test_all_faults_are_told_at_once(api: Api) -> None:
    answer = await api.post("/api/projects", {"accountId": [], "name": ""})
    array = await api.post("/api/projects", [1])

    assert (answer.status, answer.codes) == (400, {"accountId": "type", "name": "too_short"})
    assert (array.status, array.codes) == (400, {"body": "type"})
    assert (await api.post("/api/projects", {})).codes == {"accountId": "required", "name": "required"}


@pytest.mark.covers("build_server.errors")
async def test_missing_accounts_and_bad_types_of_bodies_are_refused(api: Api) -> None:
    missing = await api.get("/api/projects")
    form = await api.post("/api/projects", data=b"accountId=a", headers={"Content-Type": "text/plain"})
    nul = await api.get("/api/projects?accountId=%00")

    assert (missing.status, missing.body["details"][0]["path"]) == (400, "accountId")
    assert form.status == 415
    assert nul.status == 400


@pytest.mark.covers("build_server.errors")
async def test_unknown_addresses_and_methods_are_answered_in_the_same_format(api: Api) -> None:
    wrong = await api.call("DELETE", "/api/projects")
    unknown = await api.get("/api/nothing")
    options = await api.call("OPTIONS", "/api/projects")
    head = await api.call("HEAD", "/api/projects?accountId=acme")

    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert wrong.body.keys() == {"error", "details"}
    assert (unknown.status, unknown.body.keys()) == (404, {"error", "details"})
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert (head.status, head.data) == (200, b"")
    assert (await api.get("/api/projects/?accountId=acme")).status == 404


@pytest.mark.covers("build_server.errors")
async def test_a_body_over_32_mib_is_a_413_that_names_the_limit(api: Api) -> None:
    async def pieces() -> object:
        for _ in range(40):
            yield b" " * 1024 * 1024

    answer = await api.post("/api/projects", data=pieces(), headers={"Content-Type": "application/json"})

    assert answer.status == 413
    assert "32 MiB" in answer.body["error"]


@pytest.mark.covers("build_server.bad.unknown")
@pytest.mark.parametrize(
    "project", ["7", "nothing", "%00", "%ff", "3f0c8a52-6d1b-4c6e-9a57-0b1de2a4c9f1", "..%2f..%2fetc"]
)
async def test_an_unknown_project_is_a_404(api: Api, project: str) -> None:
    for path in ("workflows", "builds"):
        answer = await api.get(f"/api/projects/{project}/{path}")
        assert (answer.status, answer.body.keys()) == (404, {"error", "details"})
    assert (await api.post(f"/api/projects/{project}/workflows", {"name": "x", "steps": []})).status == 404


@pytest.mark.covers(
    "build-server: POST /api/projects/{id}/workflows",
    "build-server: GET /api/projects/{id}/workflows",
    "build-server: GET /api/projects/{id}/workflows/{workflowId}",
    "build_server.bad.unknown_fields",
)
async def test_a_workflow_is_read_back_with_its_steps(api: Api) -> None:
    project = await api.project()
    await api.image()
    steps = [
        step("compile", "make", cacheDirs=["./cache/", "deps"], outputPaths=["dist/*.whl"], mood="good"),
        step("test", "make check\n", dependsOn=["compile"]),
    ]

    made = await api.post(f"/api/projects/{project}/workflows", {"name": "ci", "steps": steps, "color": "red"})
    again = await api.post(f"/api/projects/{project}/workflows", {"name": "ci", "steps": steps})
    read = await api.get(f"/api/projects/{project}/workflows/{made.body['id']}")

    assert made.status == again.status == 201
    assert made.body.keys() == {"id", "projectId", "name", "createdAt", "updatedAt"}
    assert made.body["id"] != again.body["id"]
    assert read.body["steps"] == [
        {**step("compile", "make", cacheDirs=["cache", "deps"], outputPaths=["dist/*.whl"])},
        {**step("test", "make check\n", dependsOn=["compile"])},
    ]
    listed = await api.get(f"/api/projects/{project}/workflows")
    assert [one["id"] for one in listed.body] == [again.body["id"], made.body["id"]]
    other = await api.project("other")
    assert (await api.get(f"/api/projects/{other}/workflows/{made.body['id']}")).status == 404


@pytest.mark.covers(
    "build_server.bad.unknown", "build_server.bad.cycles", "build_server.bad.paths", "build_server.bad.types"
)
async def test_a_workflow_with_many_faults_is_refused_with_all_of_them(api: Api) -> None:
    project = await api.project()
    await api.image()
    steps = [
        step("a", dependsOn=["nobody"], outputPaths=["../secret", "/etc/passwd", "ok/*"]),
        step("b", dependsOn=["b"], cacheDirs=["/root", "a/../b"]),
        step("a", imageSlug="unknown"),
        {**step("", ""), "dependsOn": "a"},
        step("x" * 101, cacheDirs=[3]),
        "nonsense",
    ]

    answer = await api.post(f"/api/projects/{project}/workflows", {"name": "", "steps": steps})

    assert answer.status == 400
    assert answer.codes == {
        "name": "too_short",
        "steps[0].dependsOn[0]": "unknown_dependency",
        "steps[0].outputPaths[0]": "path",
        "steps[0].outputPaths[1]": "path",
        "steps[1].dependsOn[0]": "self_dependency",
        "steps[1].cacheDirs[0]": "path",
        "steps[1].cacheDirs[1]": "path",
        "steps[2].name": "duplicate_name",
        "steps[2].imageSlug": "unknown_image",
        "steps[3].name": "too_short",
        "steps[3].runScript": "too_short",
        "steps[3].dependsOn": "type",
        "steps[4].name": "too_long",
        "steps[4].cacheDirs[0]": "type",
        "steps[5]": "type",
    }
    assert (await api.get(f"/api/projects/{project}/workflows")).body == []


@pytest.mark.covers("build_server.bad.cycles")
async def test_a_cycle_is_told_for_each_step_on_it(api: Api) -> None:
    project = await api.project()
    await api.image()
    steps = [step("a", dependsOn=["c"]), step("b", dependsOn=["a"]), step("c", dependsOn=["b"]), step("d")]

    answer = await api.post(f"/api/projects/{project}/workflows", {"name": "ci", "steps": steps})

    assert (answer.status, answer.codes) == (
        400,
        {f"steps[{i}].dependsOn": "cycle" for i in range(3)},
    )


async def test_a_workflow_without_steps_is_refused(api: Api) -> None:
    project = await api.project()

    answer = await api.post(f"/api/projects/{project}/workflows", {"name": "ci", "steps": []})

    assert (answer.status, answer.codes) == (400, {"steps": "empty"})


@pytest.mark.covers("build_server.bad.large_script")
async def test_a_script_over_the_limit_is_a_413_that_names_it(api: Api) -> None:
    project = await api.project()
    await api.image()

    fits = await api.post(
        f"/api/projects/{project}/workflows", {"name": "ci", "steps": [step(script="#" * 512 * 1024)]}
    )
    large = await api.post(
        f"/api/projects/{project}/workflows", {"name": "ci", "steps": [step(script="ä" * 256 * 1024 + "x")]}
    )

    assert fits.status == 201
    assert large.status == 413
    assert "512 KiB" in large.body["error"]
    assert "steps[0].runScript" in large.body["error"]


@pytest.mark.covers("build_server.bad.large_workflow")
async def test_a_workflow_of_ten_thousand_steps_works(api: Api) -> None:
    names = [f"step {i}" for i in range(10_000)]
    steps = [step(name, dependsOn=names[max(0, i - 3) : i]) for i, name in enumerate(names)]
    project = await api.project()

    workflow = await api.workflow(project, *steps)
    build = await api.build_again(project, workflow)

    read = await api.get(f"/api/projects/{project}/workflows/{workflow}")
    assert [one["name"] for one in read.body["steps"]] == names
    assert len(build.steps) == 10_000


@pytest.mark.covers("build-server: POST /api/docker-images", "build-server: GET /api/docker-images", "engine.images")
async def test_images_are_named_once_and_listed(api: Api) -> None:
    body = {"slug": "py", "imageUrl": "docker://registry.example.org:5000/python/slim:3.12", "public": True}

    made = await api.post("/api/docker-images", body)
    bare = await api.post("/api/docker-images", {"slug": "bare", "imageUrl": "alpine"})
    again = await api.post("/api/docker-images", {**body, "imageUrl": "alpine"})

    assert made.body.keys() == {"id", "slug", "imageUrl", "public", "createdAt"}
    assert (made.status, bare.status, again.status) == (201, 201, 409)
    assert [one["slug"] for one in (await api.get("/api/docker-images")).body] == ["bare", "py"]
    assert [one["slug"] for one in (await api.get("/api/docker-images?public=true")).body] == ["py"]
    assert [one["slug"] for one in (await api.get("/api/docker-images?public=false")).body] == ["bare"]
    assert (await api.get("/api/docker-images?public=maybe")).status == 400


@pytest.mark.parametrize("url", ["ftp://example.org/x", "docker://", "a b", "docker://x/../y", "x" * 2000, 5])
async def test_an_image_address_that_is_none_is_refused(api: Api, url: object) -> None:
    answer = await api.post("/api/docker-images", {"slug": "", "imageUrl": url, "public": "yes"})

    assert answer.status == 400
    assert set(answer.codes) == {"slug", "imageUrl", "public"}


@pytest.mark.covers("build_server.bad.slug_race")
async def test_of_two_creators_of_one_slug_at_once_one_wins(api: Api) -> None:
    body = {"slug": "same", "imageUrl": "alpine"}

    answers = await asyncio.gather(*(api.post("/api/docker-images", body) for _ in range(8)))

    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert json.dumps(answers[0].body)
