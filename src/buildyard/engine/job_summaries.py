"""All that a page about one job shows, read in one go."""

from collections.abc import Sequence
from dataclasses import dataclass

from buildyard.domain.access import Actor
from buildyard.domain.errors import NotFound
from buildyard.domain.ids import BuildId
from buildyard.engine.account_builds import TaggedBuild, tagged
from buildyard.engine.job_details import load_artifacts, load_jobs, load_owners
from buildyard.engine.job_sheets import TaskSheet, sheets_of
from buildyard.store.kept import Artifact
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """A build with its tags, the name of the account whose it is, its tasks and what it kept."""

    build: TaggedBuild
    owner: str
    tasks: Sequence[TaskSheet]
    artifacts: Sequence[Artifact]


async def summarize_job(tx: Transaction, actor: Actor, key: BuildId) -> JobSummary:
    """The build with this id and what belongs to it."""
    view = (await load_jobs(tx, actor, [key])).get(key)
    if view is None:
        raise NotFound("job not found")
    (build,) = await tagged(tx, [view])
    return JobSummary(
        build=build,
        owner=(await load_owners(tx, actor, [key]))[key].name,
        tasks=(await sheets_of(tx, [view]))[0].tasks,
        artifacts=(await load_artifacts(tx, actor, [key])).get(key, ()),
    )
