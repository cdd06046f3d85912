"""Where jobs made of manifests go: into a project, to the pipeline of their first tag."""

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from buildyard.domain.access import Actor, Role, Visibility
from buildyard.domain.errors import Forbidden, NotFound
from buildyard.domain.ids import EvaluationId, PipelineVersionId, RevisionId
from buildyard.domain.manifests import Manifest, git_source
from buildyard.domain.specs import PipelineSpec
from buildyard.domain.workflow import free_slug, plan, slug_of
from buildyard.store import audit, builds, identity, pipelines, projects, secrets
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project
from buildyard.store.transactions import Moved, Transaction

DEFINED_BY = "manifest"
"""Who defined the pipelines made here; other APIs leave them alone."""

UNTAGGED = "jobs"
"""The pipeline of jobs without tags."""


async def project_for(tx: Transaction, actor: Actor, slug: str) -> Project:
    """The project named, or the actor's own, which the first job makes."""
    if slug:
        found = await projects.find_by_slug(tx, slug)
        if found is None:
            raise NotFound(f"project {slug} not found")
        return found
    account = await identity.find_account(tx, actor.name) if actor.user is not None else None
    if account is None or account.user != actor.user:
        raise Forbidden(f"{actor.name} is no user, and so has no project of their own")
    own = await projects.find_by_slug(tx, actor.name)
    if own is None or own.account != account.id:
        named = [one for one in await projects.search(tx, account.id) if one.name == actor.name]
        own = named[-1] if named else None
    if own is not None:
        return own
    if actor.only_project is not None or actor.account_roles.get(account.id, 0) < Role.DEVELOPER:
        raise Forbidden(f"{actor.name} may not make a project with this token")
    taken = [one for one in await projects.slugs_like(tx, actor.name) if await projects.find_by_slug(tx, one)]
    made = await projects.add(
        tx, slug=free_slug(actor.name, taken), name=actor.name, account=account.id, visibility=Visibility.PRIVATE
    )
    if made is None:
        raise Moved("the project was made at the same moment")
    await audit.add(
        tx, actor, "project.create", made.uid, project=made.id, details={"name": made.name, "slug": made.slug}
    )
    return made


async def pipeline_for(tx: Transaction, project: Project, tags: Sequence[str]) -> Pipeline:
    """The project's pipeline of jobs with this first tag. One that was not made here keeps its slug to itself."""
    name = tags[0] if tags else UNTAGGED
    for slug in _slugs(slug_of(name)):
        found = await pipelines.find_by_slug(tx, project.id, slug)
        if found is None:
            found = await pipelines.add(tx, project=project.id, slug=slug, name=name, defined_by=DEFINED_BY)
            if found is None:
                raise Moved("the pipeline was made at the same moment")
        if found.defined_by == DEFINED_BY and found.name == name:
            return found
    raise AssertionError("slugs do not end")


def _slugs(slug: str) -> Iterator[str]:
    yield slug
    number = 2
    while True:
        yield f"{slug}-{number}"
        number += 1


async def version_of(tx: Transaction, pipeline: Pipeline, text: str, spec: PipelineSpec) -> PipelineVersionId:
    """The version of this text, planned so."""
    digest = hashlib.sha256(b"%d " % len(text.encode()) + text.encode() + msgspec.json.encode(spec)).digest()
    version = await pipelines.find_version(tx, pipeline.id, digest)
    if version is None:
        version = await pipelines.add_version(tx, pipeline.id, digest, text, plan(spec), None)
    if version != pipeline.latest_version:
        await pipelines.set_latest(tx, pipeline.id, version)
    return version


async def shown_source(
    tx: Transaction, project: Project, evaluation: EvaluationId, manifest: Manifest
) -> RevisionId | None:
    """Note the first source, which the build shows; a worker says which commit each turned out to be."""
    if not manifest.sources:
        return None
    git = git_source(manifest.sources[0])
    revision = await builds.add_revision(
        tx,
        project.id,
        repository=git.url,
        branch=git.branch,
        commit=git.commit,
        shallow=git.shallow,
        submodules=git.submodules,
    )
    await builds.add_input(tx, evaluation, "", revision)
    return revision


async def secrets_for(tx: Transaction, project: Project, pipeline: Pipeline, manifest: Manifest) -> tuple[int, ...]:
    """The ids of the secrets that a manifest names, as far as there are such."""
    found = [
        await secrets.find_nearest(tx, name, account=project.account, project=project.id, pipeline=pipeline.id)
        for name in manifest.secrets
    ]
    return tuple(one[0].id for one in found if one is not None)
