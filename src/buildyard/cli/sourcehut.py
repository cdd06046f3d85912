"""`buildyard sourcehut`: jobs from manifests, on this server or any other with the builds.sr.ht API."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from buildyard.cli.exits import ExitCode, carry_out

if TYPE_CHECKING:
    from buildyard.client.sourcehut import Job, SourcehutClient
    from buildyard.settings import Settings

app = typer.Typer(help="Jobs from manifests, as builds.sr.ht has them.", no_args_is_help=True)

MOST_TASKS_SHOWN = 1000
QUICK_S, SLOW_S = 0.2, 2.0
"""How soon a followed job is looked at again; slower while nothing happens."""

Seen = Literal["public", "private"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """What `submit` was asked for."""

    files: tuple[Path, ...]
    note: str = ""
    tags: tuple[str, ...] = ()
    execute: bool = True
    seen: Seen = "public"
    secrets: bool | None = None
    follow: bool = False
    server: str = ""
    token_file: Path | None = None
    as_json: bool = False


@app.command()
def submit(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Manifests; - reads standard input.")],
    note: Annotated[str, typer.Option(help="A remark kept with the jobs (Markdown).")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="A tag; may be repeated, or be a/b.")] = None,
    execute: Annotated[
        bool, typer.Option("--execute/--no-execute", help="Begin at once, or leave the jobs to be started.")
    ] = True,
    visibility: Annotated[Seen, typer.Option(help="Who may see the jobs: everyone, or you.")] = "public",
    secrets: Annotated[
        bool | None, typer.Option("--secrets/--no-secrets", help="Give the jobs their secrets, or withhold them.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print the logs; end with the jobs' result.")] = False,
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="The server; default: that of the settings.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="Holds the token; else BUILDYARD_TOKEN.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the jobs as JSON at the end; no logs.")] = False,
) -> None:
    """Submit build manifests, one job each, to this server or any other with the builds.sr.ht API."""
    options = SubmitOptions(
        files=tuple(files),
        note=note,
        tags=tuple(part for one in tag or () for part in one.split("/") if part),
        execute=execute,
        seen=visibility,
        secrets=secrets,
        follow=follow,
        server=server,
        token_file=token_file,
        as_json=as_json,
    )
    raise typer.Exit(carry_out(lambda: _submit(options), as_json=as_json))


async def _submit(options: SubmitOptions) -> int:
    from buildyard.cli.output import print_json

    texts = [_text_of(file) for file in options.files]
    async with _connected(options) as client:
        jobs = [await _submit_one(client, options, file, text) for file, text in zip(options.files, texts, strict=True)]
        if options.follow and options.execute:
            jobs = [await _follow(client, job, quiet=options.as_json) for job in jobs]
        elif options.as_json:
            jobs = [await client.job(job.id) for job in jobs]
    if options.as_json:
        print_json(jobs)
    failed = options.follow and any(job.is_over and job.status != "success" for job in jobs)
    return ExitCode.BUILD_FAILED if failed else ExitCode.OK


async def _submit_one(client: "SourcehutClient", options: SubmitOptions, file: Path, text: str) -> "Job":
    from buildyard.client.sourcehut import NewJob
    from buildyard.domain.errors import Invalid

    new = NewJob(
        manifest=text,
        note=options.note,
        tags=options.tags,
        read=[] if options.seen == "private" else None,
        secrets=options.secrets,
        execute=options.execute,
    )
    try:
        job = await client.submit(new)
    except Invalid as exc:
        raise Invalid(f"{file}: {exc}", exc.faults) from exc
    if not options.as_json:
        state = "queued" if options.execute else "waits for its start"
        _say(f"job {job.id} {state}: {client.page_of(job)}")
    return job


def _text_of(file: Path) -> str:
    from buildyard.domain.errors import Invalid, NotFound

    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as exc:
        raise NotFound(f"cannot read {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise Invalid(f"{file} is not UTF-8 text") from exc


# --- following ----------------------------------------------------------------------------------


async def _follow(client: "SourcehutClient", job: "Job", *, quiet: bool) -> "Job":
    """Print a job's logs as they grow, one after the other, until it has ended."""
    positions: dict[str, int] = {}
    pause = QUICK_S
    while True:
        job = await _patiently(client, job.id)
        fresh = 0 if quiet else await _print_news(client, job, positions)
        if job.is_over:
            break
        pause = QUICK_S if fresh else min(SLOW_S, pause * 1.5)
        await asyncio.sleep(pause)
    if not quiet:
        _say(f"job {job.id}: {job.status}")
    return job


async def _print_news(client: "SourcehutClient", job: "Job", positions: dict[str, int]) -> int:
    """Print what the logs have got since; how many bytes. A task's log comes once the task before has ended."""
    printed = 0
    logs = [("setup", job.setup_log)]
    logs += [(task.name, task.log) for task in job.tasks if task.status not in ("pending", "skipped")]
    for name, url in logs[:MOST_TASKS_SHOWN]:
        while url and (data := await client.log_part(url, positions.get(name, 0))):
            if name not in positions:
                _say(f"--- {name}")
            positions[name] = positions.get(name, 0) + len(data)
            printed += len(data)
            _print(data)
    return printed


async def _patiently(client: "SourcehutClient", key: int) -> "Job":
    from buildyard.cli.following import patiently

    return await patiently(lambda: client.job(key), None)


def _print(data: bytes) -> None:
    """Bytes as they are, but for a terminal, which gets no control sequence save colours."""
    from buildyard.cli.output import harmless

    if sys.stdout.isatty():
        sys.stdout.write("".join(f"{harmless(line)}\n" for line in data.splitlines()))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _say(text: str) -> None:
    """About the jobs, not from them: on standard error, so that what is on standard output are the logs."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# --- the server ---------------------------------------------------------------------------------


@asynccontextmanager
async def _connected(options: SubmitOptions) -> "AsyncGenerator[SourcehutClient]":
    from buildyard.client.sourcehut import SourcehutClient
    from buildyard.domain.errors import Unauthenticated
    from buildyard.settings import process_environment, read_settings

    settings = read_settings(process_environment())
    if options.server:
        settings = replace(settings, client=replace(settings.client, url=options.server.rstrip("/")))
    client = SourcehutClient(settings.client_url, _token(settings, options.token_file))
    try:
        yield client
    except Unauthenticated as exc:
        raise Unauthenticated(
            f"{exc} (name a token with the scope jobs:write: --token-file, or BUILDYARD_TOKEN)"
        ) from exc
    finally:
        await client.close()


def _token(settings: "Settings", file: Path | None) -> str:
    """The token of the file, of the settings, or of this machine's operator if the server is this machine's."""
    from buildyard.cli.connection import is_own_server
    from buildyard.domain.errors import NotFound

    if file is None and settings.client.token:
        return settings.client.token.reveal()
    if file is None and not is_own_server(settings):
        return ""
    try:
        return (file or settings.operator_token).read_text().strip()
    except OSError as exc:
        if file is None:
            return ""
        raise NotFound(f"cannot read {file}: {exc.strerror}") from exc
