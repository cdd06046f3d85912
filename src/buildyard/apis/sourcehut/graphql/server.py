"""Fields that tell of the server."""

from typing import Any

from buildyard.apis.sourcehut.graphql.context import Info, Resolvers

SSH_USER = "builds"
"""Clients print it in a hint; there is no SSH into jobs."""


def version(_source: Any, info: Info) -> dict[str, object]:
    """The version of the API, which has not changed since it is 0.0.0, and settings that clients show."""
    settings = {"sshUser": SSH_USER, "buildTimeout": info.context.config.build_timeout}
    return {"major": 0, "minor": 0, "patch": 0, "deprecationDate": None, "settings": settings}


RESOLVERS: Resolvers = {"Query": {"version": version}}
