"""Pipelines, their versions, and the jobs of a version."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.blocking import gates_of
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import Moment, PipelineId, PipelineVersionId, ProjectId, RequirementId, Uid
from buildyard.domain.labels import requirement_key
from buildyard.domain.specs import Concurrency, GitSource, JobSpec, PipelineSpec, Requirement
from buildyard.domain.workflow import PlannedJob
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import job_specs, pipeline_versions, pipelines, requirements
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A named definition in a project; `defined_by` is the API or file that may change it.

    `source` is what its builds take if nothing else is said. A disabled pipeline makes no more builds. With `manifests`
    its triggers read what is to be built from files in the source.
    """

    id: PipelineId
    uid: Uid
    project: ProjectId
    slug: str
    name: str
    defined_by: str
    latest_version: PipelineVersionId | None
    source: GitSource | None
    disabled_at: Moment | None
    created_at: Moment
    updated_at: Moment
    manifests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A job of a pipeline version as stored: its spec stays text until a worker gets it."""

    id: int
    position: int
    name: str
    requirement: RequirementId
    priority: int
    dependants: int
    allow_failure: bool
    gates: int
    needs: tuple[int, ...]


_PIPELINE = (
    pipelines.c.id,
    pipelines.c.uid,
    pipelines.c.project,
    pipelines.c.slug,
    pipelines.c.name,
    pipelines.c.defined_by,
    pipelines.c.latest_version,
    pipelines.c.source,
    pipelines.c.disabled_at,
    pipelines.c.created_at,
    pipelines.c.updated_at,
    pipelines.c.manifests,
)
BY_ID = Statement(select(*_PIPELINE).where(pipelines.c.id == given("key")))
BY_UID = Statement(select(*_PIPELINE).where(pipelines.c.uid == given("of_uid")))
BY_SLUG = Statement(
    select(*_PIPELINE).where(pipelines.c.project == given("within"), pipelines.c.slug == given("called"))
)
OF_PROJECT = Statement(select(*_PIPELINE).where(pipelines.c.project == given("within")).order_by(pipelines.c.id.desc()))
DEFINED_BY = Statement(select(*_PIPELINE).where(pipelines.c.defined_by == given("file")).order_by(pipelines.c.id))
SLUGS = Statement(
    select(pipelines.c.slug).where(
        pipelines.c.project == given("within"), pipelines.c.slug >= given("low"), pipelines.c.slug < given("high")
    )
)
ADD = Statement(insert(pipelines).values({c.name: given(c.name) for c in pipelines.columns}).on_conflict_do_nothing())
SET_LATEST = Statement(
    update(pipelines)
    .where(pipelines.c.id == given("key"))
    .values(latest_version=given("latest"), updated_at=given("at"))
)
SET_SOURCE = Statement(
    update(pipelines)
    .where(pipelines.c.id == given("key"))
    .values(source=given("source"), disabled_at=given("disabled_at"), updated_at=given("at"))
)
SET_MANIFESTS = Statement(
    update(pipelines).where(pipelines.c.id == given("key")).values(manifests=given("manifests"), updated_at=given("at"))
)
NEXT_NUMBER = Statement(
    update(pipelines)
    .where(pipelines.c.id == given("key"))
    .values(next_number=pipelines.c.next_number + 1)
    .returning(pipelines.c.next_number)
)
NEXT_ATTEMPT_NUMBERS = Statement(
    update(pipelines)
    .where(pipelines.c.id == given("key"))
    .values(next_attempt_number=pipelines.c.next_attempt_number + given("count"))
    .returning(pipelines.c.id, pipelines.c.next_attempt_number)
)
VERSION_BY_HASH = Statement(
    select(pipeline_versions.c.id).where(
        pipeline_versions.c.pipeline == given("of"), pipeline_versions.c.hash == given("digest")
    )
)
VERSION_SECRETS = Statement(select(pipeline_versions.c.secrets).where(pipeline_versions.c.id == given("of")))
ADD_VERSION = insertion(pipeline_versions)
REQUIREMENT_BY_KEY = Statement(select(requirements.c.id).where(requirements.c.key == given("text")))
ADD_REQUIREMENT = Statement(
    insert(requirements).values({c.name: given(c.name) for c in requirements.columns}).on_conflict_do_nothing()
)
ADD_JOB = insertion(job_specs)
JOBS = Statement(
    select(
        job_specs.c.id,
        job_specs.c.position,
        job_specs.c.name,
        job_specs.c.requirement,
        job_specs.c.priority,
        job_specs.c.dependants,
        job_specs.c.allow_failure,
        job_specs.c.gates,
        job_specs.c.needs,
    )
    .where(job_specs.c.version == given("of"))
    .order_by(job_specs.c.position)
)
SPECS = Statement(select(job_specs.c.spec).where(job_specs.c.version == given("of")).order_by(job_specs.c.position))
CONCURRENCY = Statement(select(pipeline_versions.c.concurrency).where(pipeline_versions.c.id == given("key")))
SPEC = Statement(select(job_specs.c.spec).where(job_specs.c.id == given("key")))

TEXT_OF_MANY = Statement(
    select(pipeline_versions.c.id, pipeline_versions.c.text).where(pipeline_versions.c.id == given("key"))
)
SPECS_OF_MANY = Statement(
    select(job_specs.c.version, job_specs.c.spec)
    .where(job_specs.c.version == given("of"))
    .order_by(job_specs.c.position)
)
SPEC_OF_MANY = Statement(select(job_specs.c.id, job_specs.c.spec).where(job_specs.c.id == given("key")))

encode_spec = msgspec.json.Encoder().encode
decode_source = msgspec.json.Decoder(GitSource).decode
decode_spec = msgspec.json.Decoder(JobSpec).decode
_decode_concurrency = msgspec.json.Decoder(Concurrency).decode


def _pipeline(row: Row) -> Pipeline:
    key, uid, project, slug, name, defined_by, latest, source, disabled_at, created_at, updated_at, manifests = row
    return Pipeline(
        id=key,
        uid=uid,
        project=project,
        slug=slug,
        name=name,
        defined_by=defined_by,
        latest_version=latest,
        source=decode_source(source) if source else None,
        disabled_at=disabled_at,
        created_at=created_at,
        updated_at=updated_at,
        manifests=bool(manifests),
    )


def _job(row: Row) -> StoredJob:
    key, position, name, requirement, priority, dependants, allow_failure, gates, needs = row
    return StoredJob(
        id=key,
        position=position,
        name=name,
        requirement=requirement,
        priority=priority,
        dependants=dependants,
        allow_failure=bool(allow_failure),
        gates=gates,
        needs=tuple(int(need) for need in needs.split()),
    )


async def get(tx: Transaction, key: PipelineId) -> Pipeline:
    """The pipeline with this id."""
    row = await tx.fetch_one(BY_ID, key=key)
    if row is None:
        raise NotFound("pipeline not found")
    return _pipeline(row)


async def get_by_uid(tx: Transaction, uid: str) -> Pipeline:
    """The pipeline with this uid."""
    row = await tx.fetch_one(BY_UID, of_uid=uid)
    if row is None:
        raise NotFound("pipeline not found")
    return _pipeline(row)


async def find_by_slug(tx: Transaction, project: ProjectId, slug: str) -> Pipeline | None:
    """The project's pipeline with this slug."""
    row = await tx.fetch_one(BY_SLUG, within=project, called=slug)
    return _pipeline(row) if row else None


