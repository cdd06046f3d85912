"""Jobs, which are our builds, with their tasks, logs and artifacts."""

from typing import TYPE_CHECKING, Any

from buildyard.apis.sourcehut import addresses, mapping
from buildyard.apis.sourcehut.graphql.context import Context, Info, Resolvers
from buildyard.apis.sourcehut.graphql.scalars import LARGEST, cursor_of, start_of
from buildyard.apis.sourcehut.graphql.secrets import secret
from buildyard.apis.sourcehut.graphql.users import user
from buildyard.domain.errors import Gone
from buildyard.domain.ids import BuildId, UserId
from buildyard.engine.job_details import (
    JobOwner,
    load_artifacts,
    load_groups_of,
    load_job_secrets,
    load_jobs,
    load_owners,
    load_visibilities,
)
from buildyard.engine.job_manifests import load_images, load_manifests
from buildyard.engine.job_sheets import TaskSheet, load_sheets
from buildyard.engine.manifest_jobs import list_jobs_of
from buildyard.engine.profiles import load_profiles
from buildyard.engine.task_logs import get_setup_log, get_task_log, last_bytes

if TYPE_CHECKING:
    from buildyard.store.builds import BuildView
    from buildyard.store.groups import Group
    from buildyard.store.kept import Artifact

PAGE = 25
TAIL = 128 * 1024

Source = dict[str, Any]


def job(view: "BuildView") -> Source:
    """A job as the schema has it, as far as no more must be loaded."""
    build = view.build
    return {
        "id": build.id,
        "created": build.created_at,
        "updated": max(build.created_at, build.started_at or 0, build.finished_at or 0),
        "status": mapping.status(view).upper(),
        "note": mapping.note_of(view) or None,
        "view": view,
    }


async def one_job(context: Context, key: int) -> Source | None:
    """The job with this id, if the asker may read it."""
    found = await context.load(load_jobs, BuildId(key))
    return job(found) if found else None


async def job_by_id(_source: Any, info: Info, *, id: int) -> Source | None:  # noqa: A002 - the schema's name
    """The job with this id."""
    return await one_job(info.context, id)


async def page_of_jobs(context: Context, cursor: str | None, whose: UserId | None) -> Source:
    """A page of the jobs that somebody submitted, newest first."""
    start = start_of("jobs", cursor)
    found = await context.engine.read(
        list_jobs_of, context.actor, start=LARGEST if start is None else start, limit=PAGE, user=whose
    )
    context.spend(objects=len(found.views))
    return {"results": [job(view) for view in found.views], "cursor": cursor_of("jobs", found.next)}


async def own_jobs(_source: Any, info: Info, *, cursor: str | None = None) -> Source:
    """The asker's jobs."""
    return await page_of_jobs(info.context, cursor, None)


async def jobs_of_user(source: Source, info: Info, *, cursor: str | None = None) -> Source:
    """Those of a user's jobs that the asker finds in lists."""
    return await page_of_jobs(info.context, cursor, UserId(source["id"]))


# --- what belongs to a job ----------------------------------------------------------------------


async def manifest(source: Source, info: Info) -> str | None:
    """The text submitted, or for a job of another origin one that tells the same."""
    return await info.context.load(load_manifests, source["id"])


async def image(source: Source, info: Info) -> str | None:
    """The name of the image, as the manifest has it."""
    return await info.context.load(load_images, source["id"])


async def tags(source: Source, info: Info) -> list[str]:
    """The tags; a job of another origin is filed under its project and pipeline."""
    found = await info.context.load(load_sheets, source["id"])
    return list(mapping.tags_of(found)) if found else []


async def visibility(source: Source, info: Info) -> str | None:
    """Who else sees it."""
    found = await info.context.load(load_visibilities, source["id"])
    return found.name if found is not None else None


async def runner(source: Source, info: Info) -> str | None:
    """The worker that has or had it; none while it waits."""
    found = await info.context.load(load_sheets, source["id"])
    return found.runner or None if found else None


async def owner(source: Source, info: Info) -> Source | None:
    """Whose project it is in."""
    found = await info.context.load(load_owners, source["id"])
    return await entity(info.context, found) if found else None


