"""Exact sources: a branch becomes one commit for all jobs of a build."""

from buildyard.domain.access import Actor, require_worker, serves
from buildyard.domain.builds import Build
from buildyard.domain.errors import Fault, Invalid, Stale
from buildyard.domain.ids import AttemptId, BuildId, JobId
from buildyard.domain.notifications import Event
from buildyard.domain.sources import input_name, is_exact
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Phase
from buildyard.engine.leasing import fencing_digest
from buildyard.protocol import PinRevision, RevisionPinned
from buildyard.store import attempts, builds, jobs, pipelines, telling
from buildyard.store.transactions import Transaction


async def pin_revision(tx: Transaction, actor: Actor, found: PinRevision) -> RevisionPinned:
    """Keep the commit that the first job of a build found; later ones get that one, as do rebuilds.

    Raises Stale for a token that does not hold the attempt.
    """
    require_worker(actor)
    if not is_exact(found.commit):
        raise Invalid("not a whole commit id", (Fault("commit", "must be 40 or 64 hexadecimal digits", "pattern"),))
    attempt = await attempts.get(tx, AttemptId(found.attempt))
    if attempt.token_hash != fencing_digest(found.token) or attempt.state.phase is Phase.FINISHED:
        raise Stale("the attempt is no longer this worker's")
    build = await builds.get(tx, (await jobs.get(tx, attempt.job)).build)
    if not serves(actor, build.project):
        raise Stale("the attempt is no longer this worker's")
    if found.source:
        return RevisionPinned(commit=await _pin_named(tx, attempt.job, build.id, found))
    if build.revision is None:
        return RevisionPinned(commit=found.commit)
    revision = await builds.revision(tx, build.revision)
    if is_exact(revision.commit):
        return RevisionPinned(commit=revision.commit)
    await builds.pin_revision(
        tx,
        revision,
        commit=found.commit,
        branch=revision.branch or found.branch,
        message=revision.message or found.subject,
        author=revision.author or found.author,
    )
    if build.state.phase in (Phase.LEASED, Phase.RUNNING):
        telling.note(tx, build, Event.STARTED)
    return RevisionPinned(commit=(await builds.revision(tx, revision.id)).commit)


async def _pin_named(tx: Transaction, job: JobId, key: BuildId, found: PinRevision) -> str:
    """The commit of one of several sources: the first that was told, for all attempts and for rebuilds.

    The build is locked: two jobs may tell of the same source at once.
    """
    build = await builds.get(tx, key, lock=True)
    spec = await pipelines.job_spec(tx, (await jobs.get(tx, job)).spec)
    named = [source for source in spec.sources if source.folder == found.source]
    if not named:
        raise Invalid(f"the job has no source {found.source}", (Fault("source", "is unknown", "unknown_source"),))
    git = named[0].git
    name = input_name(named[0])
    known = await builds.find_input(tx, build.evaluation, name)
    if known is not None:
        return known.commit
    made = await builds.add_revision(
        tx,
        build.project,
        repository=git.url,
        branch=git.branch or found.branch,
        commit=found.commit,
        message=found.subject,
        author=found.author,
        shallow=git.shallow,
        submodules=git.submodules,
    )
    await builds.add_input(tx, build.evaluation, name, made)
    await _pin_shown(tx, build, git, found)
    return found.commit


async def _pin_shown(tx: Transaction, build: Build, git: GitSource, found: PinRevision) -> None:
    """The build's own revision stands for one of its sources, if that is the same place."""
    if build.revision is None:
        return
    shown = await builds.revision(tx, build.revision)
    if shown.repository == git.url and shown.branch == git.branch and not is_exact(shown.commit):
        await builds.pin_revision(
            tx,
            shown,
            commit=found.commit,
            branch=shown.branch or found.branch,
            message=shown.message or found.subject,
            author=shown.author or found.author,
        )
