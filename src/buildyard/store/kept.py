"""What is kept of builds: artifacts and caches, and the blobs that hold their bytes."""

from dataclasses import dataclass

from sqlalchemy import and_, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.errors import NotFound, Unavailable
from buildyard.domain.ids import ArtifactId, AttemptId, BuildId, JobId, Moment, ProjectId, Sha256, Uid
from buildyard.domain.states import Phase
from buildyard.store.statements import Row, Statement, Value, given, insertion
from buildyard.store.tables import artifacts, attempts, blobs, builds, caches, job_needs, revisions
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A kept output of a job; a link's blob holds its target."""

    id: ArtifactId
    uid: Uid
    build: BuildId
    job: JobId
    attempt: AttemptId
    path: str
    sha256: Sha256
    size: int
    mode: int
    link: bool
    created_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A kept folder of a project's step."""

    id: int
    project: ProjectId
    scope: str
    path: str
    key: str
    trusted: bool
    sha256: Sha256
    size: int
    used_at: Moment


_ARTIFACT = (
    artifacts.c.id,
    artifacts.c.uid,
    artifacts.c.build,
    artifacts.c.job,
    artifacts.c.attempt,
    artifacts.c.path,
    artifacts.c.sha256,
    artifacts.c.size,
    artifacts.c.mode,
    artifacts.c.link,
    artifacts.c.created_at,
)
_CACHE = (
    caches.c.id,
    caches.c.project,
    caches.c.scope,
    caches.c.path,
    caches.c.key,
    caches.c.trusted,
    caches.c.sha256,
    caches.c.size,
    caches.c.used_at,
)
OF_BUILD = Statement(
    select(*_ARTIFACT)
    .where(artifacts.c.build == given("of"), artifacts.c.id > given("after"))
    .order_by(artifacts.c.id)
    .limit(given("most"))
)
BY_UID = Statement(select(*_ARTIFACT).where(artifacts.c.uid == given("of_uid")))
INPUTS = Statement(
    select(*_ARTIFACT)
    .select_from(job_needs.join(artifacts, artifacts.c.job == job_needs.c.need))
    .where(job_needs.c.job == given("of"))
    .order_by(artifacts.c.id)
)
ADD_ARTIFACT = insertion(artifacts)
_BLOB = insert(blobs).values({c.name: given(c.name) for c in blobs.columns if c.name != "doomed"})
KEEP_BLOB = Statement(
    _BLOB.on_conflict_do_update(
        index_elements=["sha256"],
        set_={"references": blobs.c.references + _BLOB.excluded.references, "used_at": _BLOB.excluded.used_at},
        where=blobs.c.doomed == 0,
    )
)
RELEASE_BLOB = Statement(
    update(blobs)
    .where(blobs.c.sha256 == given("digest"))
    .values(references=blobs.c.references - 1, used_at=given("at"))
)
BLOB = Statement(select(blobs.c.size).where(blobs.c.sha256 == given("digest"), blobs.c.doomed == 0))
_KEPT_BY_PROJECT = (
    select(artifacts.c.id)
    .select_from(artifacts.join(builds, builds.c.id == artifacts.c.build))
    .where(artifacts.c.sha256 == given("digest"), builds.c.project == given("within"))
)
_CACHED_BY_PROJECT = select(caches.c.id).where(caches.c.sha256 == given("digest"), caches.c.project == given("within"))
_RUN_ON_BY_PROJECT = (
    select(attempts.c.id)
    .select_from(
        attempts.join(builds, builds.c.id == attempts.c.build).join(revisions, revisions.c.id == builds.c.revision)
    )
    .where(
        attempts.c.phase < int(Phase.FINISHED),
        revisions.c.source_blob == given("digest"),
        builds.c.project == given("within"),
    )
)
OF_PROJECT = Statement(
    select(literal(1)).where(or_(_KEPT_BY_PROJECT.exists(), _CACHED_BY_PROJECT.exists(), _RUN_ON_BY_PROJECT.exists()))
)
UNREFERENCED = Statement(
    select(blobs.c.sha256)
    .where(blobs.c.references == 0, blobs.c.used_at < given("before"))
    .order_by(blobs.c.used_at)
    .limit(given("most"))
)
DOOM_BLOB = Statement(
    update(blobs)
    .where(blobs.c.sha256 == given("digest"), blobs.c.references == 0, blobs.c.used_at < given("before"))
    .values(doomed=1)
)
DROP_BLOB = Statement(delete(blobs).where(blobs.c.sha256 == given("digest"), blobs.c.doomed == 1))
_THE_CACHE = and_(
    caches.c.project == given("within"),
    caches.c.scope == given("of_scope"),
    caches.c.path == given("of_path"),
    caches.c.key == given("of_key"),
    caches.c.trusted == given("of_trust"),
)
CACHE = Statement(select(*_CACHE).where(_THE_CACHE))
_SAVED = insert(caches).values({c.name: given(c.name) for c in caches.columns})
SAVE_CACHE = Statement(
    _SAVED.on_conflict_do_update(
        index_elements=["project", "scope", "path", "key", "trusted"],
        set_={
            "sha256": _SAVED.excluded.sha256,
            "size": _SAVED.excluded.size,
            "created_at": _SAVED.excluded.created_at,
            "used_at": _SAVED.excluded.used_at,
        },
    )
)
TOUCH_CACHE = Statement(update(caches).where(caches.c.id == given("key")).values(used_at=given("at")))
CACHE_TOTAL = Statement(select(func.coalesce(func.sum(caches.c.size), 0)))
PROJECT_TOTALS = Statement(
    select(caches.c.project, func.sum(caches.c.size))
    .group_by(caches.c.project)
    .having(func.sum(caches.c.size) > given("limit"))
)
OLDEST_OF_PROJECT = Statement(
    select(*_CACHE).where(caches.c.project == given("within")).order_by(caches.c.used_at).limit(given("most"))
)
OLDEST_CACHES = Statement(select(*_CACHE).order_by(caches.c.used_at).limit(given("most")))
DROP_CACHE = Statement(delete(caches).where(caches.c.id == given("key"), caches.c.sha256 == given("digest")))


