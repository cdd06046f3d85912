"""Around every request: its id, one log entry, its metrics, and a plain 500 for what nobody foresaw."""

import itertools
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,100}")
QUIET = frozenset({"/health", "/ready", "/live", "/metrics"})
SLOW_S = 1.0
"""A request answered later is always logged; routine ones (reads that went well, workers) else at `debug` only."""


class Observer:
    """Middleware of the whole server. `X-Request-ID` is taken from the request if sane, else made, and echoed."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._name = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)
        self._count = Counter(
            "buildyard_http_requests", "HTTP requests answered", ("api", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "buildyard_http_request_seconds",
            "Time to the start of the answer",
            ("api",),
            registry=registry,
            buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if REQUEST_ID.fullmatch(given) else b"%b-%d" % (self._name, next(self._numbers))
        begun = time.monotonic()
        status = 0
        taken = 0.0

        async def observed(message: Message) -> None:
            nonlocal status, taken
            if message["type"] == "http.response.start":
                status, taken = message["status"], time.monotonic() - begun
                _add_headers(message, request_id)
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id.decode()):
            try:
                await self._app(scope, receive, observed)
            except Exception:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status:
                    raise
                await _plain_500(observed)
            self._note(scope, status, taken)

    def _note(self, scope: Scope, status: int, taken: float) -> None:
        path: str = scope["path"]
        api = _api_of(path)
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH") else "other"
        self._count.labels(api, method, str(status)).inc()
        self._seconds.labels(api).observe(taken)
        routine = api == "worker" or path in QUIET or (method in ("GET", "HEAD") and status < 400)
        note = log.debug if routine and taken < SLOW_S else log.info
        note("request", method=scope["method"], path=path, status=status, ms=round(taken * 1000, 1))


def _api_of(path: str) -> str:
    first = path.lstrip("/").split("/", 1)[0]
    return first if first in ("api", "worker", "-", "docs", "query", "health", "ready", "live", "metrics") else "other"


def _add_headers(message: MutableMapping[str, Any], request_id: bytes) -> None:
    headers = list(message.get("headers", ()))
    headers.append((b"x-request-id", request_id))
    if not any(name == b"x-content-type-options" for name, _ in headers):
        headers.append((b"x-content-type-options", b"nosniff"))
    message["headers"] = headers


async def _plain_500(send: Send) -> None:
    body = b'{"error":"Internal server error"}'
    await send(
        {
            "type": "http.response.start",
            "status": 500,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})
