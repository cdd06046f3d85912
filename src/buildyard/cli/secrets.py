"""`buildyard secret …`: set, list and delete secrets, and change the key that they are encrypted with."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from buildyard.cli.exits import carry_out

if TYPE_CHECKING:
    from buildyard.client.messages import Secret

secret_app = typer.Typer(
    help="Secrets that jobs are given and nobody is shown.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What workflows call it.")]
Account = Annotated[str, typer.Option(help="For all projects of this account.")]
Project = Annotated[str, typer.Option(help="For this project.")]
Pipeline = Annotated[str, typer.Option(help="For this pipeline of the project only.")]
Kind = Literal["variable", "file", "ssh_key", "pgp_key", "registry"]


@secret_app.command("set")
def set_secret(
    name: Name,
    account: Account = "",
    project: Project = "",
    pipeline: Pipeline = "",
    kind: Annotated[Kind, typer.Option(help="What it is: variables are given in the environment, others as files.")] = (
        "variable"
    ),
    file: Annotated[
        Path | None, typer.Option("--file", help="Take the value from this file; default: standard input, or ask.")
    ] = None,
    path: Annotated[str, typer.Option(help="As a file: where, below the job's home folder.")] = "",
    mode: Annotated[str, typer.Option(help="As a file: its permission bits.")] = "0600",
    as_json: AsJson = False,
) -> None:
    """Make a secret or give it another value, read from --file, standard input, or the terminal."""
    raise typer.Exit(
        carry_out(
            lambda: _set(name, (account, project, pipeline), kind, file, path, mode, as_json=as_json), as_json=as_json
        )
    )


@secret_app.command("list")
def list_secrets(
    account: Account = "", project: Project = "", pipeline: Pipeline = "", as_json: AsJson = False
) -> None:
    """List secrets, without their values: those of a place, or all that you may manage."""
    raise typer.Exit(carry_out(lambda: _list(account, project, pipeline, as_json=as_json), as_json=as_json))


@secret_app.command("delete")
def delete_secret(
    name: Name, account: Account = "", project: Project = "", pipeline: Pipeline = "", as_json: AsJson = False
) -> None:
    """Delete a secret; jobs that name it fail from then on."""
    raise typer.Exit(carry_out(lambda: _delete(name, account, project, pipeline, as_json=as_json), as_json=as_json))


@secret_app.command("rotate-key")
def rotate_key(as_json: AsJson = False) -> None:
    """Encrypt all secrets with a new key, and remove the old one from the key file."""
    raise typer.Exit(carry_out(lambda: _rotate(as_json=as_json), as_json=as_json))


async def _set(
    name: str, place: tuple[str, str, str], kind: Kind, file: Path | None, path: str, mode: str, *, as_json: bool
) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import console, print_json
    from buildyard.client.messages import NewSecret

    account, project, pipeline = place
    wanted = NewSecret(
        name=name,
        value=_value(name, file, is_text=kind == "variable"),
        kind=kind,
        account=account,
        project=project,
        pipeline=pipeline,
        path=path,
        mode=_bits(mode),
    )
    async with connected() as client:
        secret = await client.set_secret(wanted)
    if as_json:
        print_json(secret)
    else:
        console().print(f"secret {secret.name} of {owner_of(secret)} is set", markup=False)


async def _list(account: str, project: str, pipeline: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import print_json, print_table

    async with connected() as client:
        found = await client.secrets(account=account, project=project, pipeline=pipeline)
    if as_json:
        print_json(found)
        return
    rows = [(one.name, one.kind, owner_of(one), one.updated_at, one.used_at or "never") for one in found]
    print_table(("secret", "kind", "of", "updated", "last used"), rows)


async def _delete(name: str, account: str, project: str, pipeline: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import console, print_json

    async with connected() as client:
        await client.remove_secret(name, account=account, project=project, pipeline=pipeline)
    if as_json:
        print_json({"deleted": name})
    else:
        console().print(f"secret {name} is deleted", markup=False)


async def _rotate(*, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import console, print_json

    async with connected() as client:
        rotated = await client.rotate_key()
    if as_json:
        print_json(rotated)
        return
    console().print(f"the key is {rotated.key} now; {rotated.rewritten} secrets were encrypted anew")
    if rotated.damaged:
        console(error=True).print(f"{rotated.damaged} secrets could not be read: set them anew (see the server's log)")


def owner_of(secret: "Secret") -> str:
    """In words, whose a secret is."""
    match secret.scope:
        case "account":
            return f"account {secret.account}"
        case "pipeline":
            return f"pipeline {secret.project}:{secret.pipeline}"
        case _:
            return f"project {secret.project}"


def _value(name: str, file: Path | None, *, is_text: bool) -> bytes:
    """The value; the newline that ends a text is no part of it."""
    import getpass

    from buildyard.domain.errors import Invalid

    if file is not None:
        try:
            data = file.read_bytes()
        except OSError as exc:
            raise Invalid(f"{file} cannot be read: {exc.strerror}") from exc
    elif sys.stdin.isatty():
        return getpass.getpass(f"value of {name}: ").encode()
    else:
        data = sys.stdin.buffer.read()
    return data.removesuffix(b"\n").removesuffix(b"\r") if is_text else data


def _bits(mode: str) -> int:
    from buildyard.domain.errors import Invalid

    try:
        return int(mode.removeprefix("0o"), 8)
    except ValueError:
        raise Invalid(f"--mode takes permission bits such as 0600, not {mode!r}") from None
