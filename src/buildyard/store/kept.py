"""What is kept of builds: artifacts and caches, and the blobs that hold their bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.errors import NotFound, Unavailable
from buildyard.domain.ids import SECOND, ArtifactId, AttemptId, BuildId, JobId, Moment, ProjectId, Sha256, Uid
from buildyard.domain.states import Phase
from buildyard.store.statements import Row, Statement, Value, given, insertion
from buildyard.store.tables import artifacts, attempts, blobs, builds, caches, job_needs, revisions
from buildyard.store.transactions import Transaction

STORED, DOOMED, UNCONFIRMED = 0, 1, 2
"""What `blobs.doomed` holds. STORED: the bytes are there. DOOMED: they are going. UNCONFIRMED: somebody has just sent
them and must still see that they are there, for they may have gone with the row before; all but STORED are unknown."""

REMOVAL_S = 900
"""How long the bytes of a doomed blob may take to go before somebody else may try to remove them."""

SEND_AGAIN = "an unused blob with these bytes is being removed: send it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A kept output of a job; a link's blob holds its target. One that retention removed has no digest any more."""

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
    removed_at: Moment | None


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
    artifacts.c.removed_at,
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
_BLOB = insert(blobs).values({c.name: given(c.name) for c in blobs.columns})
_IS_GOING = blobs.c.doomed == DOOMED
ENTER_BLOB = Statement(
    _BLOB.on_conflict_do_update(
        index_elements=["sha256"], set_={"used_at": _BLOB.excluded.used_at}, where=~_IS_GOING
    ).returning(blobs.c.doomed)
)
CONFIRM_BLOB = Statement(
    update(blobs).where(blobs.c.sha256 == given("digest"), ~_IS_GOING).values(doomed=STORED, used_at=given("at"))
)
REFER_TO_BLOB = Statement(
    update(blobs)
    .where(blobs.c.sha256 == given("digest"), blobs.c.doomed == STORED)
    .values(references=blobs.c.references + given("more"), used_at=given("at"))
)
RELEASE_BLOB = Statement(
    update(blobs)
    .where(blobs.c.sha256 == given("digest"))
    .values(
        references=blobs.c.references - 1,
        used_at=case((blobs.c.used_at > given("at"), blobs.c.used_at), else_=given("at")),
    )
)
BLOB = Statement(select(blobs.c.size).where(blobs.c.sha256 == given("digest"), blobs.c.doomed == STORED))
FRESH_BLOB = Statement(
    select(blobs.c.size).where(
        blobs.c.sha256 == given("digest"),
        blobs.c.doomed == STORED,
        or_(blobs.c.references > 0, blobs.c.used_at > given("since")),
    )
)
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
_UNUSED = and_(
    blobs.c.references == 0,
    blobs.c.used_at < given("before"),
    or_(~_IS_GOING, blobs.c.used_at < given("stale")),
)
UNREFERENCED = Statement(
    select(blobs.c.sha256, blobs.c.size).where(_UNUSED).order_by(blobs.c.used_at).limit(given("most"))
)
UNREFERENCED_BYTES = Statement(
    select(func.count(), func.coalesce(func.sum(blobs.c.size), 0)).where(
        blobs.c.references == 0, blobs.c.used_at < given("before")
    )
)
DOOM_BLOB = Statement(
    update(blobs).where(blobs.c.sha256 == given("digest"), _UNUSED).values(doomed=DOOMED, used_at=given("at"))
)
ADOPT_BLOB = Statement(insert(blobs).values({c.name: given(c.name) for c in blobs.columns}).on_conflict_do_nothing())
KNOWN_BLOB = Statement(select(blobs.c.sha256).where(blobs.c.sha256 == given("digest")))
DROP_BLOB = Statement(delete(blobs).where(blobs.c.sha256 == given("digest"), _IS_GOING))
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
PROJECT_TOTALS = Statement(select(caches.c.project, func.count(), func.sum(caches.c.size)).group_by(caches.c.project))
OLDEST_OF_PROJECT = Statement(
    select(*_CACHE).where(caches.c.project == given("within")).order_by(caches.c.used_at).limit(given("most"))
)
OLDEST_CACHES = Statement(select(*_CACHE).order_by(caches.c.used_at).limit(given("most")))
DROP_CACHE = Statement(delete(caches).where(caches.c.id == given("key"), caches.c.sha256 == given("digest")))


