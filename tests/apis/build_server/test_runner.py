"""Claims and reports of runners, as requests."""

import asyncio
import base64
from typing import Any

import pytest

from apis.build_server.serving import Answer, Api, Submitted, step
from buildyard.domain.access import SYSTEM
from buildyard.engine import leasing

BYTES = {"Content-Type": "application/octet-stream"}


async def claimed(api: Api, build: Submitted, name: str = "test") -> tuple[str, str]:
    """The address of a step below /api/runner and the token that now holds it."""
    path = f"/api/runner/{build.steps[name]}"
    answer = await api.post(f"{path}/claim")
    assert answer.status == 200, answer.body
    return path, answer.body["token"]


async def send(api: Api, path: str, token: str, data: bytes, *, offset: int = 0, command: int = 1) -> Answer:
    """Send output."""
    query = f"command={command}&offset={offset}"
    headers = {**BYTES, "X-Buildyard-Step-Token": token}
    return await api.post(f"{path}/logs?{query}", data=data, headers=headers)


async def complete(api: Api, path: str, status: Any = "success", **more: Any) -> Answer:
    """Report."""
    return await api.post(f"{path}/complete", {"status": status, **more})


@pytest.mark.covers(
    "build-server: POST /api/runner/{stepId}/complete", "build_server.bad.complete", "build_server.operations"
)
async def test_a_report_without_a_token_claims_and_finishes_a_queued_step(api: Api) -> None:
    build = await api.build(step("a"), step("b", dependsOn=["a"]))
    a, b = (f"/api/runner/{build.steps[name]}" for name in "ab")

    early = await complete(api, b)
    first = await complete(api, a, logs="hello\n", outputPaths=["dist/a"])
    last = await complete(api, b)

    assert early.status == 409
    assert first.body == {"success": True, "stepStatus": "SUCCESS", "buildComplete": False}
    assert last.body == {"success": True, "stepStatus": "SUCCESS", "buildComplete": True}
    assert (await api.get(f"/api/steps/{build.steps['a']}/logs")).data == b"hello\n"
    assert (await api.get(f"/api/builds/{build.id}")).body["status"] == "SUCCESS"
    audit = (await api.get(f"/api/audit-logs?projectId={build.project}&action=step.complete")).body["auditLogs"]
    assert audit[1]["details"]["outputPaths"] == ["dist/a"]


@pytest.mark.covers("build_server.bad.complete")
async def test_the_same_report_again_is_answered_alike_and_a_contradiction_is_refused(api: Api) -> None:
    build = await api.build(step("a"), step("b", dependsOn=["a"]))
    path = f"/api/runner/{build.steps['a']}"

    first = await complete(api, path)
    await complete(api, f"/api/runner/{build.steps['b']}", "failed")

    again = await complete(api, path, logs="other")
    assert (again.status, again.body) == (200, first.body)
    assert (await complete(api, path, "failed")).status == 409
    assert (await complete(api, path, token="stale")).status == 409


@pytest.mark.covers("build_server.bad.complete")
@pytest.mark.parametrize("status", ["SUCCESS", "", None, 7, "done"])
async def test_a_wrong_status_is_refused(api: Api, status: object) -> None:
    build = await api.build(step())

    answer = await complete(api, f"/api/runner/{build.steps['test']}", status)

    assert (answer.status, list(answer.codes)) == (400, ["status"])
    assert (await api.get(f"/api/builds/{build.id}")).body["status"] == "PENDING"


@pytest.mark.covers("build_server.bad.complete", "build-server: POST /api/runner/{stepId}/claim")
async def test_a_held_step_is_reported_by_its_holder_only(api: Api) -> None:
    build = await api.build(step())
    path, token = await claimed(api, build)

    assert (await api.post(f"{path}/claim")).status == 409
    assert (await complete(api, path)).status == 409
    assert (await complete(api, path, token="wrong")).status == 409
    assert (await api.post(f"{path}/claim", {"token": token})).body["token"] == token
    assert (await api.get(f"/api/steps/{build.steps['test']}")).body["status"] == "RUNNING"

    done = await complete(api, path, "failed", token=token, exitStatus=3)
    again = await complete(api, path, "failed", token=token, exitStatus=3)
    tokenless = await complete(api, path, "failed")

    assert done.body == {"success": True, "stepStatus": "FAILED", "buildComplete": True}
    assert (again.body, tokenless.body) == (done.body, done.body)
    assert (await complete(api, path, token=token)).status == 409
    assert (await api.post(f"{path}/claim")).status == 409
    assert (await api.post(f"{path}/claim", {"token": token})).status == 409
    read = (await api.get(f"/api/steps/{build.steps['test']}")).body
    assert read["attempts"][0]["commands"][1]["exitStatus"] == 3
    assert read["detail"] == "the script ended with status 3"


