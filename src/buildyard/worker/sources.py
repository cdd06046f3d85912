"""Lays a job's sources into its workspace: an uploaded folder, a git repository, or several, each in a folder."""

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path

from buildyard.domain.errors import EngineError
from buildyard.domain.secrets import SecretKind
from buildyard.domain.sources import is_exact, masked
from buildyard.domain.specs import FolderSource, GitSource, NamedSource
from buildyard.ports import FetchedRevision
from buildyard.protocol import PinRevision
from buildyard.worker.bench import Bench
from buildyard.worker.held import HeldAttempt
from buildyard.worker.placing import hide_scripts
from buildyard.worker.step_log import StepLog, size_words


async def lay_sources(bench: Bench, held: HeldAttempt, folder: Path, log: StepLog) -> None:
    """Fill the workspace with what the job is about, with each source's commit and time in the log."""
    git, uploaded = held.grant.git, held.grant.folder
    for named in held.grant.spec.sources:
        await _lay_named(bench, held, named, folder, log)
    if git is not None:
        await _lay_git(bench, held, NamedSource(folder="", git=git), folder, log)
    elif uploaded is not None:
        await _lay_uploaded(bench, uploaded, folder, log)


async def _lay_uploaded(bench: Bench, uploaded: FolderSource, folder: Path, log: StepLog) -> None:
    begun = time.monotonic()
    await bench.patiently(lambda: bench.fetcher.fetch(uploaded, folder, log.say))
    hide_scripts(folder)
    log.say(f"source: uploaded folder, {size_words(uploaded.size)}, in {time.monotonic() - begun:.1f} s")


async def _lay_named(bench: Bench, held: HeldAttempt, source: NamedSource, workspace: Path, log: StepLog) -> None:
    """One of several sources; what goes wrong with it names it."""
    try:
        await _lay_git(bench, held, source, workspace / source.folder, log)
    except EngineError as exc:
        raise type(exc)(f"source {source.folder}: {exc}") from exc


async def _lay_git(bench: Bench, held: HeldAttempt, source: NamedSource, folder: Path, log: StepLog) -> None:
    begun = time.monotonic()
    title = f"source {source.folder}" if source.folder else "source"
    log.say(f"{title}: {masked(source.git.url)}")
    revision = await _fetch_pinned(bench, held, source, folder, log)
    hide_scripts(folder)
    log.say(f"{title}: {_revision_words(revision)}, in {time.monotonic() - begun:.1f} s")


async def _fetch_pinned(
    bench: Bench, held: HeldAttempt, source: NamedSource, folder: Path, log: StepLog
) -> FetchedRevision:
    """Check out what all jobs of the build check out: the commit at which the first of them found the branch."""
    git = source.git
    revision = await _fetch(bench, held, git, folder, log)
    if is_exact(git.commit):
        return revision
    found = PinRevision(
        attempt=held.grant.attempt,
        token=held.reel.token,
        source=source.folder,
        commit=revision.commit,
        branch=revision.branch,
        author=held.masked(revision.author),
        subject=held.masked(revision.subject),
    )
    pinned = await bench.patiently(lambda: bench.client.pin_revision(found))
    if pinned.commit == revision.commit:
        return revision
    log.say(f"source: the branch has moved; this build is of commit {pinned.commit}")
    await asyncio.to_thread(_empty, folder)
    return await _fetch(bench, held, replace(git, commit=pinned.commit), folder, log)


async def _fetch(bench: Bench, held: HeldAttempt, git: GitSource, folder: Path, log: StepLog) -> FetchedRevision:
    keys = [secret.value for secret in held.grant.secrets if secret.kind == SecretKind.SSH_KEY]
    return await bench.fetcher.fetch(git, folder, log.say, ssh_keys=keys)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _revision_words(revision: FetchedRevision) -> str:
    where = f" on {revision.branch}" if revision.branch else ""
    what = f' "{revision.subject}" by {revision.author}' if revision.subject else ""
    return f"commit {revision.commit}{where}{what}"
