"""Our own HTTP API from the command line's side: one method for each thing one can ask."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from buildyard.client.http import HttpClient, Stream
from buildyard.client.messages import (
    Acts,
    Answered,
    Artifacts,
    Build,
    Builds,
    Collect,
    Collected,
    Deliveries,
    Delivery,
    Failure,
    Folder,
    Keep,
    KeyRotated,
    Message,
    Metrics,
    NewNotification,
    NewPassword,
    NewRule,
    NewSecret,
    NewToken,
    NewUser,
    Notification,
    Notifications,
    Overview,
    Queue,
    Reason,
    Removal,
    Removed,
    Rules,
    Secret,
    Secrets,
    Submission,
    TestResults,
    Token,
    Tokens,
    Tree,
    Trigger,
    Triggers,
    User,
    Users,
    Verdict,
    WebhookKey,
    Wish,
    Worker,
    Workers,
    Yard,
)
from buildyard.client.sockets import HandshakeRefused, TerminalSocket, open_socket
from buildyard.domain.errors import (
    Conflict,
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

BASE = "/-/api/v1"
CALL_S = 30.0
ATTACH_S = 40.0
WAIT_S = 20.0
"""How long the server is asked to hold a call that waits for news."""

SEALED_HEADER = "x-buildyard-sealed"
"""Says with a part of a log whether nothing can follow it."""

_ERRORS: dict[int, type[EngineError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    429: LimitReached,
    507: LimitReached,
}
_JSON = {"Content-Type": "application/json"}
_BYTES = {"Content-Type": "application/octet-stream"}

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class LogPart:
    """Bytes of a log; `sealed`: these are the last."""

    data: bytes
    sealed: bool


class NativeClient:
    """Talks to one server. `authorization` is the whole header, or empty.

    Raises Unavailable if no answer or a broken one comes, and for 5xx; else the error that the status stands
    for, with the server's words.
    """

    def __init__(self, url: str, authorization: str) -> None:
        headers = {"User-Agent": "buildyard", "Accept": "application/json"}
        self._url = url
        self._headers = headers | ({"Authorization": authorization} if authorization else {})
        self._http = HttpClient(url, self._headers)

    async def close(self) -> None:
        """Close the kept connections."""
        await self._http.close()

    async def upload(self, data: Stream) -> Folder:
        """Store a packed folder; `data` may be begun again."""
        async with self._http.open("PUT", f"{BASE}/uploads", data, headers=_BYTES) as reply:
            return _decoded(reply.status, await reply.read(), Folder)

    async def submit(self, submission: Submission) -> Build:
        """Build a workflow."""
        return await self._post("/builds", submission, Build)

    async def builds(self, *, project: str = "", limit: int = 20, offset: int = 0) -> list[Build]:
        """The newest builds, of one project or of all."""
        query = urlencode({"project": project, "limit": limit, "offset": offset})
        return (await self._get(f"/builds?{query}", Builds)).builds

    async def tree(self, build: str, *, seen: str = "") -> Tree:
        """A build (by id or uid) with all below it; with `seen`, once it differs from that, or after WAIT_S."""
        query = urlencode({"seen": seen, "wait": WAIT_S}) if seen else ""
        return await self._get(f"/builds/{quote(build, safe='')}?{query}", Tree, timeout=CALL_S + WAIT_S)

    async def cancel(self, build: str, reason: str) -> Build:
        """Ask for a stop."""
        return await self._post(f"/builds/{quote(build, safe='')}/cancel", Reason(reason=reason), Build)

    async def retry(self, build: str, reason: str) -> Build:
        """Build the same once more."""
        return await self._post(f"/builds/{quote(build, safe='')}/retry", Reason(reason=reason), Build)

    async def answer(self, build: str, verdict: Verdict) -> Answered:
        """Approve or reject what waits for it."""
        return await self._post(f"/builds/{quote(build, safe='')}/approval", verdict, Answered)

    async def queue(self, *, project: str = "", limit: int = 100) -> Queue:
        """What runs, what is queued and what waits, of one project or of all."""
        return await self._get(f"/queue?{urlencode({'project': project, 'limit': limit})}", Queue)

    async def artifacts(self, build: str) -> Artifacts:
        """What a build kept."""
        return await self._get(f"/builds/{quote(build, safe='')}/artifacts", Artifacts)

    async def artifact(self, uid: str) -> AsyncGenerator[bytes]:
        """An artifact's bytes."""
        async with self._http.open("GET", f"{BASE}/artifacts/{quote(uid, safe='')}") as reply:
            if reply.status != 200:
                raise _error(reply.status, await reply.read())
            async for piece in reply.pieces():
                yield piece

    async def log(self, log: int, start: int, *, wait: bool = False) -> LogPart:
        """The bytes from `start` on, a few MiB at most; with `wait`, an unsealed log is given time to grow."""
        query = urlencode({"start": start, "wait": WAIT_S if wait else 0})
        async with self._http.open("GET", f"{BASE}/logs/{log}?{query}") as reply:
            data = await reply.read()
            if reply.status != 200:
                raise _error(reply.status, data)
            return LogPart(data, reply.headers.get(SEALED_HEADER) == "true")

    async def tests(self, build: str, *, status: str = "", cursor: str = "", limit: int = 100) -> TestResults:
        """How a build's tests went, the worst first, or those with one status."""
        query = urlencode({"status": status, "cursor": cursor, "limit": limit})
        return await self._get(f"/builds/{quote(build, safe='')}/tests?{query}", TestResults)

    async def metrics(self, build: str) -> Metrics:
        """What a build measured."""
        return await self._get(f"/builds/{quote(build, safe='')}/metrics", Metrics)

    async def metric_history(self, project: str, pipeline: str, name: str, *, before: int = 0) -> Metrics:
        """One metric over the builds of a pipeline, newest first, a page at a time."""
        query = urlencode({"project": project, "pipeline": pipeline, "name": name, "before": before})
        return await self._get(f"/metrics?{query}", Metrics)

    async def keep(self, build: str, *, keep: bool, reason: str = "") -> Build:
        """Set a build's keep mark, or take it away."""
        path = f"/builds/{quote(build, safe='')}/keep"
        return _decoded(200, await self._call("PUT", path, Keep(keep=keep, reason=reason)), Build)

    async def rules(self, project: str, pipeline: str = "") -> Rules:
        """What is kept on the server (no project), in a project, or of a pipeline."""
        query = urlencode({"project": project, "pipeline": pipeline})
        return await self._get(f"/retention?{query}", Rules)

    async def set_rule(self, project: str, rule: NewRule) -> Rules:
        """Say what is kept there."""
        path = f"/retention?{urlencode({'project': project})}"
        return _decoded(200, await self._call("PUT", path, rule), Rules)

    async def collect(self, cursor: str, *, dry_run: bool) -> Collected:
        """Collect garbage for about a second."""
        return await self._post("/gc", Collect(cursor=cursor, dry_run=dry_run), Collected)

    async def users(self) -> Users:
        """Everyone."""
        return await self._get("/users", Users)

    async def create_user(self, user: NewUser) -> User:
        """Make a user."""
        return await self._post("/users", user, User)

    async def set_password(self, username: str, password: str) -> None:
        """Change a password."""
        await self._call("PUT", f"/users/{quote(username, safe='')}/password", NewPassword(password=password))

    async def tokens(self, user: str) -> Tokens:
        """A user's tokens, or everyone's."""
        return await self._get(f"/tokens?{urlencode({'user': user})}", Tokens)

    async def create_token(self, token: NewToken) -> Token:
        """Make a token; the answer alone holds its secret."""
        return await self._post("/tokens", token, Token)

    async def revoke_token(self, token: int) -> None:
        """End a token."""
        await self._call("DELETE", f"/tokens/{token}", None)

    async def acts(
        self, *, project: str = "", action: str = "", user: str = "", before: int | None = None, limit: int = 50
    ) -> Acts:
        """A page of the audit log, newest first."""
        wanted = {"project": project, "action": action, "user": user, "limit": limit, "before": before or ""}
        return await self._get(f"/audit?{urlencode(wanted)}", Acts)

    async def overview(self) -> Overview:
        """What is going on now."""
        return await self._get("/overview", Overview)

    async def set_secret(self, secret: NewSecret) -> Secret:
        """Make a secret, or give it another value."""
        return _decoded(200, await self._call("PUT", "/secrets", secret), Secret)

    async def secrets(self, *, account: str = "", project: str = "", pipeline: str = "") -> list[Secret]:
        """The secrets of a place, or all that may be managed."""
        query = urlencode({"account": account, "project": project, "pipeline": pipeline})
        return (await self._get(f"/secrets?{query}", Secrets)).secrets

    async def remove_secret(self, name: str, *, account: str = "", project: str = "", pipeline: str = "") -> None:
        """Delete a secret."""
        query = urlencode({"account": account, "project": project, "pipeline": pipeline})
        await self._call("DELETE", f"/secrets/{quote(name, safe='')}?{query}", None)

    async def rotate_key(self) -> KeyRotated:
        """Encrypt all secrets with a new key."""
        return await self._post("/secrets/rotate-key", Reason(), KeyRotated)

    async def workers(self) -> list[Worker]:
        """All workers."""
        return (await self._get("/workers", Workers)).workers

    async def pause_worker(self, name: str, reason: str) -> Worker:
        """Let a worker take no more jobs."""
        return await self._post(f"/workers/{quote(name, safe='')}/pause", Reason(reason=reason), Worker)

    async def resume_worker(self, name: str) -> Worker:
        """Let a worker take jobs again."""
        return await self._post(f"/workers/{quote(name, safe='')}/resume", Reason(), Worker)

    async def drain_worker(self, name: str, reason: str) -> Worker:
        """Let a worker finish what it has, and leave."""
        return await self._post(f"/workers/{quote(name, safe='')}/drain", Reason(reason=reason), Worker)

    async def remove_worker(self, name: str, reason: str, *, force: bool) -> Removed:
        """Take a worker off the list."""
        return await self._post(f"/workers/{quote(name, safe='')}/remove", Removal(reason=reason, force=force), Removed)

    async def notifications(self, project: str) -> Notifications:
        """The rules of a project."""
        return await self._get(f"/notifications?{urlencode({'project': project})}", Notifications)

    async def add_notification(self, wanted: NewNotification) -> Notification:
        """Make a rule."""
        return await self._post("/notifications", wanted, Notification)

    async def remove_notification(self, reference: str) -> None:
        """Remove a rule."""
        await self._call("DELETE", f"/notifications/{quote(reference, safe='')}", None)

    async def deliveries(self, *, project: str = "", state: str = "", below: int = 0, limit: int = 50) -> Deliveries:
        """Messages of a project or of all, newest first."""
        query = urlencode({"project": project, "state": state, "below": below or "", "limit": limit})
        return await self._get(f"/deliveries?{query}", Deliveries)

    async def delivery(self, reference: str) -> Delivery:
        """A message (by id or uid) with its tries."""
        return await self._get(f"/deliveries/{quote(reference, safe='')}", Delivery)

    async def webhook_key(self) -> WebhookKey:
        """What signatures of the webhooks of APIs are checked with."""
        return await self._get("/webhook-key", WebhookKey)

    async def resend_delivery(self, reference: str) -> Delivery:
        """Send a message once more."""
        return _decoded(
            200, await self._call("POST", f"/deliveries/{quote(reference, safe='')}/resend", None), Delivery
        )

    async def triggers(self, project: str) -> list[Trigger]:
        """The triggers of a project, or of all."""
        return (await self._get(f"/triggers?{urlencode({'project': project})}", Triggers)).triggers

    async def fire(self, trigger: str, wish: Wish) -> list[Build]:
        """Start the builds of a trigger."""
        return (await self._post(f"/triggers/{quote(trigger, safe='')}/fire", wish, Builds)).builds

    async def yard(self) -> Yard:
        """What taking the server's yard file into force would change."""
        return await self._get("/yard", Yard)

    async def reload_yard(self) -> Yard:
        """Take the server's yard file into force."""
        return await self._post("/yard/reload", Reason(), Yard)

    async def attach(self, build: str, job: str, *, rows: int, columns: int, term: str) -> TerminalSocket:
        """A shell in a job's workspace; the server answers once the worker has started it."""
        query: dict[str, str | int] = {"job": job, "rows": rows, "columns": columns, "term": term}
        try:
            return await open_socket(
                self._url, f"{BASE}/builds/{quote(build, safe='')}/attach", self._headers, query, patience_s=ATTACH_S
            )
        except HandshakeRefused as exc:
            raise _error(exc.status, exc.body) from exc

    async def _get(self, path: str, answer: type[Answer], *, timeout: float = CALL_S) -> Answer:
        status, data = await self._http.call("GET", BASE + path, timeout=timeout)
        return _decoded(status, data, answer)

    async def _post(self, path: str, message: Message, answer: type[Answer]) -> Answer:
        return _decoded(200, await self._call("POST", path, message), answer)

    async def _call(self, method: str, path: str, message: Message | None) -> bytes:
        body = msgspec.json.encode(message) if message else b""
        status, data = await self._http.call(method, BASE + path, body, headers=_JSON, timeout=CALL_S)
        if not 200 <= status < 300:
            raise _error(status, data)
        return data


def _decoded(status: int, data: bytes, answer: type[Answer]) -> Answer:
    if not 200 <= status < 300:
        raise _error(status, data)
    try:
        return msgspec.json.decode(data, type=answer)
    except (msgspec.DecodeError, ValueError) as exc:
        raise Unavailable(f"the server's answer is not understood: {exc}") from exc


def _error(status: int, data: bytes) -> EngineError:
    """What an answer other than 2xx stands for; without the server's words if something else answered."""
    try:
        failure = msgspec.json.decode(data, type=Failure)
    except (msgspec.DecodeError, ValueError):
        failure = Failure(error=f"the server answered {status}")
    if status in (400, 422):
        return Invalid(failure.error, tuple(Fault(fault.path, fault.message, fault.code) for fault in failure.faults))
    return _ERRORS.get(status, Unavailable if status >= 500 else Invalid)(failure.error)
