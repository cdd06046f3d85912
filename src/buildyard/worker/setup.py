"""Prepares a workspace before the steps: source, inputs, caches, each with its size and time in the log of `setup`."""

import errno
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from buildyard.domain.errors import EngineError, LimitReached, Unavailable
from buildyard.domain.states import Cause, Result
from buildyard.ports import Executor, Workspace
from buildyard.protocol import InputFile
from buildyard.worker.bench import Bench, for_each
from buildyard.worker.caches import Wanted, restore_caches
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.placing import place_file, place_link
from buildyard.worker.sources import lay_sources
from buildyard.worker.step_log import StepLog, size_words

_WITHOUT_IMAGES = frozenset({"process", "sandbox", "dummy"})
_LINK_BYTES = 4096


async def lay_in(
    bench: Bench, held: HeldAttempt, workspace: Workspace, log: StepLog, caches: list[Wanted]
) -> Ending | None:
    """Fill the workspace and add what caches it wants to `caches`; the ending if that did not go well."""

    async def restore() -> None:
        caches.extend(await restore_caches(bench, held, workspace.folder, log))

    return (
        await _tried(lambda: lay_sources(bench, held, workspace.folder, log), Cause.SOURCE)
        or await _tried(lambda: _lay_inputs(bench, held, workspace.folder, log), Cause.INPUTS)
        or await _tried(restore, Cause.STORAGE)
    )


def introduce(bench: Bench, held: HeldAttempt, executor: Executor, log: StepLog) -> None:
    """The first lines of an attempt's log."""
    log.say(f"worker {bench.config.name}, executor {executor.name}, attempt {held.grant.number}")
    if held.grant.spec.image and executor.name in _WITHOUT_IMAGES:
        log.say(f"image {held.grant.spec.image} is noted; executor {executor.name} uses this machine's own tools")
    for note in held.grant.notes:
        log.say(note)


def failed(exc: EngineError | OSError, cause: Cause) -> Ending:
    """The ending after an error that was met for `cause`; a full disk is always a matter of storage."""
    if isinstance(exc, LimitReached) or (isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)):
        return Ending(result=Result.ERROR, cause=Cause.STORAGE, detail=f"no room on the worker's disk: {exc}")
    return Ending(result=Result.ERROR, cause=cause, detail=str(exc))


async def _tried(work: Callable[[], Awaitable[None]], cause: Cause) -> Ending | None:
    try:
        await work()
    except (EngineError, OSError) as exc:
        return failed(exc, cause)
    return None


async def _lay_inputs(bench: Bench, held: HeldAttempt, folder: Path, log: StepLog) -> None:
    inputs = held.grant.inputs
    if not inputs:
        return
    begun = time.monotonic()
    await for_each(inputs, lambda file: bench.patiently(lambda: _lay_input(bench, folder, file)))
    size = size_words(sum(file.size for file in inputs))
    log.say(f"inputs: {len(inputs)} files, {size}, in {time.monotonic() - begun:.1f} s")


async def _lay_input(bench: Bench, folder: Path, file: InputFile) -> None:
    async with aclosing(bench.client.read_blob(file.sha256)) as pieces:
        if file.link:
            target = b"".join([piece async for piece in _checked(pieces, file)])
            place_link(folder, file.path, target[:_LINK_BYTES].decode(errors="surrogateescape"))
        else:
            await place_file(folder, file.path, file.mode, _checked(pieces, file))


async def _checked(pieces: AsyncIterator[bytes], file: InputFile) -> AsyncIterator[bytes]:
    """Pass bytes on; Unavailable at the end if they are not the file's."""
    digest = hashlib.sha256()
    async for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != file.sha256:
        raise Unavailable(f"{file.path} arrived damaged")
