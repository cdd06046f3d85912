"""`buildyard builds`, `show`, `logs`, `artifacts`, `cancel`, `retry`."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from buildyard.cli.connection import connected
from buildyard.cli.displays import display_for, job_table, summary
from buildyard.cli.exits import ExitCode
from buildyard.cli.following import follow_build, log_parts
from buildyard.cli.output import (
    PASSED,
    console,
    duration,
    file_size,
    harmless,
    print_json,
    print_table,
    seconds_between,
    word_of,
)
from buildyard.client.messages import Artifact, Build, Job, Step, Tree
from buildyard.client.native import NativeClient
from buildyard.domain.errors import Invalid, NotFound


async def list_builds(project: str, limit: int, *, as_json: bool) -> None:
    """The newest builds."""
    async with connected() as client:
        found = await client.builds(project=project, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(build.id),
            f"{build.project}/{build.pipeline}",
            str(build.number),
            word_of(build.phase, build.result),
            duration(seconds_between(build.started_at, build.finished_at)),
            build.created_at.replace("T", " ")[:19],
            build.revision,
        )
        for build in found
    ]
    print_table(("id", "pipeline", "number", "state", "took", "created", "source"), rows, styled=3)


async def show_build(build: str, *, as_json: bool) -> int:
    """A build and its jobs; the exit code says how it ended, OK while it has not."""
    async with connected() as client:
        tree = await client.tree(build)
    if as_json:
        print_json(tree)
    else:
        screen = console()
        screen.print(summary(tree))
        screen.print(job_table(tree))
        kept = "its logs and files stay until the mark is taken away" if tree.build.keep else ""
        lines = (("source", tree.build.revision), ("note", tree.build.note), ("kept", kept), ("uid", tree.build.uid))
        for label, text in lines:
            if text:
                screen.print(f"{label}: {text}", markup=False)
    return _code(tree.build)


def _code(build: Build) -> int:
    return ExitCode.OK if build.phase != "finished" or build.result in PASSED else ExitCode.BUILD_FAILED


async def print_logs(build: str, job: str, step: str, *, follow: bool, as_json: bool) -> int:
    """The logs of a build, of one of its jobs, or of one step, in the order of the jobs; or all as they grow."""
    async with connected() as client:
        if follow and not job:
            with display_for(as_json=as_json) as display:
                tree = await follow_build(client, build, display, "all")
            return _code(tree.build)
        tree = await client.tree(build)
        wanted = _steps(tree, job, step)
        for owner, one in wanted:
            if as_json or len(wanted) > 1:
                _heading(owner, one, as_json=as_json)
            assert one.log is not None
            await _copy_log(client, one.log, follow=follow, as_json=as_json)
        return _code((await client.tree(build)).build) if follow else ExitCode.OK


def _steps(tree: Tree, job: str, step: str) -> list[tuple[Job, Step]]:
    """The steps asked for, of each job's last attempt; those without output are left out unless asked for."""
    jobs = [one for one in tree.jobs if job in ("", one.name, one.uid)]
    if not jobs:
        raise NotFound(f"build {tree.build.id} has no job {job!r}; it has {', '.join(one.name for one in tree.jobs)}")
    steps = [(one, found) for one in jobs if one.attempts for found in one.attempts[-1].steps if found.log is not None]
    if step:
        steps = [(one, found) for one, found in steps if step in (found.name, str(found.number), found.uid)]
        if not steps:
            raise NotFound(f"no step {step!r} has begun there")
    return steps if step else [(one, found) for one, found in steps if found.log_bytes or found.phase == "running"]


def _heading(job: Job, step: Step, *, as_json: bool) -> None:
    if not as_json:
        console().print(f"── {job.name} / {step.name} ", style="bold", markup=False)


async def _copy_log(client: NativeClient, log: int, *, follow: bool, as_json: bool) -> None:
    """A log to standard output: its exact bytes, or made harmless for a terminal, or as a JSON text."""
    if as_json:
        data = b"".join([part async for part in log_parts(client, log, follow=follow, display=None)])
        print_json({"log": log, "text": data.decode("utf-8", "replace")})
        return
    rest = b""
    on_terminal = sys.stdout.isatty()
    sys.stdout.flush()
    async for part in log_parts(client, log, follow=follow, display=None):
        if not on_terminal:
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
            continue
        *lines, rest = (rest + part).split(b"\n")
        sys.stdout.write("".join(harmless(line) + "\n" for line in lines))
    if rest and on_terminal:
        sys.stdout.write(harmless(rest) + "\n")
    sys.stdout.flush()


async def artifacts(build: str, path: str, output: Path | None, *, as_json: bool) -> None:
    """List what a build kept, or fetch one of the files into `output` (a folder or file; `-`: standard output)."""
    async with connected() as client:
        found = (await client.artifacts(build)).artifacts
        if output is not None:
            await _fetch(client, found, path, output)
            return
    if path:
        found = [artifact for artifact in found if artifact.path == path]
    if as_json:
        print_json(found)
        return
    rows = [
        (a.job, a.path, file_size(a.size), f"deleted {a.removed_at}" if a.removed_at else a.sha256[:16]) for a in found
    ]
    print_table(("job", "path", "size", "sha256"), rows)


async def _fetch(client: NativeClient, found: list[Artifact], path: str, output: Path) -> None:
    wanted = [artifact for artifact in found if artifact.path == path and not artifact.link]
    if not wanted:
        raise NotFound(
            f"the build kept no file {path!r}" if path else "say which file: buildyard artifacts BUILD PATH -o …"
        )
    artifact = wanted[-1]
    if str(output) == "-":
        async for data in client.artifact(artifact.uid):
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = _target(output, path)
    await _download(client, artifact, target)
    console(error=True).print(f"{target}: {file_size(artifact.size)}", markup=False)


def _target(output: Path, path: str) -> Path:
    return output / Path(path).name if output.is_dir() else output


def _writer(path: Path, mode: int) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb")


async def _download(client: NativeClient, artifact: Artifact, target: Path) -> None:
    """Write a file beside its place first, so that a broken transfer leaves nothing half done there."""
    part = target.with_name(target.name + ".part")
    try:
        with _writer(part, artifact.mode & 0o777 or 0o644) as file:
            async for data in client.artifact(artifact.uid):
                file.write(data)
        os.replace(part, target)
    except OSError as exc:
        raise Invalid(f"cannot write {target}: {exc.strerror}") from exc
    finally:
        part.unlink(missing_ok=True)


async def cancel_build(build: str, reason: str, *, as_json: bool) -> None:
    """Ask for a stop."""
    async with connected() as client:
        cancelled = await client.cancel(build, reason)
    if as_json:
        print_json(cancelled)
    else:
        console().print(f"build {cancelled.id}: {word_of(cancelled.phase, cancelled.result)}, cancel asked for")


async def retry_build(build: str, reason: str, *, follow: bool, as_json: bool) -> int:
    """Build the same version of the same source again, as a new build."""
    from buildyard.cli.run import watch

    async with connected() as client:
        again = await client.retry(build, reason)
        if follow:
            return await watch(client, str(again.id), logs="failed", as_json=as_json, cancels=True)
    if as_json:
        print_json(again)
    else:
        console().print(f"build {again.id} queued")
    return ExitCode.OK