async def entity(context: Context, found: JobOwner) -> Source:
    """An owner: a user, or an account of several, whose id is negative."""
    profile = await context.load(load_profiles, found.user) if found.user is not None else None
    if profile is not None:
        return user(profile)
    return {
        "__typename": "User",
        "id": -found.account,
        "created": found.created_at,
        "updated": found.created_at,
        "canonicalName": f"~{found.name}",
        "username": found.name,
        "email": "",
    }


async def group(source: Source, info: Info) -> Source | None:
    """The group that it was collected in, for whoever made that."""
    found = await info.context.load(load_groups_of, source["id"])
    return job_group(found) if found else None


def job_group(found: "Group") -> Source:
    """A group as the schema has it."""
    return {"id": found.id, "created": found.created_at, "note": found.note or None}


async def secrets(source: Source, info: Info) -> list[dict[str, object]] | None:
    """Which of the asker's secrets it may have; none at all if they were withheld."""
    view: BuildView = source["view"]
    if not view.build.secrets_enabled:
        return None
    found = await info.context.load(load_job_secrets, source["id"])
    return [secret(one) for one in found or ()]


async def artifacts(source: Source, info: Info) -> list[Source]:
    """The files that it kept."""
    found = await info.context.load(load_artifacts, source["id"]) or ()
    info.context.spend(objects=len(found))
    return [artifact(info.context, one) for one in found]


def artifact(context: Context, found: "Artifact") -> Source:
    """A kept file; one that retention removed has no address."""
    url = addresses.artifact_url(context.engine.policy.public_url, found.build, found.uid, found.path)
    return {
        "id": found.id,
        "created": found.created_at,
        "path": found.path,
        "size": min(found.size, LARGEST),
        "url": url if found.removed_at is None else None,
    }


async def tasks(source: Source, info: Info) -> list[Source]:
    """The tasks, in order."""
    found = await info.context.load(load_sheets, source["id"])
    sheets = found.tasks if found else ()
    info.context.spend(objects=len(sheets))
    return [task(one, source) for one in sheets]


def task(found: TaskSheet, of: Source) -> Source:
    """A task; its id is that of its step, or of its job, negative, as long as there is no step."""
    return {
        "id": -found.job if found.step is None else found.step,
        "created": found.created_at,
        "updated": max(found.created_at, found.started_at or 0, found.finished_at or 0),
        "name": found.name,
        "status": mapping.task_status(found).upper(),
        "log": {"build": of["id"], "task": found.name},
        "job": of,
    }


def setup_log(source: Source, _info: Info) -> Source:
    """What was written before the first task; it is there from the beginning, empty."""
    return {"build": source["id"], "task": None}


def full_url(source: Source, info: Info) -> str:
    """Where a whole log is."""
    base = info.context.engine.policy.public_url
    if source["task"] is None:
        return addresses.setup_log_url(base, source["build"])
    return addresses.task_log_url(base, source["build"], source["task"])


async def last_128_kib(source: Source, info: Info) -> str:
    """The end of a log; of one that retention deleted, that it did."""
    context = info.context
    context.spend(tails=1)
    try:
        if source["task"] is None:
            found = await context.engine.read(get_setup_log, context.actor, source["build"])
        else:
            found = await context.engine.read(get_task_log, context.actor, source["build"], source["task"])
    except Gone as exc:
        return f"--- {exc} ---\n"
    data = await last_bytes(context.engine, found, TAIL)
    whole = data if len(data) < TAIL else data.lstrip(bytes(range(0x80, 0xC0)))
    return whole.decode("utf-8", "replace")


RESOLVERS: Resolvers = {
    "Query": {"job": job_by_id, "jobs": own_jobs},
    "User": {"jobs": jobs_of_user},
    "Job": {
        "manifest": manifest,
        "image": image,
        "tags": tags,
        "visibility": visibility,
        "runner": runner,
        "owner": owner,
        "group": group,
        "tasks": tasks,
        "artifacts": artifacts,
        "log": setup_log,
        "secrets": secrets,
    },
    "Log": {"fullURL": full_url, "last128KiB": last_128_kib},
}
