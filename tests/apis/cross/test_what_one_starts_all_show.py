"""What one API starts, all show, each in its own words, to those who may see it: the tables of the data model.

Each starter starts a build through its API. Each reader looks at it through its own, as each kind of person, and
says what it saw: for each thing, what it is, or the status that refused it. A new API adds a starter and a reader.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from apis.cross.yard import KEPT, SETUP, TASK, WHO, Yard

COMMIT = "c0ffee" * 6 + "c0ff"
REPOSITORY = "https://example.org/web.git"
MANIFEST = f"image: debian\nsources:\n  - {REPOSITORY}#{COMMIT}\nartifacts:\n  - out\ntasks:\n  - test: make\n"


@dataclass(frozen=True)
class Started:
    """A build, and what every API says of it: its pipeline, its one task, tags, and a note."""

    uid: str
    number: int
    pipeline: str
    task: str
    tags: str
    note: str
    manifest: str | None


Seen = dict[str, Any]


# --- starters -----------------------------------------------------------------------------------


async def by_build_server(yard: Yard) -> Started:
    """A build of a workflow in a private project."""
    project = (await yard.must("POST", "/api/projects", {"accountId": "bob", "name": "web"}))["id"]
    await yard.must("POST", "/api/docker-images", {"slug": "debian", "imageUrl": "docker://example.org/debian:12"})
    step = {
        "name": "test",
        "imageSlug": "debian",
        "runScript": "make",
        "dependsOn": [],
        "cacheDirs": [],
        "outputPaths": ["out"],
    }
    workflow = (await yard.must("POST", f"/api/projects/{project}/workflows", {"name": "ci", "steps": [step]}))["id"]
    source = {"repoUrl": REPOSITORY, "commitHash": COMMIT, "commitMessage": "A change"}
    made = await yard.must("POST", f"/api/projects/{project}/builds", {"workflowId": workflow, **source})
    number = (await yard.view(made["id"])).build.id
    return Started(made["id"], number, "ci", "test", "web/ci", "A change", None)


async def by_sourcehut(yard: Yard, **more: object) -> Started:
    """A job that everyone may read."""
    job = {"manifest": MANIFEST, "note": "A change", "tags": ["web", "debian"], **more}
    made = await yard.must("POST", "/api/jobs", job)
    (view,), _ = await yard.listed()
    assert view.build.id == made["id"]
    return Started(view.build.uid, made["id"], "web", "test", "web/debian", "A change", MANIFEST)


async def by_sourcehut_in_private(yard: Yard) -> Started:
    """A job that only who submitted it may read."""
    return await by_sourcehut(yard, **{"access:read": []})


STARTERS: dict[str, Callable[[Yard], Awaitable[Started]]] = {
    "build server": by_build_server,
    "sourcehut": by_sourcehut,
    "sourcehut, private": by_sourcehut_in_private,
}


# --- readers ------------------------------------------------------------------------------------


async def in_build_server(yard: Yard, started: Started, who: str) -> Seen:
    """What the Build Server API shows of it."""
    build = await yard.get(f"/api/builds/{started.uid}", who)
    steps = await yard.get(f"/api/builds/{started.uid}/steps", who)
    artifacts = await yard.get(f"/api/builds/{started.uid}/artifacts", who)
    found = await yard.get("/api/builds", who)
    seen: Seen = {
        "status": build.body["status"] if build.ok else build.status,
        "source": (build.body["repoUrl"], build.body["commitHash"]) if build.ok else build.status,
        "tasks": [one["status"] for one in steps.body["steps"]] if steps.ok else steps.status,
        "artifacts": [(one["path"], one["size"]) for one in artifacts.body["artifacts"]]
        if artifacts.ok
        else artifacts.status,
        "listed": started.uid in [one["id"] for one in found.body["builds"]] if found.ok else found.status,
    }
    everything = (await yard.must("GET", f"/api/builds/{started.uid}/steps", by="submitter"))["steps"]
    log = await yard.get(f"/api/steps/{everything[0]['id']}/logs", who)
    seen["log"] = log.body if log.ok else log.status
    kept = (await yard.must("GET", f"/api/builds/{started.uid}/artifacts", by="submitter"))["artifacts"]
    bytes_of = [await yard.get(f"/api/artifacts/{one['id']}", who) for one in kept]
    seen["bytes"] = [one.body if one.ok else one.status for one in bytes_of]
    return seen | await _pipeline(yard, started, who)


async def _pipeline(yard: Yard, started: Started, who: str) -> Seen:
    whole = await yard.must("GET", f"/api/builds/{started.uid}", by="submitter")
    found = await yard.get(f"/api/projects/{whole['projectId']}/workflows/{whole['workflowId']}", who)
    return {"pipeline": found.body["name"] if found.ok else found.status}


async def in_sourcehut(yard: Yard, started: Started, who: str) -> Seen:
    """What the API of builds.sr.ht shows of it."""
    path = f"/api/jobs/{started.number}"
    job, artifacts, manifest = [await yard.get(path + rest, who) for rest in ("", "/artifacts", "/manifest")]
    whole = await yard.must("GET", path, by="submitter")
    setup, log = await yard.get(whole["setup_log"], who), await yard.get(whole["tasks"][0]["log"], who)
    kept = await yard.must("GET", f"{path}/artifacts", by="submitter")
    bytes_of = [await yard.get(one["url"], who) for one in kept]
    page, feed = await yard.get("/~bob", who), await yard.get("/~bob/rss.xml", who)
    own = await yard.get("/api/jobs", who)
    return {
        "status": job.body["status"] if job.ok else job.status,
        "tasks": [one["status"] for one in job.body["tasks"]] if job.ok else job.status,
        "tags": job.body["tags"] if job.ok else job.status,
        "note": job.body["note"] if job.ok else job.status,
        "owner": job.body["owner"]["canonical_name"] if job.ok else job.status,
        "manifest": manifest.body.decode() if manifest.ok else manifest.status,
        "setup": setup.body if setup.ok else setup.status,
        "log": log.body if log.ok else log.status,
        "artifacts": [(one["path"], one["size"]) for one in artifacts.body] if artifacts.ok else artifacts.status,
        "bytes": [one.body if one.ok else one.status for one in bytes_of],
        "listed": started.number in [one["id"] for one in own.body["results"]] if own.ok else own.status,
        "page": f"#{started.number}<".encode() in page.body,
        "feed": f"#{started.number}:".encode() in feed.body,
    }


READERS = {"build server": in_build_server, "sourcehut": in_sourcehut}


# --- the tables ---------------------------------------------------------------------------------

WORDS = {
    "queued": {"build server": ("PENDING", "PENDING"), "sourcehut": ("queued", "pending")},
    "running": {"build server": ("RUNNING", "RUNNING"), "sourcehut": ("running", "running")},
    "success": {"build server": ("SUCCESS", "SUCCESS"), "sourcehut": ("success", "success")},
    "failed": {"build server": ("FAILED", "FAILED"), "sourcehut": ("failed", "failed")},
}
"""A build's and its task's status at each stage."""

SEES = {
    "build server": {"anonymous": False, "stranger": False, "member": True, "submitter": True},
    "sourcehut": {"anonymous": True, "stranger": True, "member": True, "submitter": True},
    "sourcehut, private": {"anonymous": False, "stranger": False, "member": False, "submitter": True},
}
"""Who sees what was started there: as its project says, or as its own list does."""


def expected_in_build_server(started: Started, starter: str, stage: str, who: str) -> Seen:
    """What that API shall show: nothing without a token."""
    keys = ("status", "source", "tasks", "artifacts", "listed", "log", "pipeline")
    kept = stage == "success"
    if who == "anonymous":
        return dict.fromkeys(keys, 401) | {"bytes": [401] * kept}
    belongs = who in ("member", "submitter")
    if not SEES[starter][who]:
        refused = dict.fromkeys(keys, 404) | {"listed": False, "bytes": [404] * kept}
        return refused | {"pipeline": started.pipeline if belongs else 404}
    status, task = WORDS[stage]["build server"]
    return {
        "status": status,
        "source": (REPOSITORY, COMMIT),
        "tasks": [task],
        "artifacts": [("out", len(KEPT))] * kept,
        "listed": True,
        "log": b"" if stage == "queued" else SETUP + TASK,
        "bytes": [KEPT] * kept,
        "pipeline": started.pipeline if belongs else 404,  # the workflow is its project's
    }


def expected_in_sourcehut(started: Started, starter: str, stage: str, who: str) -> Seen:
    """What that API shall show: jobs and lists of artifacts need a token, files of those who may see it do not."""
    words = ("status", "tasks", "tags", "note", "owner", "artifacts")
    kept, ended = stage == "success", stage in ("success", "failed")
    listed = 401 if who == "anonymous" else who == "submitter"  # one's own jobs, whichever API started them
    if not SEES[starter][who]:
        refused: Seen = dict.fromkeys(words, 401 if who == "anonymous" else 404)
        files: Seen = dict.fromkeys(("manifest", "setup", "log"), 404)
        return refused | files | {"bytes": [404] * kept, "listed": listed, "page": False, "feed": False}
    status, task = WORDS[stage]["sourcehut"]
    seen: Seen = {
        "status": status,
        "tasks": [task],
        "tags": started.tags,
        "note": started.note,
        "owner": "~bob",
        "manifest": started.manifest,
        "setup": b"" if stage == "queued" else SETUP,
        "log": b"" if stage == "queued" else TASK,
        "artifacts": [("out", len(KEPT))] * kept,
        "bytes": [KEPT] * kept,
        "listed": listed,
        "page": True,
        "feed": ended,
    }
    return seen | (dict.fromkeys(words, 401) if who == "anonymous" else {})


EXPECTED = {"build server": expected_in_build_server, "sourcehut": expected_in_sourcehut}


@pytest.mark.covers("cross.shows", "cross.access")
@pytest.mark.parametrize("end", ["success", "failed"])
@pytest.mark.parametrize("starter", STARTERS)
async def test_each_api_shows_it_in_its_words_to_those_who_may_see_it(yard: Yard, starter: str, end: str) -> None:
    started = await STARTERS[starter](yard)
    worker = await yard.worker()

    await check(yard, started, starter, "queued")
    await worker.begin()
    await check(yard, started, starter, "running")
    await worker.end(end)
    await check(yard, started, starter, end)


async def check(yard: Yard, started: Started, starter: str, stage: str) -> None:
    """Each reader sees it as each kind of person as the tables say."""
    for reader, read in READERS.items():
        for who in WHO:
            seen = await read(yard, started, who)
            expected = EXPECTED[reader](started, starter, stage, who)
            if started.manifest is None and isinstance(seen.get("manifest"), str):
                assert seen.pop("manifest").startswith("# generated")
                expected.pop("manifest")
            assert seen == expected, (starter, stage, reader, who)


CANCELS = {
    "build server": lambda started: f"/api/builds/{started.uid}/cancel",
    "sourcehut": lambda started: f"/api/jobs/{started.number}/cancel",
}


@pytest.mark.covers("cross.cancel")
@pytest.mark.parametrize("by", sorted(CANCELS))
@pytest.mark.parametrize("starter", ["build server", "sourcehut"])
async def test_each_api_cancels_what_any_started(yard: Yard, starter: str, by: str) -> None:
    started = await STARTERS[starter](yard)

    assert not (await yard.call("POST", CANCELS[by](started), "stranger", {})).ok
    assert (await READERS[by](yard, started, "submitter"))["status"] in ("PENDING", "queued")
    await yard.must("POST", CANCELS[by](started), {})

    words = [(await read(yard, started, "submitter"))["status"] for read in READERS.values()]
    assert words == ["FAILED", "cancelled"]
