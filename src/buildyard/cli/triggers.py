"""`buildyard triggers` and `buildyard trigger`: why builds start, and starting them by hand."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from buildyard.cli.exits import ExitCode, carry_out

if TYPE_CHECKING:
    from buildyard.client.messages import Build, Trigger

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_trigger_commands(app: typer.Typer) -> None:
    """Give the command line these two commands."""
    commands: tuple[tuple[str, Callable[..., Any]], ...] = (("triggers", list_triggers), ("trigger", fire_trigger))
    for name, command in commands:
        app.command(name)(command)


def list_triggers(
    project: Annotated[str, typer.Option(help="Only those of this project.")] = "", as_json: AsJson = False
) -> None:
    """List triggers: why builds start, when those of a clock are due, what is wrong with them."""
    raise typer.Exit(carry_out(lambda: _list(project, as_json=as_json), as_json=as_json))


def fire_trigger(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The trigger's name.")],
    parameters: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter.")
    ] = None,
    branch: Annotated[str, typer.Option(help="Build this branch instead of the pipelines' own.")] = "",
    commit: Annotated[str, typer.Option(help="Build this commit.")] = "",
    note: Annotated[str, typer.Option(help="A remark kept with the builds.")] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the build.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the builds of a trigger of kind manual or cron; a single one is followed to its end."""
    wish = {"branch": branch, "commit": commit, "note": note}
    raise typer.Exit(
        carry_out(lambda: _fire(name, tuple(parameters or ()), wish, detach=detach, as_json=as_json), as_json=as_json)
    )


async def _list(project: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import print_json, print_table

    async with connected() as client:
        found = await client.triggers(project)
    if as_json:
        print_json(found)
        return
    headings = ("trigger", "kind", "state", "project", "pipelines", "next", "why")
    rows = [
        (one.name, one.kind, state_of(one), one.project, " ".join(one.pipelines), one.next_at or "", one.error)
        for one in found
    ]
    print_table(headings, rows, styled=2)


def state_of(trigger: "Trigger") -> str:
    """The one word for where a trigger stands."""
    if not trigger.enabled:
        return "disabled"
    return "error" if trigger.error else "enabled"


async def _fire(name: str, texts: tuple[str, ...], wish: dict[str, str], *, detach: bool, as_json: bool) -> int:
    from buildyard.cli.connection import connected
    from buildyard.cli.run import watch
    from buildyard.client.messages import Wish

    async with connected() as client:
        builds = await client.fire(name, Wish(parameters=_values(texts), **wish))
        if detach or len(builds) > 1:
            _tell(builds, as_json=as_json)
            return ExitCode.OK
        return await watch(client, str(builds[0].id), logs="failed", as_json=as_json, cancels=True)


def _values(texts: tuple[str, ...]) -> dict[str, str | int | bool]:
    from buildyard.domain.errors import Invalid

    values: dict[str, str | int | bool] = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (name and found):
            raise Invalid(f"--parameter takes NAME=VALUE, not {text!r}")
        if name in values:
            raise Invalid(f"the parameter {name} is given twice")
        values[name] = value
    return values


def _tell(builds: "list[Build]", *, as_json: bool) -> None:
    from buildyard.cli.output import console, print_json

    if as_json:
        print_json(builds)
        return
    for build in builds:
        console().print(f"build {build.id} of {build.project}/{build.pipeline} queued", markup=False)
