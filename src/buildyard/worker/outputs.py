"""Keeps what a job made: finds its outputs and stores each by its content, before the job's result is told."""

import hashlib
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from buildyard.domain.errors import EngineError, TooLarge, Unavailable
from buildyard.domain.states import Cause, Result
from buildyard.protocol import OutputFile
from buildyard.worker.bench import Bench, for_each
from buildyard.worker.collecting import Collected, FoundFile, collect, read_file, shown
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.step_log import StepLog, size_words

_SMALL = 64 * 1024
"""Below this size a file is sent without asking first whether the server has it."""


async def keep_outputs(bench: Bench, held: HeldAttempt, folder: Path, log: StepLog) -> Ending | tuple[OutputFile, ...]:
    """Store all files that the job's `outputs` name; or say how the job ends because that did not go well."""
    begun = time.monotonic()
    try:
        found = await collect(folder, held.grant.spec.outputs)
        if ending := _judge(found, held, log):
            return ending
        most = held.grant.spec.limits.output_files
        if most is not None and len(found.files) > most:
            log.say(f"outputs: {len(found.files)} files, more than {most}: none is kept")
            return ()
        kept = await _store_all(bench, folder, found.files)
    except TooLarge as exc:
        return Ending(result=Result.OUTPUT_LIMIT, detail=str(exc))
    except (EngineError, OSError) as exc:
        return Ending(result=Result.ERROR, cause=Cause.STORAGE, detail=f"outputs could not be stored: {exc}")
    size = size_words(sum(file.size for file in kept))
    log.say(f"outputs: {len(kept)} files, {size}, stored in {time.monotonic() - begun:.1f} s")
    return kept


def _judge(found: Collected, held: HeldAttempt, log: StepLog) -> Ending | None:
    """What speaks against keeping what was found."""
    for skipped in found.skipped:
        log.say(f"outputs: not kept: {skipped}")
    if betraying := [file.path for file in found.files if held.masked(file.path) != file.path]:
        detail = f"the name of an output holds a secret: {betraying[0]}"
        return Ending(result=Result.FAILURE, cause=Cause.OUTPUTS, detail=detail)
    if given := {secret.path for secret in held.grant.secrets if held.grant.spec.at_home} & {
        file.path for file in found.files
    }:
        detail = f"an output is the file of a secret: {min(given)}"
        return Ending(result=Result.FAILURE, cause=Cause.OUTPUTS, detail=detail)
    if found.missing:
        named = ", ".join(found.missing)
        return Ending(result=Result.FAILURE, cause=Cause.OUTPUTS, detail=f"the job did not make its outputs: {named}")
    limits = held.grant.spec.limits
    largest = max(found.files, key=lambda file: file.size, default=None)
    if largest and limits.output_file_bytes is not None and largest.size > limits.output_file_bytes:
        most = size_words(limits.output_file_bytes)
        detail = f"the output {shown(largest.path)} of {size_words(largest.size)} is over the limit of {most}"
        return Ending(result=Result.OUTPUT_LIMIT, detail=detail)
    size, limit = sum(file.size for file in found.files), limits.output_bytes
    if size > limit:
        detail = f"outputs of {size_words(size)} are over the limit of {size_words(limit)}"
        return Ending(result=Result.OUTPUT_LIMIT, detail=detail)
    return None


async def _store_all(bench: Bench, folder: Path, files: tuple[FoundFile, ...]) -> tuple[OutputFile, ...]:
    kept: dict[str, OutputFile] = {}

    async def store(file: FoundFile) -> None:
        kept[file.path] = await _store(bench, folder, file)

    await for_each(files, store)
    return tuple(kept[file.path] for file in files)


async def _store(bench: Bench, folder: Path, file: FoundFile) -> OutputFile:
    if file.size <= _SMALL:
        data = b"".join([piece async for piece in read_file(folder, file.stored_at)])
        stored = await bench.patiently(lambda: bench.client.put_blob(data))
        return OutputFile(
            path=file.path, sha256=stored.sha256, size=stored.size, mode=file.mode, receipt=stored.receipt
        )
    sha256, size = await _digest(folder, file)
    receipt = ""
    if not await bench.patiently(lambda: bench.client.has_blob(sha256)):
        stored = await bench.patiently(lambda: bench.client.put_blob(lambda: _read(folder, file), size=size))
        if stored.sha256 != sha256:
            raise Unavailable(f"{file.path} arrived damaged")
        receipt = stored.receipt
    return OutputFile(path=file.path, sha256=sha256, size=size, mode=file.mode, receipt=receipt)


async def _digest(folder: Path, file: FoundFile) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    async for piece in read_file(folder, file.stored_at):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


async def _read(folder: Path, file: FoundFile) -> AsyncGenerator[bytes]:
    async for piece in read_file(folder, file.stored_at):
        yield piece
