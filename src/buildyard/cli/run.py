"""`buildyard run`: submits a workflow, shows it while it runs, and ends with its result."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from buildyard.cli.connection import connected
from buildyard.cli.displays import JsonDisplay, LiveDisplay, PlainDisplay, display_for, summary
from buildyard.cli.exits import ExitCode
from buildyard.cli.following import Logs, follow_build
from buildyard.cli.output import PASSED, console, file_size, print_json
from buildyard.cli.spans import span_seconds
from buildyard.client.http import PIECE
from buildyard.client.messages import Build, Folder, Submission, Tree
from buildyard.client.native import NativeClient
from buildyard.domain.errors import Conflict, Invalid, NotFound
from buildyard.worker.archives import pack_files
from buildyard.worker.checkouts import list_checkout

NAMES = ("buildyard.yml", "buildyard.yaml", "buildyard.json")
"""A folder's workflow file: the first of these that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `run` was asked for."""

    target: Path
    project: str = ""
    pipeline: str = ""
    matrix: tuple[str, ...] = ()
    note: str = ""
    start_at: str = ""
    delay: str = ""
    logs: Logs = "failed"
    detach: bool = False
    as_json: bool = False


async def run(options: RunOptions) -> int:
    """Submit and, unless detached, follow; the exit code says how the build ended."""
    async with connected() as client:
        build = await submit(client, options)
        if options.detach:
            _tell_submitted(build, as_json=options.as_json)
            return ExitCode.OK
        return await watch(client, str(build.id), logs=options.logs, as_json=options.as_json, cancels=True)


async def submit(client: NativeClient, options: RunOptions) -> Build:
    """Upload the folder if there is one, and queue the build."""
    target = options.target
    start_at, delay_s = _start(options)
    file = workflow_file(target)
    folder = await _upload(client, target, quiet=options.as_json) if target.is_dir() else None
    project = options.project or (target.resolve().name if folder else "")
    return await client.submit(
        Submission(
            workflow=_text_of(file),
            project=project,
            pipeline=options.pipeline,
            matrix=_matrix(options.matrix),
            folder=folder,
            message=f"folder {target.resolve().name}" if folder else "",
            note=options.note,
            start_at=start_at,
            delay_s=delay_s,
        )
    )


def _start(options: RunOptions) -> tuple[str | None, int | None]:
    """When the build is to begin: a time with its zone, or seconds from now."""
    if options.start_at and options.delay:
        raise Invalid("either --at or --delay")
    delay_s = span_seconds(options.delay, "--delay") if options.delay else None
    if not options.start_at:
        return None, delay_s
    try:
        return datetime.fromisoformat(options.start_at).astimezone().isoformat(), None
    except (ValueError, OverflowError) as exc:
        raise Invalid(f"--at takes a time like 2026-12-31T23:00, not {options.start_at!r}") from exc


def workflow_file(target: Path) -> Path:
    """The workflow that a file or folder stands for."""
    if not target.is_dir():
        return target
    for name in NAMES:
        if (target / name).is_file():
            return target / name
    raise NotFound(f"there is no workflow in {target}: write {NAMES[0]}, or name a file")


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as exc:
        raise NotFound(f"cannot read {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise Invalid(f"{file} is not UTF-8 text") from exc


def _matrix(texts: tuple[str, ...]) -> dict[str, list[str]]:
    """`py=3.11,3.12` as an axis and its values."""
    axes: dict[str, list[str]] = {}
    for text in texts:
        name, found, values = text.partition("=")
        if not (name and found and values):
            raise Invalid(f"--matrix takes NAME=VALUE,VALUE, not {text!r}")
        axes[name] = values.split(",")
    return axes


async def _upload(client: NativeClient, folder: Path, *, quiet: bool) -> Folder:
    """Send what a checkout of the folder would hold, uncommitted changes included."""
    names = await list_checkout(folder)

    async def packed() -> AsyncGenerator[bytes]:
        async for data in pack_files(folder, names):
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]

    stored = await client.upload(packed)
    if not quiet:
        console(error=True).print(f"uploaded {len(names)} files, {file_size(stored.size)} packed", style="dim")
    return stored


def _tell_submitted(build: Build, *, as_json: bool) -> None:
    if as_json:
        print_json(build)
    else:
        console().print(f"build {build.id} queued; buildyard show {build.id}, buildyard logs -f {build.id}")


async def watch(client: NativeClient, build: str, *, logs: Logs, as_json: bool, cancels: bool) -> int:
    """Follow a build to its end. With `cancels` the first Ctrl-C asks the server to cancel it; the second leaves."""
    with display_for(as_json=as_json) as display:
        task = asyncio.current_task()
        assert task is not None
        interrupts = _Interrupts(client, build, display, task, cancels=cancels)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupts.interrupt)
        try:
            tree = await follow_build(client, build, display, logs)
        except asyncio.CancelledError:
            if interrupts.count == 0:
                raise
            task.uncancel()
            return ExitCode.INTERRUPTED
        finally:
            loop.remove_signal_handler(signal.SIGINT)
    return _ended(tree, display)


def _ended(tree: Tree, display: LiveDisplay | PlainDisplay | JsonDisplay) -> int:
    if isinstance(display, PlainDisplay):
        console().print(summary(tree))
    return ExitCode.OK if tree.build.result in PASSED else ExitCode.BUILD_FAILED


class _Interrupts:
    """What Ctrl-C does while a build is followed."""

    def __init__(
        self,
        client: NativeClient,
        build: str,
        display: LiveDisplay | PlainDisplay | JsonDisplay,
        task: "asyncio.Task[int]",
        *,
        cancels: bool,
    ) -> None:
        self._client, self._build, self._display, self._task = client, build, display, task
        self._cancels = cancels
        self._cancelling: asyncio.Task[None] | None = None
        self.count = 0

    def interrupt(self) -> None:
        """The signal handler."""
        self.count += 1
        if self.count == 1 and self._cancels:
            self._display.note(f"cancelling build {self._build}; Ctrl-C again leaves without waiting")
            self._cancelling = asyncio.get_running_loop().create_task(self._cancel())
        else:
            self._task.cancel()

    async def _cancel(self) -> None:
        try:
            await self._client.cancel(self._build, "interrupted with Ctrl-C")
        except Conflict as exc:
            self._display.note(str(exc))
