"""Who asks, and whether a browser asks for somebody else.

Without tokens the API trusts whoever reaches it, so it must not be reached through a browser that shows another
site's page: foreign names (DNS rebinding), foreign origins and cross-site fetches are refused, and bodies must be of
a type that no form can send.
"""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from buildyard.apis.build_server.errors import failure
from buildyard.apis.http import client_of
from buildyard.domain.access import ALL, ANONYMOUS, Actor, ActorKind
from buildyard.domain.errors import Unauthenticated
from buildyard.engine import identity
from buildyard.engine.engine import Engine

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
JSON = "application/json"
BYTES = "application/octet-stream"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OPERATOR = Actor(kind=ActorKind.OPERATOR, name="operator", administrator=True, allowed=ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildServerConfig:
    """How this API answers, if it is `enabled`. `hosts` are the names that `Host` may hold besides loopback."""

    public_url: str
    open: bool
    hosts: frozenset[str] = frozenset()
    script_bytes: int = 512 * 1024
    body_bytes: int = 32 * 1024 * 1024
    enabled: bool = True

    @property
    def names(self) -> frozenset[str]:
        """All names that `Host` may hold."""
        return LOOPBACK | self.hosts | {(urlsplit(self.public_url).hostname or "").lower()}


async def actor_of(request: Request, engine: Engine, config: BuildServerConfig) -> Actor:
    """The actor behind a request: in open mode the operator, else the bearer of a token."""
    ip, agent = client_of(request)
    if config.open:
        return replace(_OPERATOR, ip=ip, agent=agent)
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send a token: Authorization: Bearer TOKEN")
    return replace(await engine.read(identity.actor_of_token, ANONYMOUS, token.strip()), ip=ip, agent=agent)


class Guard:
    """Middleware that refuses what a browser might send for another site."""

    def __init__(self, app: ASGIApp, config: BuildServerConfig) -> None:
        self._app = app
        self._config = config
        self._names = config.names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = Headers(scope=scope)
        refusal = (self._foreign(headers, scope["method"]) if self._config.open else None) or _wrong_type(
            headers, scope["method"]
        )
        await (refusal or self._app)(scope, receive, send)

    def _foreign(self, headers: Headers, method: str) -> Response | None:
        host = headers.get("host", "")
        if _name_of(f"//{host}") not in self._names:
            return failure(403, "this host name is not served (setting server.allowed_hosts)")
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host):
            return failure(403, "requests from other origins are refused")
        visits = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") == "cross-site" and not visits:
            return failure(403, "cross-site requests are refused")
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        own = urlsplit(self._config.public_url)
        return origin.lower() in {f"http://{host}".lower(), f"https://{host}".lower(), f"{own.scheme}://{own.netloc}"}


def _name_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname.lower() if parts.hostname else None


def _wrong_type(headers: Headers, method: str) -> Response | None:
    """Bodies are JSON or, for runners, bytes: types that a page of another site cannot send unasked."""
    if method in _READING:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = not kind and "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
    if empty or kind in (JSON, BYTES):
        return None
    return failure(415, f"bodies must be {JSON}")


def has_type(request: Request, kind: str) -> bool:
    """Whether the body is of this type, or there is none."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return given in ("", kind) or request.headers.get("content-length") == "0"
