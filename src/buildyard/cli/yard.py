"""`buildyard yard`: the operator's file of projects, pipelines, triggers and workers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buildyard.cli.exits import ExitCode, carry_out

if TYPE_CHECKING:
    from buildyard.client.messages import Yard

yard_app = typer.Typer(help="The yard file; see docs/yard-file.md.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@yard_app.command("check")
def check_yard(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The yard file.")], as_json: AsJson = False
) -> None:
    """Check a yard file and the files that it names, without a server. Exit code 5: it has faults."""
    raise typer.Exit(carry_out(lambda: _check(file.absolute(), as_json=as_json), as_json=as_json))


@yard_app.command("diff")
def diff_yard(as_json: AsJson = False) -> None:
    """Show what `yard reload` would change. Exit code 1: something; 5: it has faults, an earlier one is in force."""
    raise typer.Exit(carry_out(lambda: _diff(as_json=as_json), as_json=as_json))


@yard_app.command("reload")
def reload_yard(as_json: AsJson = False) -> None:
    """Take the server's yard file into force, as SIGHUP does; if it has faults, nothing changes."""
    raise typer.Exit(carry_out(lambda: _reload(as_json=as_json), as_json=as_json))


async def _check(file: Path, *, as_json: bool) -> None:
    from buildyard.bootstrap.yard import load_yard
    from buildyard.cli.output import console, print_json
    from buildyard.client.messages import Yard
    from buildyard.settings import process_environment, read_settings

    yard = load_yard(file, allow_local=read_settings(process_environment()).sources.allow_local)
    if as_json:
        print_json(Yard(file=str(file)))
        return
    pipelines = sum(len(project.pipelines) for project in yard.projects)
    triggers = sum(len(project.triggers) for project in yard.projects)
    console().print(
        f"{file}: {len(yard.projects)} projects, {pipelines} pipelines, {triggers} triggers, "
        f"{len(yard.workers)} workers; no faults",
        markup=False,
    )


async def _diff(*, as_json: bool) -> int:
    from buildyard.cli.connection import connected
    from buildyard.domain.errors import Fault, Invalid

    async with connected() as client:
        found = await client.yard()
    if found.problem and not as_json:
        raise Invalid(found.problem, tuple(Fault(one.path, one.message, one.code) for one in found.faults))
    _tell(found, as_json=as_json)
    if found.problem:
        return ExitCode.REFUSED
    return ExitCode.BUILD_FAILED if found.changes else ExitCode.OK


async def _reload(*, as_json: bool) -> None:
    from buildyard.cli.connection import connected

    async with connected() as client:
        _tell(await client.reload_yard(), as_json=as_json)


def _tell(found: "Yard", *, as_json: bool) -> None:
    from buildyard.cli.output import console, print_json, print_table

    if as_json:
        print_json(found)
    elif found.changes:
        print_table(
            ("act", "kind", "name", "what"), [(c.act, c.kind, c.name, c.detail) for c in found.changes], styled=0
        )
    else:
        console().print(f"{found.file}: nothing to change", markup=False)
