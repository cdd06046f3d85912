"""Jobs as they are submitted, started, cancelled and shown to others."""

from typing import Any

from buildyard.apis.sourcehut.graphql.context import Info, Resolvers
from buildyard.apis.sourcehut.graphql.jobs import Source, job
from buildyard.domain.access import Visibility
from buildyard.domain.errors import Forbidden, Invalid, NotFound
from buildyard.domain.ids import BuildId
from buildyard.engine.manifest_jobs import (
    NewManifestJob,
    cancel_job,
    change_visibility,
    start_job,
    submit_manifest,
)

NOT_PENDING = "Found no pending jobs with this ID on your account"
NOT_RUNNING = "Found no running jobs for your account with this ID"
MOST_TOLD = 5
"""So many faults of a manifest are in the message; all are in the error's extensions."""

NOT_YOURS = "Found no job with this ID on your account"


async def submit(
    _source: Any,
    info: Info,
    *,
    manifest: str,
    tags: list[str] | None = None,
    note: str | None = None,
    secrets: bool | None = None,
    execute: bool | None = None,
    visibility: str | None = None,
) -> Source:
    """Queue a job; nobody finds it in lists unless it is made public."""
    context = info.context
    wanted = NewManifestJob(
        text=manifest,
        note=note or "",
        tags=tuple(tag for tag in tags or () if tag),
        visibility=Visibility[visibility or "UNLISTED"],
        secrets=secrets,
        execute=execute is not False,
    )
    try:
        return job(await submit_manifest(context.engine, context.actor, wanted))
    except Invalid as exc:
        raise Invalid("; ".join(fault.message for fault in exc.faults[:MOST_TOLD]) or str(exc), exc.faults) from exc


async def start(_source: Any, info: Info, *, jobID: int) -> Source:  # noqa: N803 - the schema's name
    """Let a job go on that waits for somebody to start it."""
    context = info.context
    try:
        acted = await context.engine.run(start_job, context.actor, BuildId(jobID))
    except (NotFound, Forbidden) as exc:
        raise NotFound(NOT_PENDING) from exc
    if not acted.moved:
        raise NotFound(NOT_PENDING)
    return job(acted.view)


async def cancel(_source: Any, info: Info, *, jobId: int) -> Source:  # noqa: N803 - the schema's name
    """Stop a job."""
    context = info.context
    try:
        acted = await context.engine.run(cancel_job, context.actor, BuildId(jobId))
    except (NotFound, Forbidden) as exc:
        raise NotFound(NOT_RUNNING) from exc
    if not acted.moved:
        raise NotFound(NOT_RUNNING)
    return job(acted.view)


async def update(_source: Any, info: Info, *, jobId: int, visibility: str) -> Source:  # noqa: N803 - the schema's name
    """Say anew who sees a job."""
    context = info.context
    try:
        changed = await context.engine.run(change_visibility, context.actor, BuildId(jobId), Visibility[visibility])
    except (NotFound, Forbidden) as exc:
        raise NotFound(NOT_YOURS) from exc
    return job(changed)


RESOLVERS: Resolvers = {"Mutation": {"submit": submit, "start": start, "cancel": cancel, "update": update}}
