"""Whose folders are built, what is shown of credentials, and what is refused on a full disk."""

import hashlib

import msgspec
import pytest

from apis.native.conftest import Serve
from apis.native.serving import Server
from buildyard.protocol import VERSION, Claim, Claimed, Hello

WORKFLOW = "jobs: {a: {run: 'true'}}"


async def upload(server: Server, data: bytes = b"packed", by: str = "") -> dict[str, object]:
    """The receipt of an upload."""
    answer = await server.call("PUT", "/uploads", data=data, by=by)
    assert answer.status == 201
    folder: dict[str, object] = answer.body
    return folder


async def test_who_uploaded_a_folder_may_build_it(server: Server) -> None:
    assert (await server.submit(WORKFLOW, folder=await upload(server))).status == 201


async def test_nobody_builds_a_folder_that_another_uploaded(server: Server) -> None:
    folder = await upload(server)
    bob = await server.token("bob", "*")
    own = await upload(server, b"his own", by=bob)

    for stolen in (folder, {**own, "sha256": folder["sha256"]}, {**folder, "receipt": ""}):
        assert (await server.submit(WORKFLOW, folder=stolen, by=bob)).status == 404
    assert (await server.submit(WORKFLOW, folder=own, by=bob)).status == 201


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "0" * 64, hashlib.sha256(b"packed").hexdigest()])
async def test_a_digest_alone_is_no_folder(server: Server, sha256: str) -> None:
    await upload(server)

    assert (await server.submit(WORKFLOW, folder={"sha256": sha256, "size": 6})).status == 404
    assert (await server.submit(WORKFLOW, folder={"sha256": sha256, "size": 6, "receipt": "é"})).status == 404


async def test_a_folder_with_another_size_than_was_uploaded_is_none(server: Server) -> None:
    assert (await server.submit(WORKFLOW, folder={**await upload(server), "size": 1})).status == 404


async def test_uploads_have_their_own_limit(serve: Serve) -> None:
    server = await serve(BUILDYARD_LIMIT_UPLOAD="10", BUILDYARD_LIMIT_BLOB="1GiB")

    assert (await server.call("PUT", "/uploads", data=b"x" * 11)).status == 413
    assert (await server.call("PUT", "/uploads", data=b"x" * 10)).status == 201


async def test_a_nearly_full_disk_takes_no_new_work(serve: Serve) -> None:
    server = await serve(BUILDYARD_LIMIT_FREE_DISK="1000000GiB")

    answer = await server.submit(WORKFLOW)

    assert (answer.status, "disk is nearly full" in answer.body["error"]) == (429, True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://bob:s3cret@example.org/a.git", "https://***@example.org/a.git"),
        ("https://s3cret@example.org/a.git", "https://***@example.org/a.git"),
        ("ssh://git@example.org/a.git", "ssh://git@example.org/a.git"),
    ],
)
async def test_credentials_in_a_repositorys_address_are_not_shown(server: Server, url: str, shown: str) -> None:
    answer = await server.submit(f"source: {{git: '{url}'}}\n{WORKFLOW}")
    assert answer.status == 201, answer.body

    tree = await server.call("GET", f"/builds/{answer.body['id']}")

    assert tree.body["build"]["revision"] == answer.body["revision"] == shown
    assert b"s3cret" not in tree.data


async def test_logs_are_sent_as_what_no_browser_runs(server: Server) -> None:
    assert (await server.submit(WORKFLOW)).status == 201
    worker = await server.token("admin", "runner")
    hello = Hello(
        protocol=VERSION,
        name="w",
        session="s",
        state_id="x",
        version="0",
        labels=[],
        executors=["process"],
        system="",
        slots=1,
    )
    assert (await server.call("POST", "/worker/v1/hello", data=msgspec.msgpack.encode(hello), by=worker)).status == 200
    claim = msgspec.msgpack.encode(Claim(session="s", free=1, have=[], wait_s=0))
    claimed = await server.call("POST", "/worker/v1/claim", data=claim, by=worker)
    (grant,) = msgspec.msgpack.decode(claimed.data, type=Claimed).jobs

    answer = await server.call("GET", f"/logs/{grant.steps[0].log}")

    assert answer.status == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")


async def test_who_is_no_worker_is_refused_before_anything_is_read(server: Server) -> None:
    bob = await server.token("bob", "*")

    for by, status in ((None, 401), (bob, 403)):
        assert (await server.call("POST", "/worker/v1/report", data=b"not MessagePack", by=by)).status == status
