"""`buildyard top` and `buildyard audit`: what is going on, and who did what."""

from typing import Annotated

import typer

from buildyard.cli.exits import carry_out

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once; so it is where there is no terminal.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Show what runs, what waits and who works, again and again. q or Ctrl-C ends it."""
    from buildyard.cli.top import show_top

    raise typer.Exit(carry_out(lambda: show_top(once=once, interval=interval, as_json=as_json), as_json=as_json))


def audit(
    project: Annotated[str, typer.Option(help="Only acts in this project.")] = "",
    action: Annotated[str, typer.Option(help="Only this action, such as build.cancel.")] = "",
    user: Annotated[str, typer.Option(help="Only this user's acts.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only acts with smaller ids: the next page.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is done from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say who did what, newest first."""
    from buildyard.cli.audit import Wanted, show_audit

    wanted = Wanted(project, action, user)
    raise typer.Exit(
        carry_out(
            lambda: show_audit(wanted, limit=limit, before=before, follow=follow, as_json=as_json), as_json=as_json
        )
    )
