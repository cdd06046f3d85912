"""The worker protocol from the worker's side: one method for each call of `buildyard.protocol`."""

from collections.abc import AsyncGenerator
from typing import TypeVar

import msgspec

from buildyard.client.http import HttpClient, Stream
from buildyard.client.sockets import HandshakeRefused, TerminalSocket, open_socket
from buildyard.domain.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Incompatible,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from buildyard.protocol import (
    Beat,
    BlobStored,
    CacheFound,
    Claim,
    Claimed,
    Failure,
    FindCache,
    Heartbeat,
    Hello,
    Message,
    PinRevision,
    Report,
    Reported,
    RevisionPinned,
    Welcome,
)

BASE = "/worker/v1"
CALL_S = 20.0
"""How long an ordinary call may take; a claim has as long again as it asks to wait."""

_ERRORS: dict[int, type[EngineError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    426: Incompatible,
    429: LimitReached,
    507: LimitReached,
}
_MSGPACK = {"Content-Type": "application/msgpack"}
_BYTES = {"Content-Type": "application/octet-stream"}

Answer = TypeVar("Answer", bound=Message)


class WorkerClient:
    """Talks to one server for one worker.

    Raises Unavailable if no answer or a broken one comes, and for 5xx; else the error that the status stands for,
    with the server's words: Invalid (400, 422), Incompatible (426: not this version of the protocol), Unauthenticated,
    Forbidden, NotFound (404: also a session that is not known), Conflict, TooLarge, LimitReached (429, 507).
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "buildyard-worker"}
        self._http = HttpClient(url, self._headers)

    async def close(self) -> None:
        """Close the kept connections."""
        await self._http.close()

    async def hello(self, hello: Hello) -> Welcome:
        """Introduce the worker."""
        return await self._call("hello", hello, Welcome)

    async def claim(self, claim: Claim) -> Claimed:
        """Wait for jobs and wishes; answers within `claim.wait_s` and a little."""
        return await self._call("claim", claim, Claimed, timeout=claim.wait_s + CALL_S)

    async def heartbeat(self, heartbeat: Heartbeat, *, timeout: float = CALL_S) -> Beat:
        """Renew leases."""
        return await self._call("heartbeat", heartbeat, Beat, timeout=timeout)

    async def report(self, report: Report) -> Reported:
        """Tell what happened."""
        return await self._call("report", report, Reported)

    async def pin_revision(self, found: PinRevision) -> RevisionPinned:
        """Which commit to check out, after a branch was found to be at one."""
        return await self._call("revisions/pin", found, RevisionPinned)

    async def find_cache(self, wanted: FindCache) -> CacheFound:
        """Which blob to restore."""
        return await self._call("caches/find", wanted, CacheFound)

    async def has_blob(self, sha256: str) -> bool:
        """Whether the server is known to hold a blob; why it may not, an attempt to store it will tell in words."""
        status, _ = await self._http.call("HEAD", f"{BASE}/blobs/{sha256}", timeout=CALL_S)
        return status == 200

    async def read_blob(self, sha256: str) -> AsyncGenerator[bytes]:
        """A blob's bytes as they come; whether they are the right ones is for the caller to check."""
        async with self._http.open("GET", f"{BASE}/blobs/{sha256}") as reply:
            if reply.status != 200:
                raise _error(reply.status, await reply.read())
            async for piece in reply.pieces():
                yield piece

    async def put_blob(self, data: bytes | Stream, *, size: int | None = None) -> BlobStored:
        """Store bytes; `size` is their number, if it is known."""
        async with self._http.open("PUT", f"{BASE}/blobs", data, size=size, headers=_BYTES) as reply:
            return _decode(reply.status, await reply.read(), BlobStored)

    async def dial_terminal(self, key: str) -> TerminalSocket:
        """Connect to whoever waits for a terminal. Conflict: that is not this server, but another may know."""
        try:
            return await open_socket(self._url, f"{BASE}/terminals/{key}", self._headers, patience_s=CALL_S)
        except HandshakeRefused as exc:
            raise _error(exc.status, exc.body) from exc

    async def _call(self, path: str, message: Message, answer: type[Answer], *, timeout: float = CALL_S) -> Answer:
        body = msgspec.msgpack.encode(message)
        status, data = await self._http.call("POST", f"{BASE}/{path}", body, headers=_MSGPACK, timeout=timeout)
        return _decode(status, data, answer)


def _decode(status: int, data: bytes, answer: type[Answer]) -> Answer:
    if not 200 <= status < 300:
        raise _error(status, data)
    try:
        return msgspec.msgpack.decode(data, type=answer)
    except (msgspec.DecodeError, ValueError) as exc:
        raise Unavailable(f"the server's answer is not understood: {exc}") from exc


def _error(status: int, data: bytes) -> EngineError:
    """What an answer other than 2xx stands for; without the server's words if a proxy answered."""
    try:
        words = msgspec.msgpack.decode(data, type=Failure).error
    except (msgspec.DecodeError, ValueError):
        words = f"the server answered {status}"
    return _ERRORS.get(status, Unavailable if status >= 500 else Invalid)(words)
