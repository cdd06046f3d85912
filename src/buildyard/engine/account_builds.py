"""The newest builds of an account's projects, as far as the actor finds them in lists, all or those with some tags."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildyard.domain.access import Actor, Permission
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId, PipelineId
from buildyard.domain.states import Result
from buildyard.engine.build_access import listed_builds
from buildyard.engine.build_lists import newest_of_projects
from buildyard.store import build_tags, builds, identity, pipelines, projects
from buildyard.store.builds import BuildView
from buildyard.store.identity import Account
from buildyard.store.projects import Project
from buildyard.store.transactions import Transaction

SILENT = frozenset({Result.CANCELLED, Result.SKIPPED})
"""Results that say nothing about what was built."""
PAGE = 200
DEEPEST = 2000
"""How many builds of a pipeline are looked at for one with the tags."""


@dataclass(frozen=True, slots=True)
class TaggedBuild:
    """A build and its tags; one that was not submitted with tags has its project and its pipeline."""

    view: BuildView
    tags: tuple[str, ...]

    @property
    def speaks(self) -> bool:
        """Whether it has ended and shows how what was built is doing."""
        result = self.view.build.state.result
        return result is not None and result not in SILENT


async def find_account_builds(
    tx: Transaction, actor: Actor, name: str, tags: Sequence[str] = (), *, limit: int
) -> list[TaggedBuild]:
    """The newest builds of an account whose tags begin with these; none of an account that there is not."""
    account = await identity.find_account(tx, name)
    return await _newest(tx, actor, account, tuple(tags), limit) if account is not None else []


async def list_account_builds(
    tx: Transaction, actor: Actor, name: str, tags: Sequence[str] = (), *, limit: int
) -> list[TaggedBuild]:
    """The same; an account of which the actor sees nothing, and to which they do not belong, is not found."""
    account = await identity.find_account(tx, name)
    found = await _newest(tx, actor, account, tuple(tags), limit) if account is not None else []
    if account is None or not (found or _belongs(actor, account)):
        raise NotFound(f"nothing of ~{name} is shown here")
    return found


def _belongs(actor: Actor, account: Account) -> bool:
    return Permission.READ in actor.allowed and (actor.administrator or account.id in actor.account_roles)


async def _newest(
    tx: Transaction, actor: Actor, account: Account, tags: tuple[str, ...], limit: int
) -> list[TaggedBuild]:
    of = await projects.search(tx, account.id)
    if not tags:
        return await tagged(tx, await newest_of_projects(tx, actor, of, limit))
    found = [
        build for pipeline in await _candidates(tx, of, tags) for build in await _of(tx, actor, pipeline, tags, limit)
    ]
    return sorted(found, key=lambda one: -one.view.build.id)[:limit]


async def _candidates(tx: Transaction, of: Iterable[Project], tags: tuple[str, ...]) -> list[PipelineId]:
    """The pipelines whose builds may have these tags: that of the first tag, or that of a project and the next tag."""
    found: list[PipelineId] = []
    for project in of:
        known = await pipelines.of_project(tx, project.id)
        found += [one.id for one in known if one.name == tags[0]]
        if project.slug == tags[0]:
            found += [one.id for one in known if one.name != tags[0] and tags[1:2] in ((), (one.slug,))]
    return found


async def _of(
    tx: Transaction, actor: Actor, pipeline: PipelineId, tags: tuple[str, ...], limit: int
) -> list[TaggedBuild]:
    """The newest builds of a pipeline with these tags."""
    found: list[TaggedBuild] = []
    before = builds.ABOVE_ALL
    for _ in range(0, DEEPEST, PAGE):
        page = await builds.page_of_pipeline(tx, pipeline, before, PAGE)
        listed = await listed_builds(tx, actor, [view.build.id for view in page])
        shown = await tagged(tx, [view for view in page if view.build.id in listed])
        found += [one for one in shown if one.tags[: len(tags)] == tags]
        if len(page) < PAGE or len(found) >= limit:
            break
        before = BuildId(page[-1].build.id)
    return found[:limit]


async def tagged(tx: Transaction, views: Sequence[BuildView]) -> list[TaggedBuild]:
    """Builds with their tags."""
    own = await build_tags.of_builds(tx, [view.build.id for view in views if view.build.manifest])
    return [
        TaggedBuild(
            view, own.get(view.build.id, ()) if view.build.manifest else (view.project_slug, view.pipeline_slug)
        )
        for view in views
    ]
