"""`buildyard retention`, `keep` and `gc`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from buildyard.cli.exits import carry_out

if TYPE_CHECKING:
    from buildyard.client.messages import Bounds, Rules

app = typer.Typer(help="What is kept, and for how long.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str, typer.Option(help="The project; default: what the server itself says.")]
Pipeline = Annotated[str, typer.Option(help="Only this pipeline of the project.")]


@app.command("show")
def show(project: Project = "", pipeline: Pipeline = "", as_json: AsJson = False) -> None:
    """Show what is kept of builds, artifacts, logs and caches."""
    raise typer.Exit(carry_out(lambda: _show(project, pipeline, as_json=as_json), as_json=as_json))


@app.command("set")
def set_rule(
    what: Annotated[Literal["builds", "artifacts", "logs", "caches"], typer.Argument(help="What is kept.")],
    project: Annotated[str, typer.Option(help="The project.")],
    pipeline: Pipeline = "",
    days: Annotated[str, typer.Option(help="For so many days; `no`: no bound.", show_default=False)] = "",
    count: Annotated[str, typer.Option(help="The newest so many; `no`: no bound.", show_default=False)] = "",
    size: Annotated[str, typer.Option(help="At most so much: 500MiB, 20GiB; `no`: no bound.", show_default=False)] = "",
    as_json: AsJson = False,
) -> None:
    """Say what is kept in a project or pipeline. What is not given is as the project or the server says."""

    async def act() -> None:
        from buildyard.client.messages import Bounds, NewRule

        bounds = Bounds(
            days=_number(days, "--days"), count=_number(count, "--count"), size=_number(size, "--size", is_size=True)
        )
        await _set(project, NewRule(what=what, pipeline=pipeline, bounds=bounds), as_json=as_json)

    raise typer.Exit(carry_out(act, as_json=as_json))


def keep(
    build: Annotated[str, typer.Argument(metavar="BUILD", help="The build's id or uid.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take the mark away.")] = False,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Mark a build, so that it loses nothing."""
    raise typer.Exit(carry_out(lambda: _keep(build, undo, reason, as_json=as_json), as_json=as_json))


def collect(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove now what may go: by the rules of retention, unused caches and files."""
    raise typer.Exit(carry_out(lambda: _collect(dry_run, as_json=as_json), as_json=as_json))


def _number(text: str, option: str, *, is_size: bool = False) -> int | None:
    """A bound as people write it; None if it was not given."""
    import re

    from buildyard.domain.errors import Invalid

    if not text:
        return None
    if text in ("no", "0"):
        return 0
    match = re.fullmatch(r"(\d{1,15})\s*(?:([KMGT])i?B?)?" if is_size else r"(\d{1,15})()", text)
    if match is None:
        raise Invalid(
            f"{option} must be a whole number{' or a size like 500MiB' if is_size else ''} or no, not {text!r}"
        )
    return int(match[1]) << (10 * " KMGT".index(match[2] or " "))


async def _show(project: str, pipeline: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected

    async with connected() as client:
        _print(await client.rules(project, pipeline), as_json=as_json)


async def _set(project: str, rule: object, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.client.messages import NewRule

    assert isinstance(rule, NewRule)
    async with connected() as client:
        _print(await client.set_rule(project, rule), as_json=as_json)


def _print(found: "Rules", *, as_json: bool) -> None:
    from buildyard.cli.output import print_json, print_table

    if as_json:
        print_json(found.rules)
        return
    print_table(
        ("what", "days", "count", "size", "said here"),
        [(one.what, *_cells(one.holds), " ".join(_said(one.said))) for one in found.rules],
    )


def _cells(bounds: "Bounds") -> tuple[str, str, str]:
    from buildyard.cli.output import file_size

    return (
        str(bounds.days or "no bound"),
        str(bounds.count or "no bound"),
        file_size(bounds.size) if bounds.size else "no bound",
    )


def _said(bounds: "Bounds") -> list[str]:
    shown = zip(("days", "count", "size"), (bounds.days, bounds.count, bounds.size), _cells(bounds), strict=True)
    return [f"{name}: {cell}" for name, value, cell in shown if value is not None]


async def _keep(build: str, undo: bool, reason: str, *, as_json: bool) -> None:
    from buildyard.cli.connection import connected
    from buildyard.cli.output import console, print_json

    async with connected() as client:
        marked = await client.keep(build, keep=not undo, reason=reason)
    if as_json:
        print_json(marked)
    else:
        console().print(f"build {marked.id}: {'kept' if marked.keep else 'no longer kept'}")


async def _collect(dry_run: bool, *, as_json: bool) -> None:
    from rich.status import Status

    from buildyard.cli.connection import connected
    from buildyard.cli.output import console, print_json

    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    cursor = ""
    async with connected() as client:
        with Status("looking", console=console(error=True)) as status:
            while True:
                done = await client.collect(cursor, dry_run=dry_run)
                for total, more in ((counts, done.counts), (sizes, done.sizes)):
                    for name, by in more.items():
                        total[name] = total.get(name, 0) + by
                cursor = done.cursor
                status.update(_sentence(counts, sizes, dry_run=dry_run))
                if not cursor:
                    break
    if as_json:
        print_json({"dry_run": dry_run, "counts": counts, "sizes": sizes})
    else:
        console().print(_sentence(counts, sizes, dry_run=dry_run))


def _sentence(counts: dict[str, int], sizes: dict[str, int], *, dry_run: bool) -> str:
    from buildyard.cli.output import file_size

    parts = [f"{count} {name} ({file_size(sizes.get(name, 0))})" for name, count in counts.items()]
    return f"{'would remove' if dry_run else 'removed'}: {', '.join(parts) or 'nothing'}"
