"""The jobs API of builds.sr.ht from a client's side: this server's own, or that of any other that speaks it."""

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from buildyard.client.http import HttpClient
from buildyard.domain.errors import (
    EngineError,
    Fault,
    Forbidden,
    Gone,
    Invalid,
    LimitReached,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

CALL_S = 60.0
MOST_PART = 4 * 1024 * 1024
"""How much of a log is asked for at once."""

OVER = frozenset({"success", "failed", "timeout", "cancelled"})
"""The words of jobs that have ended."""

_ERRORS: dict[int, type[EngineError]] = {
    401: Unauthenticated,
    402: Forbidden,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    413: TooLarge,
    429: LimitReached,
}


class Owner(msgspec.Struct):
    """Whose job it is."""

    canonical_name: str = ""
    name: str = ""


class Task(msgspec.Struct):
    """A task of a job; `log` is an address, or nothing before it began on servers that say so."""

    name: str
    status: str
    log: str | None = None


class Job(msgspec.Struct):
    """A job as servers of this kind show it; the answer to a submission lacks the status."""

    id: int
    status: str = ""
    setup_log: str | None = None
    tasks: list[Task] = []
    note: str | None = None
    runner: str | None = None
    tags: str | None = None
    owner: Owner = msgspec.field(default_factory=Owner)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status in OVER


class NewJob(msgspec.Struct, omit_defaults=True):
    """A submission. Without `read` everyone may see the job."""

    manifest: str
    note: str = ""
    tags: Sequence[str] = ()
    read: list[str] | None = msgspec.field(default=None, name="access:read")
    secrets: bool | None = None
    execute: bool = True


class _Problem(msgspec.Struct):
    reason: str = ""
    field: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] = []


class SourcehutClient:
    """Talks to one server with one token. Raises as `NativeClient` does.

    Logs may lie on other hosts, which do not get the token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"User-Agent": "buildyard", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._http = HttpClient(url, self._headers)
        self._others: dict[str, HttpClient] = {}

    async def close(self) -> None:
        """Close the kept connections."""
        for http in (self._http, *self._others.values()):
            await http.close()

    async def submit(self, new: NewJob) -> Job:
        """Queue a job, or leave it waiting for its start."""
        body = msgspec.json.encode(new)
        status, answer = await self._http.call(
            "POST", "/api/jobs", body, headers={"Content-Type": "application/json"}, timeout=CALL_S
        )
        return _decoded(status, answer)

    async def job(self, key: int) -> Job:
        """A job as it is now."""
        return _decoded(*await self._http.call("GET", f"/api/jobs/{key}", timeout=CALL_S))

    async def log_part(self, url: str, start: int) -> bytes:
        """What a log has from byte `start` on, in one piece of at most MOST_PART; nothing if it has no more now."""
        http, path = self._place_of(url)
        span = f"bytes={start}-{start + MOST_PART - 1}"
        status, data = await http.call("GET", path, headers={"Range": span}, timeout=CALL_S)
        match status:
            case HTTPStatus.PARTIAL_CONTENT:
                return data
            case HTTPStatus.OK:
                return data[start : start + MOST_PART]
            case HTTPStatus.NOT_FOUND | HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b""
            case _:
                raise _error_of(status, data)

    def page_of(self, job: Job) -> str:
        """The address of a job for people."""
        owner = job.owner.canonical_name or f"~{job.owner.name}"
        return f"{self._url}/{owner}/job/{job.id}"

    def _place_of(self, url: str) -> tuple[HttpClient, str]:
        """Who has a log, and its path there; on a socket there is one server only."""
        parts, own = urlsplit(url), urlsplit(self._url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        place = f"{parts.scheme}://{parts.netloc}"
        if own.scheme == "unix" or not parts.netloc:
            return self._http, path
        if place == f"{own.scheme}://{own.netloc}":
            return self._http, path.removeprefix(own.path.rstrip("/"))
        if place not in self._others:
            self._others[place] = HttpClient(place, {"User-Agent": "buildyard"})
        return self._others[place], path


def _decoded(status: int, body: bytes) -> Job:
    if not 200 <= status < 300:
        raise _error_of(status, body)
    try:
        return msgspec.json.decode(body, type=Job)
    except msgspec.DecodeError as exc:
        raise Unavailable(f"the server's answer is none of a builds.sr.ht API: {exc}") from exc


def _error_of(status: int, body: bytes) -> EngineError:
    try:
        told = msgspec.json.decode(body, type=_Problems).errors
    except msgspec.DecodeError:
        told = []
    words = "; ".join(one.reason for one in told if one.reason) or f"the server answered {status}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(words)
    if kind := _ERRORS.get(status):
        return kind(words)
    faults = tuple(Fault(one.field, one.reason, "refused") for one in told if one.field)
    return Invalid("the server refused the job" if faults else words, faults)
