"""`buildyard worker`: a worker here, and `worker list|pause|resume|drain|remove` for all of a server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buildyard.cli import spare_rich
from buildyard.cli.exits import carry_out

if TYPE_CHECKING:
    from buildyard.client.messages import Worker

worker_app = typer.Typer(
    help="Work for a server: claim jobs, run them, report. SIGTERM lets running jobs end, a second one kills them.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="WORKER", help="The worker's name.")]
Why = Annotated[str, typer.Option(help="Why.")]


@worker_app.callback()
def worker(
    context: typer.Context,
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="http://…, https://… or unix:///path/to/socket.")
    ] = "",
    token: Annotated[str, typer.Option("--token", help="A token with the scope `runner`; else BUILDYARD_TOKEN.")] = "",
    token_file: Annotated[Path | None, typer.Option("--token-file", help="Read the token from this file.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the worker keeps its state; default: DATA/worker.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Jobs at the same time; else BUILDYARD_WORKERS.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The worker's name; else BUILDYARD_WORKER_NAME.")] = "",
    labels: Annotated[list[str] | None, typer.Option("--label", help="What jobs may ask for; may be repeated.")] = None,
    features: Annotated[
        list[str] | None, typer.Option("--feature", help="What the machine can do, such as kvm; may be repeated.")
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            "--drain-seconds", min=0, help="After SIGTERM, let jobs go on for so long; default: to their end."
        ),
    ] = None,
) -> None:
    """Work for a server: claim jobs, run them, report. SIGTERM lets running jobs end, a second one kills them."""
    if context.invoked_subcommand is not None:
        return
    if not server:
        raise typer.BadParameter("say for which server: --server URL", param_hint="--server")
    spare_rich()
    from buildyard.cli.worker import WorkerOptions, worker_command
    from buildyard.domain.labels import feature_label

    wanted = WorkerOptions(
        server=server,
        token=token,
        token_file=token_file,
        folder=folder,
        slots=slots,
        name=name,
        labels=(*(labels or ()), *(feature_label(feature) for feature in features or ())),
        drain_seconds=drain_seconds,
    )
    raise typer.Exit(worker_command(wanted))


@worker_app.command("list")
def list_workers(as_json: AsJson = False) -> None:
    """List workers: what they offer, how many of their slots are taken, whether they take jobs."""
    raise typer.Exit(carry_out(lambda: _list(as_json=as_json), as_json=as_json))


@worker_app.command("pause")
def pause_worker(worker: Name, reason: Why = "", as_json: AsJson = False) -> None:
    """Let a worker take no more jobs; it goes on with those it has."""
    raise typer.Exit(carry_out(lambda: _pause(worker, reason, as_json=as_json), as_json=as_json))


@worker_app.command("resume")
def resume_worker(worker: Name, as_json: AsJson = False) -> None:
    """Let a paused or draining worker take jobs again."""
    raise typer.Exit(carry_out(lambda: _resume(worker, as_json=as_json), as_json=as_json))


@worker_app.command("drain")
def drain_worker(
    worker: Name,
    reason: Why = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has left.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a worker finish what it has, take nothing more, and end. Started anew it is paused until `resume`."""
    raise typer.Exit(carry_out(lambda: _drain(worker, reason, wait=wait, as_json=as_json), as_json=as_json))


@worker_app.command("remove")
def remove_worker(
    worker: Name,
    reason: Why = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is connected or holds jobs, which are lost and tried elsewhere.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a worker off the list. It may come back as a new process, unless its token is revoked."""
    raise typer.Exit(carry_out(lambda: _remove(worker, reason, force=force, as_json=as_json), as_json=as_json))


def state_of(worker: "Worker") -> str:
    """The one word for what a worker does."""
    if worker.draining:
        return "draining"
    if not worker.connected:
        return "gone"
    if worker.paused:
        return "paused"
    return "busy" if worker.busy else "idle"


async def _list(*, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import print_json, print_table

    async with connected() as client:
        found = await client.workers()
    if as_json:
        print_json(found)
        return
    headings = ("worker", "state", "jobs", "labels", "executors", "system", "project", "host", "last heard", "why")
    rows = [
        (
            one.name,
            state_of(one),
            f"{one.busy}/{one.slots}",
            " ".join(one.labels),
            " ".join(one.executors),
            one.system,
            one.project,
            one.host,
            ago(one.seen_at),
            one.reason,
        )
        for one in found
    ]
    print_table(headings, rows, styled=1)


def ago(time: str) -> str:
    """How long ago a time was, in words."""
    from buildyard.cli.output import duration

    return f"{duration(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()))} ago"


async def _pause(name: str, reason: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected

    async with connected() as client:
        _tell(await client.pause_worker(name, reason), as_json=as_json)


async def _resume(name: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected

    async with connected() as client:
        _tell(await client.resume_worker(name), as_json=as_json)


async def _drain(name: str, reason: str, *, wait: bool, as_json: bool) -> None:
    import asyncio

    from buildyard.cli.connection import connected
    from buildyard.cli.following import patiently
    from buildyard.cli.output import console

    async with connected() as client:
        worker = await client.drain_worker(name, reason)
        told = -1
        while wait and worker.connected:
            if worker.busy != told and not as_json:
                told = worker.busy
                console(error=True).print(f"{name} still runs {told} jobs", markup=False)
            await asyncio.sleep(0.5)
            found = [one for one in await patiently(client.workers, None) if one.name == name]
            if not found:
                break
            (worker,) = found
        _tell(worker, as_json=as_json)


async def _remove(name: str, reason: str, *, force: bool, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import console, print_json

    async with connected() as client:
        removed = await client.remove_worker(name, reason, force=force)
    if as_json:
        print_json(removed)
    else:
        console().print(f"worker {name} is removed; {removed.lost} of its attempts are lost", markup=False)


def _tell(worker: "Worker", *, as_json: bool) -> None:
    from buildyard.cli.output import console, print_json

    if as_json:
        print_json(worker)
    else:
        console().print(
            f"worker {worker.name}: {state_of(worker)}, {worker.busy} of {worker.slots} slots taken", markup=False
        )
