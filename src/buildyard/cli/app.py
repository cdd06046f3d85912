"""The commands and their options. Each imports what it needs when it is called, so that `--help` stays quick."""

from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from buildyard.cli import images, overview, retention, spare_rich
from buildyard.cli.exits import ExitCode, carry_out
from buildyard.cli.notify import deliveries_app, notify_app
from buildyard.cli.secrets import secret_app
from buildyard.cli.sourcehut import app as sourcehut_app
from buildyard.cli.triggers import add_trigger_commands
from buildyard.cli.workers import worker_app
from buildyard.cli.yard import yard_app

app = typer.Typer(
    name="buildyard",
    help="Build, test and run software.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
token_app = typer.Typer(help="Tokens for programs.", no_args_is_help=True)
user_app = typer.Typer(help="Who may sign in.", no_args_is_help=True)
app.add_typer(token_app, name="token")
app.add_typer(user_app, name="user")
app.add_typer(worker_app, name="worker")
app.add_typer(yard_app, name="yard")
app.add_typer(images.app, name="image")
app.add_typer(secret_app, name="secret")
app.add_typer(sourcehut_app, name="sourcehut")

app.add_typer(retention.app, name="retention")
app.command("top")(overview.top)
app.command("audit")(overview.audit)
app.command("keep")(retention.keep)
app.command("gc")(retention.collect)
app.add_typer(notify_app, name="notify")
app.add_typer(deliveries_app, name="deliveries")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BuildArgument = Annotated[str, typer.Argument(metavar="BUILD", help="The build's id or uid.")]
LogsOption = Annotated[
    Literal["all", "failed", "none"],
    typer.Option("--logs", help="Whose logs to print: of all jobs, failed ones, none."),
]
MatrixOption = Annotated[
    list[str] | None, typer.Option("--matrix", metavar="NAME=VALUE,…", help="Replace the values of a matrix axis.")
]


def run_app() -> int:
    """Run the command line; the exit code. Wrong usage is told by Typer, with code 2."""
    try:
        app(prog_name="buildyard")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else ExitCode.USAGE
    return ExitCode.OK


def _end(code: int) -> NoReturn:
    raise typer.Exit(code)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", "-V", help="Say the version and stop.", is_eager=True)] = False,
) -> None:
    """Build, test and run software."""
    if version:
        from buildyard.version import VERSION

        typer.echo(f"buildyard {VERSION}")
        _end(ExitCode.OK)


@app.command()
def serve(
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="Once ready, build this folder as `buildyard run` would."),
    ] = None,
    matrix: MatrixOption = None,
) -> None:
    """Start the server, and with it a worker. Settings: docs/settings.md."""
    spare_rich()
    from buildyard.cli.serve import serve_command

    _end(serve_command(run, tuple(matrix or ())))


@app.command()
def run(
    target: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="A workflow file, or a folder with buildyard.yml.")
    ] = Path(),
    project: Annotated[str, typer.Option(help="The project; default: named after the folder or workflow.")] = "",
    pipeline: Annotated[str, typer.Option(help="The pipeline; default: the workflow's name.")] = "",
    matrix: MatrixOption = None,
    note: Annotated[str, typer.Option(help="A remark kept with the build.")] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Begin then: 2026-12-31T23:00, local time or with a zone.")
    ] = "",
    delay: Annotated[str, typer.Option("--delay", metavar="SPAN", help="Begin after 90s, 10m, 12h or 30d.")] = "",
    logs: LogsOption = "failed",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the build.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a workflow; a folder goes along with its uncommitted changes. Ends with the build's result."""
    from buildyard.cli.run import RunOptions
    from buildyard.cli.run import run as carry_on

    wanted = RunOptions(
        target=target,
        project=project,
        pipeline=pipeline,
        matrix=tuple(matrix or ()),
        note=note,
        start_at=at,
        delay=delay,
        logs=logs,
        detach=detach,
        as_json=as_json,
    )
    _end(carry_out(lambda: carry_on(wanted), as_json=as_json))