@pytest.mark.covers("build_server.bad.complete")
async def test_a_cancelled_step_takes_no_report_from_those_who_never_held_it(api: Api) -> None:
    build = await api.build(step())
    await api.post(f"/api/builds/{build.id}/cancel")
    path = f"/api/runner/{build.steps['test']}"

    assert (await complete(api, path)).status == 409
    assert (await complete(api, path, "failed")).status == 409
    assert (await api.post(f"{path}/claim")).status == 409


@pytest.mark.covers("build_server.bad.complete")
async def test_the_holder_of_a_cancelled_step_is_told_to_stop_and_its_report_ends_it_as_cancelled(api: Api) -> None:
    build = await api.build(step())
    path, token = await claimed(api, build)
    assert (await send(api, path, token, b"working\n")).body == {"size": 8, "stop": False}

    await api.post(f"/api/builds/{build.id}/cancel")

    assert (await send(api, path, token, b"", offset=8)).body == {"size": 8, "stop": True}
    done = await complete(api, path, "failed", token=token)
    assert done.body["stepStatus"] == "FAILED"
    assert (await api.get(f"/api/builds/{build.id}")).body["reason"] == "cancelled"
    assert (await api.get(f"/api/steps/{build.steps['test']}/logs")).data == b"working\n"


@pytest.mark.covers("build_server.bad.complete", "engine.lease.fencing")
async def test_a_runner_whose_lease_was_lost_changes_nothing(api: Api) -> None:
    build = await api.build(step())
    path, token = await claimed(api, build)
    await send(api, path, token, b"first")
    found = (await api.get(f"/api/steps/{build.steps['test']}")).body
    assert len(found["attempts"]) == 1
    lost = await api.engine.read(_open_attempts, SYSTEM, build.steps["test"])
    await api.engine.run(leasing.lose_attempts, SYSTEM, lost, "test")

    assert (await send(api, path, token, b"more", offset=5)).status == 409
    assert (await complete(api, path, token=token)).status == 409
    path, newer = await claimed(api, build)
    assert newer != token
    assert (await complete(api, path, token=token)).status == 409
    await send(api, path, newer, b"second\n")
    assert (await complete(api, path, token=newer)).body["stepStatus"] == "SUCCESS"
    assert (await api.get(f"/api/steps/{build.steps['test']}/logs")).data == b"first\n--- attempt 2 ---\nsecond\n"


async def _open_attempts(tx: Any, _actor: Any, uid: str) -> list[Any]:
    from buildyard.store import attempts, jobs

    return [one.id for one in await attempts.of_job(tx, (await jobs.get_by_uid(tx, uid)).id)]


@pytest.mark.covers("build-server: POST /api/runner/{stepId}/logs")
async def test_output_sent_again_changes_nothing_and_a_gap_is_refused(api: Api) -> None:
    build = await api.build(step())
    path, token = await claimed(api, build)

    await send(api, path, token, b"setup\n", command=0)
    await send(api, path, token, b"one\n")
    assert (await send(api, path, token, b"one\ntwo\n")).body["size"] == 8
    assert (await send(api, path, token, b"x", offset=99)).status == 409
    assert (await send(api, path, token, b"x", command=0, offset=6)).status == 409
    assert (await send(api, path, token, b"x", command=2)).status == 404
    assert (await send(api, path, "", b"x")).status == 409
    assert (await api.post(f"{path}/logs?offset=-1", data=b"x", headers=BYTES)).status == 400
    assert (await api.post(f"{path}/logs", data=b"x", headers={"Content-Type": "application/json"})).status == 415
    assert (await send(api, path, token, b"x" * (4 * 1024 * 1024 + 1))).status == 413
    assert (await api.get(f"/api/steps/{build.steps['test']}/logs")).data == b"setup\none\ntwo\n"


