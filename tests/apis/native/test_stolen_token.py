"""A worker's token of one project in wrong hands: what each call of the worker protocol gives of another project."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import pytest

from apis.native.serving import Answer, Server
from buildyard.domain.access import SYSTEM
from buildyard.domain.ids import LogId
from buildyard.domain.states import Result, Stream
from buildyard.engine import identity
from buildyard.engine.projects import find_project
from buildyard.protocol import (
    VERSION,
    Ack,
    BlobStored,
    Claim,
    Claimed,
    FindCache,
    Finished,
    Heartbeat,
    Held,
    Hello,
    Item,
    JobGrant,
    Output,
    OutputChunk,
    OutputFile,
    PinRevision,
    Report,
    Reported,
    SavedCache,
    Started,
    Welcome,
)
from buildyard.protocol import Answer as Word

pytestmark = pytest.mark.covers("worker.token")

SECRET = b"hers alone, and long enough to be nobody's guess"
M = TypeVar("M")
WORKFLOW = {
    "jobs": {
        "make": {"run": "make", "outputs": ["out"], "caches": [".cache"]},
        "then": {"run": "use", "needs": ["make"]},
    }
}


@dataclass
class Caller:
    """Speaks the worker protocol with a token."""

    server: Server
    token: str
    name: str

    async def call(self, path: str, message: Any, *, method: str = "POST", data: bytes | None = None) -> Answer:
        body = msgspec.msgpack.encode(message) if data is None else data
        return await self.server.call(method, f"/worker/v1/{path}", data=body, by=f"Bearer {self.token}")

    async def ask(self, path: str, message: Any, answer: type[M]) -> M:
        found = await self.call(path, message)
        assert found.status == 200, found.data
        return msgspec.msgpack.decode(found.data, type=answer)

    def greeting(self, **more: Any) -> Hello:
        given = {"name": self.name, "session": self.name, "state_id": self.name, **more}
        return Hello(
            protocol=VERSION, version="0", labels=[], executors=["process"], system="x86_64-linux", slots=9, **given
        )

    async def hello(self) -> Welcome:
        return await self.ask("hello", self.greeting(), Welcome)

    async def take(self) -> JobGrant:
        (grant,) = (await self.ask("claim", Claim(session=self.name, free=1, have=[], wait_s=0), Claimed)).jobs
        return grant

    async def report(self, *items: Item) -> list[Ack]:
        return (await self.ask("report", Report(session=self.name, items=list(items)), Reported)).acks

    async def put(self, data: bytes) -> BlobStored:
        answer = await self.call("blobs", None, method="PUT", data=data)
        assert answer.status == 200
        return msgspec.msgpack.decode(answer.data, type=BlobStored)


@dataclass
class Scene:
    """Hers: a finished job with an output and a cache, and one that an honest worker holds. His: the stolen token."""

    honest: Caller
    thief: Caller
    hers: JobGrant
    log: int
    blob: BlobStored


@pytest.fixture
async def scene(server: Server) -> Scene:
    """All of it."""
    folder = await server.call("PUT", "/uploads", data=b"her source")
    assert (await server.submit(json.dumps(WORKFLOW), project="hers", folder=folder.body)).status == 201
    honest = Caller(server, await _token(server, None), "honest")
    await honest.hello()
    made = await honest.take()
    blob = await honest.put(SECRET)
    await honest.report(
        Started(attempt=made.attempt, token=made.token),
        Output(
            attempt=made.attempt,
            token=made.token,
            log=made.steps[0].log,
            offset=0,
            chunks=[OutputChunk(Stream.OUTPUT, 0, b"her log")],
        ),
        Finished(
            attempt=made.attempt,
            token=made.token,
            result=Result.SUCCESS,
            outputs=[OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)],
            caches=[SavedCache(path=".cache", key="", sha256=blob.sha256, size=blob.size)],
        ),
    )
    held = await honest.take()
    assert (await server.submit(json.dumps(WORKFLOW), project="his")).status == 201
    his = await server.engine.read(find_project, SYSTEM, "his")
    assert his is not None
    thief = Caller(server, await _token(server, his.uid), "thief")
    await thief.hello()
    return Scene(honest, thief, held, held.steps[0].log, blob)


async def _token(server: Server, project: str | None) -> str:
    made = await server.engine.run(identity.create_token, SYSTEM, "admin", ("runner",), project_uid=project)
    return made.secret


async def test_hello_takes_over_no_other_workers_name(scene: Scene) -> None:
    hello = scene.thief.greeting(name="honest", session="new", state_id="honest")

    assert (await scene.thief.call("hello", hello)).status == 409
    assert (await scene.honest.ask("heartbeat", _beat(scene), msgspec.Raw)) is not None


async def test_hello_with_anothers_attempt_is_told_to_drop_it(scene: Scene) -> None:
    held = [Held(attempt=scene.hers.attempt, token=scene.hers.token)]

    welcome = await scene.thief.ask("hello", scene.thief.greeting(held=held), Welcome)

    assert welcome.drop == [scene.hers.attempt]


async def test_claim_gives_jobs_of_its_project_only(scene: Scene) -> None:
    assert (await scene.thief.take()).project == "his"


def _beat(scene: Scene) -> Heartbeat:
    return Heartbeat(session="honest", held=[Held(attempt=scene.hers.attempt, token=scene.hers.token)])


async def test_the_session_of_another_worker_is_unknown_to_it(scene: Scene) -> None:
    claim = Claim(session="honest", free=9, have=[], wait_s=0)

    for path, message in (("claim", claim), ("heartbeat", _beat(scene))):
        assert (await scene.thief.call(path, message)).status == 404
    leaving = Claim(session="honest", free=0, have=[], wait_s=0, leaving=True)
    assert (await scene.thief.call("claim", leaving)).status == 404


async def test_even_with_its_fencing_token_anothers_attempt_is_out_of_reach(scene: Scene) -> None:
    """The fencing token cannot be known; the project is checked all the same."""
    attempt, token = scene.hers.attempt, scene.hers.token
    acks = await scene.thief.report(
        Started(attempt=attempt, token=token),
        Output(attempt=attempt, token=token, log=scene.log, offset=0, chunks=[OutputChunk(Stream.OUTPUT, 0, b"x")]),
        Finished(attempt=attempt, token=token, result=Result.FAILURE),
    )

    assert {ack.answer for ack in acks} == {Word.STALE}
    assert all(ack.size == 0 for ack in acks)
    cache = FindCache(attempt=attempt, token=token, path=".cache", key="")
    assert (await scene.thief.call("caches/find", cache)).status == 409
    assert (await scene.honest.call("caches/find", cache)).status == 200
    pin = PinRevision(attempt=attempt, token=token, commit="a" * 40)
    assert (await scene.thief.call("revisions/pin", pin)).status == 409


async def test_output_for_a_log_of_another_is_refused(scene: Scene) -> None:
    his = await scene.thief.take()
    chunk = OutputChunk(Stream.OUTPUT, 0, b"x")

    (ack,) = await scene.thief.report(
        Output(attempt=his.attempt, token=his.token, log=scene.log, offset=0, chunks=[chunk])
    )

    assert ack.answer is Word.REFUSED
    assert LogId(scene.log) != his.steps[0].log


async def test_no_blob_of_another_project_is_given_nor_is_it_said_that_there_is_one(scene: Scene) -> None:
    source = scene.hers.folder
    assert source is not None
    for sha256 in (scene.blob.sha256, source.sha256, hashlib.sha256(b"nothing").hexdigest()):
        for method in ("GET", "HEAD"):
            answer = await scene.thief.call(f"blobs/{sha256}", None, method=method, data=b"")
            assert answer.status == 404
            assert SECRET not in answer.data
    assert (await scene.honest.call(f"blobs/{scene.blob.sha256}", None, method="GET", data=b"")).data == SECRET


@pytest.mark.parametrize("what", ["output", "cache"])
async def test_naming_the_digest_of_anothers_bytes_does_not_make_them_its_own(scene: Scene, what: str) -> None:
    his = await scene.thief.take()
    sha256, size = scene.blob.sha256, scene.blob.size
    forged = (await scene.thief.put(b"own bytes")).receipt

    for receipt in ("", forged, "é"):
        output = OutputFile(path="out", sha256=sha256, size=size, mode=0o644, receipt=receipt)
        cache = SavedCache(path=".cache", key="", sha256=sha256, size=size, receipt=receipt)
        (ack,) = await scene.thief.report(
            Finished(
                attempt=his.attempt,
                token=his.token,
                result=Result.SUCCESS,
                outputs=[output] if what == "output" else [],
                caches=[cache] if what == "cache" else [],
            )
        )
        assert ack.answer is Word.REFUSED
    assert (await scene.thief.call(f"blobs/{sha256}", None, method="GET", data=b"")).status == 404


async def test_bytes_that_it_has_sent_itself_are_its_own_though_others_have_them_too(scene: Scene) -> None:
    his = await scene.thief.take()
    sent = await scene.thief.put(SECRET)
    assert sent.sha256 == scene.blob.sha256
    output = OutputFile(path="out", sha256=sent.sha256, size=sent.size, mode=0o644, receipt=sent.receipt)

    (ack,) = await scene.thief.report(
        Finished(attempt=his.attempt, token=his.token, result=Result.SUCCESS, outputs=[output])
    )

    assert ack.answer is Word.DONE
    assert (await scene.thief.call(f"blobs/{sent.sha256}", None, method="GET", data=b"")).data == SECRET


async def test_the_token_opens_nothing_of_another_project_in_the_other_apis_either(scene: Scene) -> None:
    server, by = scene.thief.server, f"Bearer {scene.thief.token}"
    build = scene.hers.build_uid
    for path in (f"/builds/{build}", f"/builds/{build}/artifacts", f"/logs/{scene.log}?wait=0"):
        assert (await server.call("GET", path, by=by)).status == 404
    listed = (await server.call("GET", "/builds", by=by)).body["builds"]
    assert {one["project"] for one in listed} <= {"his"}
    shown = (await server.call("GET", "/workers", by=by)).body["workers"]
    assert all(one["host"] == one["address"] == "" for one in shown)
    assert (await server.call("POST", "/workers/honest/pause", {"reason": ""}, by=by)).status == 403
    assert (await server.call("POST", "/tokens", {"user": "admin", "scopes": ["runner"]}, by=by)).status == 403