@app.command("builds")
def list_builds(
    project: Annotated[str, typer.Option(help="Only builds of this project.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest builds."""
    from buildyard.cli import builds

    _end(carry_out(lambda: builds.list_builds(project, limit, as_json=as_json), as_json=as_json))


@app.command()
def show(
    build: BuildArgument,
    tests: Annotated[bool, typer.Option("--tests", help="Show how its tests went, coverage and metrics.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a build and its jobs."""
    from buildyard.cli import builds, reports

    if tests:
        _end(carry_out(lambda: reports.show_tests(build, as_json=as_json), as_json=as_json))
    _end(carry_out(lambda: builds.show_build(build, as_json=as_json), as_json=as_json))


@app.command()
def metrics(
    name: Annotated[str, typer.Argument(help="The metric's name, such as coverage.lines.")],
    project: Annotated[str, typer.Option(help="The project.")],
    pipeline: Annotated[str, typer.Option(help="The pipeline.")],
    as_json: AsJson = False,
) -> None:
    """Show a metric over the newest builds of a pipeline."""
    from buildyard.cli import reports

    _end(carry_out(lambda: reports.show_history(name, project, pipeline, as_json=as_json), as_json=as_json))


@app.command()
def logs(
    build: BuildArgument,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only this job; its name or uid.")] = "",
    step: Annotated[str, typer.Option(help="Only this step; its name, number or uid.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it is finished.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print logs; those of one step byte for byte, unless on a terminal."""
    from buildyard.cli import builds

    _end(carry_out(lambda: builds.print_logs(build, job, step, follow=follow, as_json=as_json), as_json=as_json))


@app.command()
def artifacts(
    build: BuildArgument,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Only this file.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Fetch the file to here: a file, a folder, or - for standard output."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the files that a build kept, or fetch one."""
    from buildyard.cli import builds

    _end(carry_out(lambda: builds.artifacts(build, path, output, as_json=as_json), as_json=as_json))


@app.command()
def cancel(
    build: BuildArgument, reason: Annotated[str, typer.Option(help="Why.")] = "", as_json: AsJson = False
) -> None:
    """Stop a build."""
    from buildyard.cli import builds

    _end(carry_out(lambda: builds.cancel_build(build, reason, as_json=as_json), as_json=as_json))


@app.command()
def retry(
    build: BuildArgument,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for it as `run` does.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build the same once more, as a new build."""
    from buildyard.cli import builds

    _end(carry_out(lambda: builds.retry_build(build, reason, follow=follow, as_json=as_json), as_json=as_json))


@app.command()
def queue(
    project: Annotated[str, typer.Option(help="Only work of this project.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of each kind.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what runs, what is queued, and what waits for what."""
    from buildyard.cli import queue

    _end(carry_out(lambda: queue.show_queue(project, limit, as_json=as_json), as_json=as_json))


@app.command()
def approve(
    build: BuildArgument,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only this job; its name or uid.")] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Say no: what waits ends as cancelled.")] = False,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Approve what waits for you: a job, or all of the build that you may answer for."""
    from buildyard.cli import queue

    _end(carry_out(lambda: queue.answer(build, job, reason, granted=not reject, as_json=as_json), as_json=as_json))


@app.command()
def attach(
    build: BuildArgument,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Which of its jobs; its name or uid.")] = "",
    as_json: AsJson = False,
) -> None:
    """Open a shell where a job runs or has run; ends with the shell's exit status. Ctrl-] or ~. leaves."""
    from buildyard.cli import attach as attaching

    _end(carry_out(lambda: attaching.attach(build, job), as_json=as_json))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can do and what to install."""
    from buildyard.cli.doctor import doctor as examine

    _end(carry_out(lambda: examine(as_json=as_json), as_json=as_json))


@token_app.command("create")
def create_token(
    user: Annotated[str, typer.Option(help="Whose token it is.")] = "admin",
    scope: Annotated[list[str] | None, typer.Option("--scope", help="What it is for; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="A name to know it by.")] = "",
    project: Annotated[str, typer.Option(help="Good for this project only.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="Labels of a worker that uses it.")] = None,
    expires: Annotated[str, typer.Option(help="How long it is good: 12h, 30d; default: for ever.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token and print it; it is not shown again."""
    from buildyard.cli import access

    _end(
        carry_out(
            lambda: access.create_token(
                user,
                list(scope or ()),
                name=name,
                project=project,
                labels=list(label or ()),
                expires=expires,
                as_json=as_json,
            ),
            as_json=as_json,
        )
    )


@token_app.command("list")
def list_tokens(user: Annotated[str, typer.Option(help="Only this user's.")] = "", as_json: AsJson = False) -> None:
    """List tokens, without their secrets."""
    from buildyard.cli import access

    _end(carry_out(lambda: access.list_tokens(user, as_json=as_json), as_json=as_json))


@token_app.command("revoke")
def revoke_token(
    token: Annotated[int, typer.Argument(metavar="ID", help="The token's id.")], as_json: AsJson = False
) -> None:
    """End a token."""
    from buildyard.cli import access

    _end(carry_out(lambda: access.revoke_token(token, as_json=as_json), as_json=as_json))


@user_app.command("create")
def create_user(
    username: Annotated[str, typer.Argument(help="A name of letters, digits, _ and -.")],
    email: Annotated[str, typer.Option(help="The e-mail address.")] = "",
    full_name: Annotated[str, typer.Option("--name", help="The name for people.")] = "",
    administrator: Annotated[bool, typer.Option("--administrator", help="May do everything.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a user."""
    from buildyard.cli import access

    _end(
        carry_out(
            lambda: access.create_user(
                username,
                email=email,
                full_name=full_name,
                administrator=administrator,
                password_stdin=password_stdin,
                as_json=as_json,
            ),
            as_json=as_json,
        )
    )


@user_app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List everyone."""
    from buildyard.cli import access

    _end(carry_out(lambda: access.list_users(as_json=as_json), as_json=as_json))


@user_app.command("password")
def set_password(
    username: Annotated[str, typer.Argument(help="Whose password.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Change a password."""
    from buildyard.cli import access

    _end(
        carry_out(
            lambda: access.set_password(username, password_stdin=password_stdin, as_json=as_json), as_json=as_json
        )
    )


add_trigger_commands(app)
