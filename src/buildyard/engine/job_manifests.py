"""What builds are made of, as manifests: the text submitted, or for other builds one that tells the same."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import yaml

from buildyard.domain.access import Actor
from buildyard.domain.errors import Invalid
from buildyard.domain.ids import BuildId, PipelineVersionId
from buildyard.domain.sources import shown_url
from buildyard.domain.specs import JobSpec
from buildyard.engine.job_details import load_jobs
from buildyard.engine.manifests import read_manifest
from buildyard.store import pipelines
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction

GENERATED = "# generated\n"
"""The first line of a manifest that nobody wrote."""


async def load_manifests(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, str]:
    """The manifests of these builds."""
    views = await load_jobs(tx, actor, keys)
    written = [view for view in views.values() if view.build.manifest]
    texts = await pipelines.texts_of(tx, sorted({view.build.pipeline_version for view in written}))
    found = {view.build.id: texts[view.build.pipeline_version] for view in written}
    others = [view for view in views.values() if not view.build.manifest]
    specs = await _specs(tx, [view.build.pipeline_version for view in others])
    return found | {view.build.id: generate(view, specs[view.build.pipeline_version]) for view in others}


async def load_images(tx: Transaction, actor: Actor, keys: Sequence[BuildId]) -> Mapping[BuildId, str]:
    """The images that these builds ask for, as their manifests name them; empty where none is named."""
    views = await load_jobs(tx, actor, keys)
    written = {view.build.id: view.build.pipeline_version for view in views.values() if view.build.manifest}
    texts = await pipelines.texts_of(tx, sorted(set(written.values())))
    specs = await _specs(tx, [view.build.pipeline_version for view in views.values()])
    return {
        key: (image_of(texts[written[key]]) if key in written else "") or specs[view.build.pipeline_version][0].image
        for key, view in views.items()
    }


async def _specs(
    tx: Transaction, versions: Sequence[PipelineVersionId]
) -> Mapping[PipelineVersionId, Sequence[JobSpec]]:
    return await pipelines.specs_of_many(tx, sorted(set(versions)))


@lru_cache(maxsize=1024)
def image_of(text: str) -> str:
    """The image that a manifest names; reading one takes a millisecond, and lists ask for the same again and again."""
    try:
        return read_manifest(text).image
    except Invalid:
        return ""


def generate(view: BuildView, specs: Sequence[JobSpec]) -> str:
    """A manifest that tells what a build of another origin does: its image, its source and its commands."""
    (first, *more) = specs
    told: dict[str, object] = {"image": first.image or "none"}
    if view.revision is not None and view.revision.repository:
        commit = view.revision.commit or view.revision.branch
        told["sources"] = [shown_url(view.revision.repository) + (f"#{commit}" if commit else "")]
    if more:
        tasks = [{spec.name: "\n".join(step.run for step in spec.steps)} for spec in specs]
    else:
        tasks = [{step.name: step.run} for step in first.steps]
    told["tasks"] = tasks
    return GENERATED + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=10_000)
