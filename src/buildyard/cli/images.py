"""`buildyard image`: images on this machine's container engine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from buildyard.cli.exits import carry_out

app = typer.Typer(help="Images of the container engine on this machine.", no_args_is_help=True)


@app.command()
def load(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A tar file of `docker save` or `podman save`, or of a root file system."),
    ],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What jobs call the image: NAME or NAME:TAG.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Load an image from a file, for jobs of the worker on this machine."""
    from buildyard.bootstrap.containers import load_image
    from buildyard.cli.output import print_json
    from buildyard.settings import process_environment, read_settings

    async def command() -> None:
        loaded = await load_image(read_settings(process_environment()), file, name, _say)
        if as_json:
            print_json({"image": loaded})
        else:
            sys.stdout.write(f"{loaded}\n")

    raise typer.Exit(carry_out(command, as_json=as_json))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