def _artifact(row: Row) -> Artifact:
    key, uid, build, job, attempt, path, sha256, size, mode, link, created_at = row
    return Artifact(
        id=key,
        uid=uid,
        build=build,
        job=job,
        attempt=attempt,
        path=path,
        sha256=sha256,
        size=size,
        mode=mode,
        link=bool(link),
        created_at=created_at,
    )


def _cache(row: Row) -> Cache:
    key, project, scope, path, cache_key, trusted, sha256, size, used_at = row
    return Cache(
        id=key,
        project=project,
        scope=scope,
        path=path,
        key=cache_key,
        trusted=bool(trusted),
        sha256=sha256,
        size=size,
        used_at=used_at,
    )


async def keep_blob(tx: Transaction, sha256: Sha256, size: int, *, references: int) -> None:
    """Note a blob that is stored, with so many more references (0: it was only touched).

    Raises Unavailable while the blob is being collected: its bytes must be sent again.
    """
    values: dict[str, Value] = {"sha256": sha256, "size": size, "references": references}
    if await tx.execute(KEEP_BLOB, **values, created_at=tx.now, used_at=tx.now) == 0:
        raise Unavailable("an unused blob with these bytes is being removed: send it again")


async def is_of_project(tx: Transaction, sha256: Sha256, project: ProjectId) -> bool:
    """Whether a project keeps a blob as an artifact or cache, or one of its jobs that run now has it as source."""
    return await tx.fetch_one(OF_PROJECT, digest=sha256, within=project) is not None


async def knows_blob(tx: Transaction, sha256: Sha256) -> bool:
    """Whether a blob was noted as stored."""
    return await tx.fetch_one(BLOB, digest=sha256) is not None


async def unreferenced(tx: Transaction, before: Moment, count: int) -> list[Sha256]:
    """Blobs that nothing refers to and nobody touched since `before`."""
    return [Sha256(row[0]) for row in await tx.fetch(UNREFERENCED, before=before, most=count)]


async def doom_blob(tx: Transaction, sha256: Sha256, before: Moment) -> bool:
    """Make a blob unknown, if it is still unreferenced and untouched since `before`; then its bytes may be removed."""
    return await tx.execute(DOOM_BLOB, digest=sha256, before=before) == 1


async def drop_blob(tx: Transaction, sha256: Sha256) -> None:
    """Forget a doomed blob whose bytes have been removed."""
    await tx.execute(DROP_BLOB, digest=sha256)


