"""Errors in the standard format of sr.ht: `{"errors": [{"field": "…", "reason": "…"}]}`."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.http import STATUS, challenge_of, retry_after_of, status_of
from buildyard.apis.sourcehut.schemas import Problem, Problems
from buildyard.domain.errors import Fault, Forbidden, Invalid

OWN_STATUS = {**STATUS, Forbidden: 401}
"""Who may see but not change a job is told 401, as by the real service; 403 is for tokens without the scope."""

WORDS = {401: "401 unauthorized", 404: "404 not found", 405: "405 method not allowed"}
"""What is said instead of the engine's own words."""

FIELDS = {"read": "access:read", "write": "access:write"}
"""This API's words for fields that the engine names."""

MANIFEST = "manifest"
OWN_WORDS = ("missing", "duplicate", "task_name", "task")
"""Faults of manifests whose words are the real service's, and name what they are about."""

MOST_PROBLEMS = 1000


class Refused(Exception):
    """An answer that only this API gives: its status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def failure(status: int, problems: list[Problem], headers: dict[str, str] | None = None) -> Response:
    """An answer that is not 2xx."""
    body = msgspec.json.encode(Problems(errors=problems))
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, media_type="application/json")


def on_refused(_request: Request, exc: Exception) -> Response:
    """The answer to what this API refuses by itself."""
    assert isinstance(exc, Refused)
    return failure(exc.status, [Problem(reason=exc.reason)], challenge_of(exc.status))


def on_engine_error(request: Request, exc: Exception) -> Response:
    """The answer to an error of the engine."""
    status = status_of(exc, OWN_STATUS)
    if status == 404 and request.url.path.startswith("/api/job-group/"):
        return Response(b"{}", 404, {"cache-control": "no-store"}, media_type="application/json")
    problems = problems_of(exc) if isinstance(exc, Invalid) else [Problem(reason=WORDS.get(status, str(exc)))]
    return failure(status, problems, {**retry_after_of(exc), **challenge_of(status)})


def problems_of(exc: Invalid) -> list[Problem]:
    """Every fault of a request; those of a manifest say where in it they are."""
    found = [_problem(fault) for fault in exc.faults[:MOST_PROBLEMS]]
    if len(exc.faults) > MOST_PROBLEMS:
        found.append(Problem(reason=f"and {len(exc.faults) - MOST_PROBLEMS} more"))
    return found or [Problem(reason=str(exc))]


def _problem(fault: Fault) -> Problem:
    if not fault.path:
        return Problem(reason=fault.message)
    field, _, place = fault.path.partition(".")
    if fault.code == "unknown_secret":
        return Problem(reason=fault.message, field=MANIFEST)
    if field != MANIFEST:
        return Problem(reason=fault.message, field=FIELDS.get(fault.path, fault.path))
    said = f"{place}: {fault.message}" if place and fault.code not in OWN_WORDS else fault.message
    return Problem(reason=said, field=field)


def on_http_error(_request: Request, exc: Exception) -> Response:
    """The answer to unknown addresses and wrong methods."""
    status: int = getattr(exc, "status_code", 500)
    headers = {name.lower(): value for name, value in (getattr(exc, "headers", None) or {}).items()}
    return failure(status, [Problem(reason=WORDS.get(status, str(getattr(exc, "detail", "error"))))], headers)


def on_unforeseen(_request: Request, _exc: Exception) -> Response:
    """The answer to what nobody foresaw; its traceback is in the server's log."""
    return failure(500, [Problem(reason="500 internal server error")])