@pytest.mark.covers("build-server: POST /api/runner/claim", "build_server.extensions")
async def test_a_runner_is_given_the_next_step_or_waits_for_one(api: Api) -> None:
    assert (await api.post("/api/runner/claim", {})).status == 204
    waiting = asyncio.create_task(api.post("/api/runner/claim", {"labels": ["linux"], "wait": 60}))

    build = await api.build(step())
    given = await waiting

    assert given.status == 200
    assert given.body["stepId"] == build.steps["test"]
    assert given.body["scriptUrl"] == f"{api.url}/api/runner/{build.steps['test']}"
    assert (await api.post("/api/runner/claim", {})).status == 204
    done = await complete(api, f"/api/runner/{given.body['stepId']}", token=given.body["token"])
    assert done.body["buildComplete"] is True


async def test_bad_claims_are_refused(api: Api) -> None:
    answer = await api.post("/api/runner/claim", {"labels": [1], "wait": 61, "system": 3})

    assert (answer.status, set(answer.codes)) == (400, {"labels[0]", "wait", "system"})


@pytest.mark.covers(
    "build-server: GET /api/runner/{stepId}", "build_server.runner.looking", "build_server.runner.quoting"
)
async def test_looking_at_a_script_changes_nothing_and_shows_values_quoted(api: Api) -> None:
    nasty = "'; touch /tmp/pwned; $(id) `id` \"\n#"
    build = await api.build(
        step(nasty, "echo secret sauce", outputPaths=["a b'$(id)/*.x"]),
        repoUrl="https://user:hunter2@example.org/x.git",
        branch="x;$(id)",
    )
    uid = build.steps[nasty]

    first = await api.get(f"/api/runner/{uid}")
    again = await api.call("HEAD", f"/api/runner/{uid}")

    assert (first.status, first.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert first.headers["cache-control"] == "no-store"
    text = first.data.decode()
    assert "hunter2" not in text
    assert base64.b64encode(b"echo secret sauce").decode() in text
    assert f"server={api.url}\n" in text
    assert "branch='x;$(id)'\n" in text
    assert again.status == 200
    assert (await api.get(f"/api/steps/{uid}")).body["attempts"] == []
    checked = await asyncio.create_subprocess_exec("bash", "-n", stdin=asyncio.subprocess.PIPE)
    await checked.communicate(first.data)
    assert checked.returncode == 0


@pytest.mark.covers("build_server.bad.unknown")
@pytest.mark.parametrize("uid", ["7", "3f0c8a52-6d1b-4c6e-9a57-0b1de2a4c9f1", "%00"])
async def test_an_unknown_step_is_a_404(api: Api, uid: str) -> None:
    assert (await api.get(f"/api/runner/{uid}")).status == 404
    assert (await api.post(f"/api/runner/{uid}/claim", {})).status == 404
    assert (await complete(api, f"/api/runner/{uid}")).status == 404
    assert (await api.get(f"/api/steps/{uid}/logs")).status == 404
    assert (await api.get(f"/api/artifacts/{uid}")).status == 404
    assert (await api.get(f"/api/builds/{uid}/artifacts")).status == 404


@pytest.mark.covers("build_server.bad.paths", "build-server: PUT /api/runner/{stepId}/artifacts/{path}")
async def test_bad_paths_of_outputs_and_unknown_bytes_are_refused(api: Api) -> None:
    build = await api.build(step())
    path, token = await claimed(api, build)
    headers = {**BYTES, "X-Buildyard-Step-Token": token}

    for bad in ("..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "a%00b", "%ff", "a%2f..%2fb"):
        assert (await api.call("PUT", f"{path}/artifacts/{bad}", data=b"x", headers=headers)).status in (400, 404), bad
    stale = {**BYTES, "X-Buildyard-Step-Token": "no"}
    assert (await api.call("PUT", f"{path}/artifacts/a", data=b"x", headers=stale)).status == 409
    unknown = {"path": "a", "sha256": "0" * 64}
    assert (await complete(api, path, token=token, artifacts=[unknown])).status == 400
    assert (await complete(api, path, token=token, artifacts=[{"path": "/a", "sha256": "x"}])).codes == {
        "artifacts[0].path": "path",
        "artifacts[0].sha256": "sha256",
    }