async def add_artifact(
    tx: Transaction,
    *,
    build: BuildId,
    job: JobId,
    attempt: AttemptId,
    path: str,
    sha256: Sha256,
    size: int,
    mode: int,
    link: bool,
) -> None:
    """Keep an output whose blob is stored."""
    await keep_blob(tx, sha256, size, references=1)
    (key,) = await tx.allocate("artifacts")
    await tx.execute(
        ADD_ARTIFACT,
        id=key,
        uid=tx.fresh_uid(),
        build=build,
        job=job,
        attempt=attempt,
        path=path,
        sha256=sha256,
        size=size,
        mode=mode,
        link=int(link),
        created_at=tx.now,
    )


async def artifacts_of(tx: Transaction, build: BuildId, *, after: int, limit: int) -> list[Artifact]:
    """A build's artifacts with ids above `after`, oldest first."""
    return [_artifact(row) for row in await tx.fetch(OF_BUILD, of=build, after=after, most=limit)]


async def artifact_by_uid(tx: Transaction, uid: str) -> Artifact:
    """The artifact with this uid."""
    row = await tx.fetch_one(BY_UID, of_uid=uid)
    if row is None:
        raise NotFound("artifact not found")
    return _artifact(row)


async def inputs_of(tx: Transaction, job: JobId) -> list[Artifact]:
    """The artifacts of the jobs that `job` needs; where paths clash, the later one is last."""
    return [_artifact(row) for row in await tx.fetch(INPUTS, of=job)]


async def find_cache(
    tx: Transaction, project: ProjectId, *, scope: str, path: str, key: str, trusted: bool
) -> Cache | None:
    """The cache entry of exactly these."""
    row = await tx.fetch_one(CACHE, within=project, of_scope=scope, of_path=path, of_key=key, of_trust=int(trusted))
    return _cache(row) if row else None


async def touch_cache(tx: Transaction, cache: Cache) -> None:
    """Note that the entry was used."""
    await tx.execute(TOUCH_CACHE, key=cache.id, at=tx.now)


async def save_cache(
    tx: Transaction,
    project: ProjectId,
    *,
    scope: str,
    path: str,
    key: str,
    trusted: bool,
    sha256: Sha256,
    size: int,
) -> None:
    """Keep a folder whose blob is stored, in place of the entry there was."""
    before = await find_cache(tx, project, scope=scope, path=path, key=key, trusted=trusted)
    if before is not None and before.sha256 == sha256:
        await touch_cache(tx, before)
        return
    await keep_blob(tx, sha256, size, references=1)
    if before is not None:
        await tx.execute(RELEASE_BLOB, digest=before.sha256, at=tx.now)
    (entry,) = await tx.allocate("caches")
    await tx.execute(
        SAVE_CACHE,
        id=entry,
        project=project,
        scope=scope,
        path=path,
        key=key,
        trusted=int(trusted),
        sha256=sha256,
        size=size,
        created_at=tx.now,
        used_at=tx.now,
    )


async def cache_bytes(tx: Transaction) -> int:
    """How much all caches hold together."""
    row = await tx.fetch_one(CACHE_TOTAL)
    assert row is not None
    return int(row[0])


async def projects_over(tx: Transaction, limit: int) -> list[tuple[ProjectId, int]]:
    """Projects whose caches hold more than `limit` bytes, and how many."""
    return [(ProjectId(project), int(total)) for project, total in await tx.fetch(PROJECT_TOTALS, limit=limit)]


async def oldest_caches(tx: Transaction, count: int, project: ProjectId | None = None) -> list[Cache]:
    """The entries of a project, or of all, that were used longest ago."""
    if project is not None:
        return [_cache(row) for row in await tx.fetch(OLDEST_OF_PROJECT, within=project, most=count)]
    return [_cache(row) for row in await tx.fetch(OLDEST_CACHES, most=count)]


async def drop_cache(tx: Transaction, cache: Cache) -> None:
    """Forget an entry, unless it was replaced meanwhile."""
    if await tx.execute(DROP_CACHE, key=cache.id, digest=cache.sha256):
        await tx.execute(RELEASE_BLOB, digest=cache.sha256, at=tx.now)
