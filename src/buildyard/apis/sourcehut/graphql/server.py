"""Fields that tell of the server."""

from typing import Any

from buildyard.apis.sourcehut.graphql.context import Info, Resolvers

SSH_USER = "builds"
"""Clients print it in a hint; there is no SSH into jobs."""


def version(_source: Any, info: Info) -> dict[str, object]:
    """The version of the API, which has not changed since it is 0.0.0, and settings that clients show."""
    timeout = span_text(info.context.engine.manifests.timeout_s)
    settings = {"sshUser": SSH_USER, "buildTimeout": timeout}
    return {"major": 0, "minor": 0, "patch": 0, "deprecationDate": None, "settings": settings}


def span_text(seconds: int) -> str:
    """A span as clients of the service know it: `4h`, `45m`, `90s`."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


RESOLVERS: Resolvers = {"Query": {"version": version}}