async def of_project(tx: Transaction, project: ProjectId) -> list[Pipeline]:
    """A project's pipelines, newest first."""
    return [_pipeline(row) for row in await tx.fetch(OF_PROJECT, within=project)]


async def defined_by(tx: Transaction, file: str) -> list[Pipeline]:
    """The pipelines that a file or API defined."""
    return [_pipeline(row) for row in await tx.fetch(DEFINED_BY, file=file)]


async def slugs_like(tx: Transaction, project: ProjectId, slug: str) -> list[str]:
    """The project's pipeline slugs that begin with `slug`."""
    return [row[0] for row in await tx.fetch(SLUGS, within=project, low=slug, high=f"{slug}\uffff")]


async def add(tx: Transaction, *, project: ProjectId, slug: str, name: str, defined_by: str) -> Pipeline | None:
    """Make a pipeline without a version, or None if the slug is taken."""
    (key,) = await tx.allocate("pipelines")
    made = await tx.execute(
        ADD,
        id=key,
        uid=tx.fresh_uid(),
        project=project,
        slug=slug,
        name=name,
        defined_by=defined_by,
        shares=1,
        next_number=1,
        next_attempt_number=1,
        latest_version=None,
        source="",
        manifests=0,
        disabled_at=None,
        created_at=tx.now,
        updated_at=tx.now,
    )
    return await get(tx, PipelineId(key)) if made else None


async def next_number(tx: Transaction, pipeline: PipelineId) -> int:
    """Take the pipeline's next build number, from 1."""
    row = await tx.fetch_one(NEXT_NUMBER, key=pipeline)
    assert row is not None
    return int(row[0]) - 1


async def next_attempt_numbers(tx: Transaction, counts: Mapping[PipelineId, int]) -> dict[PipelineId, Iterator[int]]:
    """Take the numbers for so many attempts of each pipeline that start now, from 1, counted per pipeline."""
    rows = await tx.fetch_many(NEXT_ATTEMPT_NUMBERS, [{"key": key, "count": counts[key]} for key in sorted(counts)])
    return {key: iter(range(after - counts[key], after)) for key, after in rows}


async def find_version(tx: Transaction, pipeline: PipelineId, digest: bytes) -> PipelineVersionId | None:
    """The version of this content."""
    row = await tx.fetch_one(VERSION_BY_HASH, of=pipeline, digest=digest)
    return PipelineVersionId(row[0]) if row else None


