"""Pipelines: define, read back, list."""

import hashlib

import msgspec

from buildyard.domain.access import Actor, Permission, may_use_of, require
from buildyard.domain.errors import Conflict, Fault, Forbidden, Invalid, NotFound
from buildyard.domain.ids import PipelineVersionId
from buildyard.domain.specs import JobSpec, PipelineSpec
from buildyard.domain.workflow import MOST_JOBS, expand, free_slug, graph_faults, plan, slug_of
from buildyard.store import audit, images, pipelines, projects
from buildyard.store.pipelines import Pipeline
from buildyard.store.transactions import Transaction


def spec_faults(spec: PipelineSpec, *, field: str) -> tuple[Fault, ...]:
    """What is wrong with the graph of an expanded definition; `field` is the caller's word for needs."""
    if not spec.jobs:
        return (Fault("steps", "there must be at least one", "empty"),)
    if len(spec.jobs) > MOST_JOBS:
        return (Fault("steps", f"there are {len(spec.jobs)}, at most {MOST_JOBS} are allowed", "too_many"),)
    return tuple(graph_faults([job.name for job in spec.jobs], [job.needs for job in spec.jobs], field=field))


async def image_faults(tx: Transaction, actor: Actor, jobs: tuple[JobSpec, ...]) -> list[Fault]:
    """One fault for each job whose image slug the actor cannot use."""
    usable: dict[str, bool] = {}
    for slug in {job.image for job in jobs}:
        image = await images.find(tx, slug)
        usable[slug] = image is not None and may_use_of(actor, image.account, public=image.public)
    return [
        Fault(f"steps[{i}].imageSlug", f"there is no image {job.image!r}", "unknown_image")
        for i, job in enumerate(jobs)
        if not usable[job.image]
    ]


async def create_pipeline(
    tx: Transaction,
    actor: Actor,
    project_uid: str,
    name: str,
    spec: PipelineSpec,
    *,
    defined_by: str,
    field: str = "needs",
    known_images_only: bool = False,
) -> Pipeline:
    """Define a new pipeline; the same name again makes another one, with a slug of its own."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    faults = spec_faults(spec, field=field)
    if known_images_only:
        faults = (*faults, *await image_faults(tx, actor, spec.jobs))
    if faults:
        raise Invalid("the workflow is not valid", faults)
    wanted = slug_of(name)
    slug = free_slug(wanted, await pipelines.slugs_like(tx, project.id, wanted))
    pipeline = await pipelines.add(tx, project=project.id, slug=slug, name=name, defined_by=defined_by)
    if pipeline is None:
        raise Conflict(f"a workflow {slug} was made at the same moment")
    await put_version(tx, pipeline, spec)
    await audit.add(
        tx,
        actor,
        "workflow.create",
        pipeline.uid,
        project=project.id,
        details={"name": name, "steps": len(spec.jobs)},
    )
    return await pipelines.get(tx, pipeline.id)


async def put_version(tx: Transaction, pipeline: Pipeline, spec: PipelineSpec, text: str = "") -> PipelineVersionId:
    """Store a faultless definition as the pipeline's newest version; the same content is the same version."""
    digest = hashlib.sha256(msgspec.json.encode(spec)).digest()
    version = await pipelines.find_version(tx, pipeline.id, digest)
    if version is None:
        version = await pipelines.add_version(tx, pipeline.id, digest, text, plan(spec), spec.concurrency)
    if version != pipeline.latest_version:
        await pipelines.set_latest(tx, pipeline.id, version)
    return version


async def define_pipeline(
    tx: Transaction, actor: Actor, project_uid: str, slug: str, spec: PipelineSpec, *, defined_by: str, text: str = ""
) -> tuple[Pipeline, PipelineVersionId]:
    """Make the pipeline of this slug be `spec`; a pipeline that another API or file made cannot be redefined."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.CONFIGURE, project.owner, "project")
    expanded = expand(spec)
    faults = spec_faults(expanded, field="needs")
    if faults:
        raise Invalid("the workflow is not valid", faults)
    pipeline = await pipelines.find_by_slug(tx, project.id, slug)
    if pipeline is None:
        pipeline = await pipelines.add(tx, project=project.id, slug=slug, name=slug, defined_by=defined_by)
        if pipeline is None:
            raise Conflict(f"a workflow {slug} was made at the same moment")
        await audit.add(tx, actor, "workflow.create", pipeline.uid, project=project.id, details={"name": slug})
    elif pipeline.defined_by != defined_by:
        raise Forbidden(f"the workflow {slug} was defined by {pipeline.defined_by}; change it there")
    return pipeline, await put_version(tx, pipeline, expanded, text)


async def list_pipelines(tx: Transaction, actor: Actor, project_uid: str) -> list[Pipeline]:
    """A project's pipelines, newest first."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.READ, project.owner, "project")
    return await pipelines.of_project(tx, project.id)


async def get_pipeline(tx: Transaction, actor: Actor, project_uid: str, uid: str) -> tuple[Pipeline, PipelineSpec]:
    """A project's pipeline and its newest definition."""
    project = await projects.get_by_uid(tx, project_uid)
    require(actor, Permission.READ, project.owner, "project")
    pipeline = await pipelines.get_by_uid(tx, uid)
    if pipeline.project != project.id:
        raise NotFound("workflow not found")
    assert pipeline.latest_version is not None
    return pipeline, await pipelines.spec_of(tx, pipeline.latest_version)
