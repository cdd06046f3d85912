"""The commands `notify` and `deliveries` and their options."""

from typing import Annotated, Literal, NoReturn

import typer

from buildyard.cli.exits import carry_out

notify_app = typer.Typer(help="Who is told how builds end: by mail, webhook, commit status.", no_args_is_help=True)
deliveries_app = typer.Typer(help="The messages that were sent, wait, or were given up.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="The project's slug.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Its id or uid, as the list shows it.")]


def _end(code: int) -> NoReturn:
    raise typer.Exit(code)


@notify_app.command("add")
def add_notification(
    project: ProjectArgument,
    email: Annotated[
        list[str] | None,
        typer.Option(
            "--email", metavar="ADDRESS", help="Mail to this address, or to the `submitter`; may be repeated."
        ),
    ] = None,
    webhook: Annotated[str, typer.Option(metavar="URL", help="Post to this address.")] = "",
    status: Annotated[
        Literal["github", "gitlab", "gitea", "bitbucket", "bitbucket-server"] | None,
        typer.Option(help="Show a status at the built commit; Forgejo is gitea."),
    ] = None,
    on: Annotated[
        Literal["success", "failure", "unsuccessful", "always", "changed", "fixed"] | None,
        typer.Option(help="Which ends are told; default: failure, for a status always."),
    ] = None,
    pipeline: Annotated[str, typer.Option(help="Only builds of this pipeline.")] = "",
    build: Annotated[str, typer.Option(help="Only this build; its uid.")] = "",
    secret: Annotated[
        str, typer.Option(metavar="NAME", help="Secret that signs a webhook; server:NAME for a credential.")
    ] = "",
    also_start: Annotated[bool, typer.Option("--also-start", help="A webhook is told of starts, too.")] = False,
    repository: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Where a status is shown.")] = "",
    token: Annotated[str, typer.Option(metavar="NAME", help="Secret for a status; server:NAME for a credential.")] = "",
    api: Annotated[str, typer.Option(metavar="URL", help="The forge's API; default: the public one.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell somebody: give --email, --webhook or --status."""
    from buildyard.cli import notifications

    wanted = notifications.Wanted(
        project=project,
        email=tuple(email or ()),
        webhook=webhook,
        status=status or "",
        on=on or "",
        pipeline=pipeline,
        build=build,
        secret=secret,
        started=also_start,
        repository=repository,
        token=token,
        api=api,
    )
    _end(carry_out(lambda: notifications.add(wanted, as_json=as_json), as_json=as_json))


@notify_app.command("list")
def list_notifications(project: ProjectArgument, as_json: AsJson = False) -> None:
    """List who is told of a project's builds."""
    from buildyard.cli import notifications

    _end(carry_out(lambda: notifications.list_all(project, as_json=as_json), as_json=as_json))


@notify_app.command("remove")
def remove_notification(reference: IdArgument, as_json: AsJson = False) -> None:
    """Tell no more."""
    from buildyard.cli import notifications

    _end(carry_out(lambda: notifications.remove(reference, as_json=as_json), as_json=as_json))


@deliveries_app.command("list")
def list_deliveries(
    project: Annotated[str, typer.Option(help="Only those of this project's builds.")] = "",
    state: Annotated[
        Literal["waiting", "delivered", "dead", "dropped"] | None, typer.Option(help="Only these.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest messages."""
    from buildyard.cli import notifications

    wanted = "dead" if dead else state or ""
    _end(carry_out(lambda: notifications.list_deliveries(project, wanted, limit, as_json=as_json), as_json=as_json))


@deliveries_app.command("show")
def show_delivery(reference: IdArgument, as_json: AsJson = False) -> None:
    """Show a message and every try: what was sent, what came back."""
    from buildyard.cli import notifications

    _end(carry_out(lambda: notifications.show_delivery(reference, as_json=as_json), as_json=as_json))


@deliveries_app.command("key")
def show_webhook_key(as_json: AsJson = False) -> None:
    """Print the public key that signatures of the webhooks of APIs are checked with (Ed25519, base64)."""
    from buildyard.cli import notifications

    _end(carry_out(lambda: notifications.show_webhook_key(as_json=as_json), as_json=as_json))


@deliveries_app.command("resend")
def resend_deliveries(
    references: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which messages.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up, up to 1000.")] = False,
    project: Annotated[str, typer.Option(help="With --dead: only those of this project's builds.")] = "",
    as_json: AsJson = False,
) -> None:
    """Send messages once more."""
    from buildyard.cli import notifications

    _end(
        carry_out(
            lambda: notifications.resend(tuple(references or ()), project, dead=dead, as_json=as_json), as_json=as_json
        )
    )