async def add_version(
    tx: Transaction,
    pipeline: PipelineId,
    digest: bytes,
    text: str,
    jobs: list[PlannedJob],
    concurrency: Concurrency | None,
) -> PipelineVersionId:
    """Store a version with its jobs; `text` is what the author wrote, if it was a file."""
    (version,) = await tx.allocate("pipeline_versions")
    await tx.execute(
        ADD_VERSION,
        id=version,
        pipeline=pipeline,
        hash=digest,
        jobs=len(jobs),
        text=text,
        concurrency=encode_spec(concurrency).decode() if concurrency else "",
        secrets=" ".join(sorted({use.name for job in jobs for use in job.spec.secrets if not use.optional})),
        created_at=tx.now,
    )
    wanted = {requirement_key(job.spec.require): job.spec.require for job in jobs}
    known = {key: await _requirement(tx, requirement) for key, requirement in wanted.items()}
    keys = await tx.allocate("job_specs", len(jobs))
    await tx.execute_many(
        ADD_JOB,
        [
            {
                "id": key,
                "version": version,
                "position": job.position,
                "name": job.spec.name,
                "requirement": known[requirement_key(job.spec.require)],
                "priority": job.spec.priority,
                "dependants": job.dependants,
                "allow_failure": int(job.spec.allow_failure),
                "gates": gates_of(job.spec),
                "needs": " ".join(str(need) for need in job.needs),
                "spec": encode_spec(job.spec).decode(),
            }
            for key, job in zip(keys, jobs, strict=True)
        ],
    )
    return PipelineVersionId(version)


async def secrets_of(tx: Transaction, version: PipelineVersionId) -> list[str]:
    """The names of the secrets that jobs of a version cannot do without."""
    row = await tx.fetch_one(VERSION_SECRETS, of=version)
    return str(row[0]).split() if row else []


async def set_latest(tx: Transaction, pipeline: PipelineId, version: PipelineVersionId) -> None:
    """Make a version the one that new builds use."""
    await tx.execute(SET_LATEST, key=pipeline, latest=version, at=tx.now)


async def set_source(tx: Transaction, pipeline: PipelineId, source: GitSource | None, *, enabled: bool) -> None:
    """Say what builds take if nothing else is said, and whether there may be more of them."""
    text = encode_spec(source).decode() if source else ""
    await tx.execute(SET_SOURCE, key=pipeline, source=text, disabled_at=None if enabled else tx.now, at=tx.now)


async def set_manifests(tx: Transaction, pipeline: PipelineId, *, manifests: bool) -> None:
    """Say whether its triggers read manifests from its source."""
    await tx.execute(SET_MANIFESTS, key=pipeline, manifests=int(manifests), at=tx.now)


async def _requirement(tx: Transaction, requirement: Requirement) -> RequirementId:
    text = requirement_key(requirement)
    row = await tx.fetch_one(REQUIREMENT_BY_KEY, text=text)
    if row is None:
        (key,) = await tx.allocate("requirements")
        await tx.execute(ADD_REQUIREMENT, id=key, key=text, created_at=tx.now)
        row = await tx.fetch_one(REQUIREMENT_BY_KEY, text=text)
        assert row is not None
    return RequirementId(row[0])


async def jobs_of(tx: Transaction, version: PipelineVersionId) -> list[StoredJob]:
    """A version's jobs by position, without their specs."""
    return [_job(row) for row in await tx.fetch(JOBS, of=version)]


async def spec_of(tx: Transaction, version: PipelineVersionId) -> PipelineSpec:
    """A version's definition, read back."""
    jobs = tuple(decode_spec(row[0]) for row in await tx.fetch(SPECS, of=version))
    return PipelineSpec(jobs=jobs, concurrency=await concurrency_of(tx, version))


async def concurrency_of(tx: Transaction, version: PipelineVersionId) -> Concurrency | None:
    """The concurrency group of a version's builds."""
    row = await tx.fetch_one(CONCURRENCY, key=version)
    return _decode_concurrency(row[0]) if row and row[0] else None


async def job_spec(tx: Transaction, spec: int) -> JobSpec:
    """The spec of one job of a version."""
    row = await tx.fetch_one(SPEC, key=spec)
    assert row is not None
    return decode_spec(row[0])


async def job_specs_of(tx: Transaction, keys: Iterable[int]) -> dict[int, JobSpec]:
    """The specs of these jobs of versions."""
    return {row[0]: decode_spec(row[1]) for row in await tx.fetch_many(SPEC_OF_MANY, [{"key": key} for key in keys])}


async def texts_of(tx: Transaction, keys: Iterable[PipelineVersionId]) -> dict[PipelineVersionId, str]:
    """What these versions were, as submitted."""
    return {row[0]: row[1] for row in await tx.fetch_many(TEXT_OF_MANY, [{"key": key} for key in keys])}


async def specs_of_many(tx: Transaction, keys: Iterable[PipelineVersionId]) -> dict[PipelineVersionId, list[JobSpec]]:
    """The specs of all jobs of these versions, by position."""
    found: dict[PipelineVersionId, list[JobSpec]] = {}
    for version, spec in await tx.fetch_many(SPECS_OF_MANY, [{"of": key} for key in keys]):
        found.setdefault(version, []).append(decode_spec(spec))
    return found