def _artifact(row: Row) -> Artifact:
    key, uid, build, job, attempt, path, sha256, size, mode, link, created_at, removed_at = row
    return Artifact(
        id=key,
        uid=uid,
        build=build,
        job=job,
        attempt=attempt,
        path=path,
        sha256=Sha256(sha256 or ""),
        size=size,
        mode=mode,
        link=bool(link),
        created_at=created_at,
        removed_at=removed_at,
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


async def enter_blob(tx: Transaction, sha256: Sha256, size: int) -> bool:
    """Note a blob whose bytes were just sent, or touch it; False: they must be seen to be there, and confirmed.

    Raises Unavailable while the blob is being collected: its bytes must be sent again.
    """
    values: dict[str, Value] = {"sha256": sha256, "size": size, "references": 0, "doomed": UNCONFIRMED}
    row = await tx.fetch_one(ENTER_BLOB, **values, created_at=tx.now, used_at=tx.now)
    if row is None:
        raise Unavailable(SEND_AGAIN)
    return bool(row[0] == STORED)


async def confirm_blob(tx: Transaction, sha256: Sha256) -> None:
    """Say that the bytes of a blob that was entered are there. Raises Unavailable if they are being removed."""
    if await tx.execute(CONFIRM_BLOB, digest=sha256, at=tx.now) == 0:
        raise Unavailable(SEND_AGAIN)


async def refer_to_blob(tx: Transaction, sha256: Sha256, *, references: int = 1) -> None:
    """Add references to a stored blob (0: touch it). Raises Unavailable if it is not there any more."""
    if await tx.execute(REFER_TO_BLOB, digest=sha256, more=references, at=tx.now) == 0:
        raise Unavailable(SEND_AGAIN)


async def is_of_project(tx: Transaction, sha256: Sha256, project: ProjectId) -> bool:
    """Whether a project keeps a blob as an artifact or cache, or one of its jobs that run now has it as source."""
    return await tx.fetch_one(OF_PROJECT, digest=sha256, within=project) is not None


async def knows_blob(tx: Transaction, sha256: Sha256) -> bool:
    """Whether a blob was noted as stored."""
    return await tx.fetch_one(BLOB, digest=sha256) is not None


async def is_fresh_blob(tx: Transaction, sha256: Sha256, since: Moment) -> bool:
    """Whether a blob is stored and either referred to or touched after `since`: it will be there for a while."""
    return await tx.fetch_one(FRESH_BLOB, digest=sha256, since=since) is not None


async def unreferenced(tx: Transaction, before: Moment, count: int) -> list[tuple[Sha256, int]]:
    """Blobs that nothing refers to and nobody touched since `before`, with their sizes."""
    rows = await tx.fetch(UNREFERENCED, before=before, stale=_stale(tx), most=count)
    return [(Sha256(digest), size) for digest, size in rows]


async def unreferenced_bytes(tx: Transaction, before: Moment) -> tuple[int, int]:
    """How many blobs nothing refers to, untouched since `before`, and their bytes."""
    row = await tx.fetch_one(UNREFERENCED_BYTES, before=before)
    assert row is not None
    return int(row[0]), int(row[1])


def _stale(tx: Transaction) -> Moment:
    return Moment(tx.now - REMOVAL_S * SECOND)


async def doom_blob(tx: Transaction, sha256: Sha256, before: Moment) -> bool:
    """Make a blob unknown, if it is still unreferenced and untouched since `before`; then its bytes may be removed.

    Who gets True has REMOVAL_S seconds for that, alone; afterwards another may try.
    """
    return await tx.execute(DOOM_BLOB, digest=sha256, before=before, stale=_stale(tx), at=tx.now) == 1


async def adopt_blob(tx: Transaction, sha256: Sha256, size: int) -> bool:
    """Enter bytes that no row knows, as doomed; False if somebody stored them properly meanwhile."""
    values: dict[str, Value] = {"sha256": sha256, "size": size, "references": 0, "doomed": DOOMED}
    return await tx.execute(ADOPT_BLOB, **values, created_at=tx.now, used_at=tx.now) == 1


async def known_blobs(tx: Transaction, names: Sequence[Sha256]) -> set[Sha256]:
    """Those of these blobs that have a row."""
    return {Sha256(row[0]) for row in await tx.fetch_many(KNOWN_BLOB, [{"digest": name} for name in names])}


async def release_blob(tx: Transaction, sha256: Sha256, at: Moment) -> None:
    """Take back a reference. The blob counts as used `at` that moment, or later if somebody touched it."""
    await tx.execute(RELEASE_BLOB, digest=sha256, at=at)


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
    await refer_to_blob(tx, sha256)
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
        removed_at=None,
    )


async def artifacts_of(tx: Transaction, build: BuildId, *, after: int, limit: int) -> list[Artifact]:
    """A build's artifacts with ids above `after`, oldest first."""
    return [_artifact(row) for row in await tx.fetch(OF_BUILD, of=build, after=after, most=limit)]


async def artifacts_of_many(tx: Transaction, keys: Iterable[BuildId], *, limit: int) -> list[Artifact]:
    """The artifacts of these builds, the oldest of each."""
    wanted = [{"of": key, "after": 0, "most": limit} for key in keys]
    return [_artifact(row) for row in await tx.fetch_many(OF_BUILD, wanted)]


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
    await refer_to_blob(tx, sha256)
    if before is not None:
        await release_blob(tx, before.sha256, tx.now)
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


@dataclass(frozen=True, slots=True)
class CacheTotal:
    """What a project's caches come to."""

    project: ProjectId
    count: int
    size: int


async def cache_totals(tx: Transaction) -> list[CacheTotal]:
    """What the caches of each project that has any come to."""
    return [
        CacheTotal(ProjectId(project), int(count), int(size)) for project, count, size in await tx.fetch(PROJECT_TOTALS)
    ]


async def oldest_caches(tx: Transaction, count: int, project: ProjectId | None = None) -> list[Cache]:
    """The entries of a project, or of all, that were used longest ago."""
    if project is not None:
        return [_cache(row) for row in await tx.fetch(OLDEST_OF_PROJECT, within=project, most=count)]
    return [_cache(row) for row in await tx.fetch(OLDEST_CACHES, most=count)]


async def drop_cache(tx: Transaction, cache: Cache, at: Moment | None = None) -> None:
    """Forget an entry, unless it was replaced meanwhile; its blob counts as used `at` that moment, or now."""
    if await tx.execute(DROP_CACHE, key=cache.id, digest=cache.sha256):
        await release_blob(tx, cache.sha256, tx.now if at is None else at)
