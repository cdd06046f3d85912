"""Exact sources: a branch becomes one commit for all jobs of a build."""

from buildyard.domain.access import Actor, require_worker, serves
from buildyard.domain.errors import Fault, Invalid, Stale
from buildyard.domain.ids import AttemptId
from buildyard.domain.notifications import Event
from buildyard.domain.sources import is_exact
from buildyard.domain.states import Phase
from buildyard.engine.leasing import fencing_digest
from buildyard.protocol import PinRevision, RevisionPinned
from buildyard.store import attempts, builds, jobs, telling
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
