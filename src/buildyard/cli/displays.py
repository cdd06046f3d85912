"""Two ways to show a build that is being followed: a live tree on a terminal, plain lines elsewhere; and JSON lines."""

from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from buildyard.cli.output import (
    console,
    duration,
    harmless,
    print_line_json,
    seconds_between,
    style_of,
    symbol_of,
    word_of,
)
from buildyard.client.messages import Job, Tree

_ORDER = ("running", "leased", "queued", "waiting")


def display_for(*, as_json: bool) -> "LiveDisplay | PlainDisplay | JsonDisplay":
    """The display that fits where the output goes."""
    if as_json:
        return JsonDisplay()
    screen = console()
    return LiveDisplay(screen) if screen.is_terminal else PlainDisplay(screen)


class PlainDisplay:
    """One line for each change of a job."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, tree: Tree) -> None:
        """Tell which jobs started or ended."""
        for job in tree.jobs:
            word = word_of(job.phase, job.result)
            if self._told.get(job.uid, "waiting") != word:
                self._told[job.uid] = word
                if word not in ("queued", "leased"):
                    self._screen.print(Text(_line_of(job)))

    def line(self, job: str, line: bytes) -> None:
        """A line of a log, with its job before it."""
        self._screen.print(Text(f"{job} | {Text.from_ansi(harmless(line)).plain}"))

    def note(self, text: str) -> None:
        """A remark."""
        self._screen.print(Text(text))


class LiveDisplay:
    """A tree of jobs that is drawn again and again at the bottom of the terminal; logs scroll by above it."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._tree: Tree | None = None
        self._live = Live(console=screen, refresh_per_second=8, get_renderable=self._render, redirect_stderr=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, tree: Tree) -> None:
        """Draw this state from now on."""
        self._tree = tree

    def line(self, job: str, line: bytes) -> None:
        """A line of a log, above the tree."""
        self._screen.print(Text.assemble((f"{job} ", "dim"), ("│ ", "dim"), Text.from_ansi(harmless(line))))

    def note(self, text: str) -> None:
        """A remark, above the tree."""
        self._screen.print(Text(text, "bold"))

    def _render(self) -> RenderableType:
        if self._tree is None:
            return Text("…")
        room = max(3, self._screen.height - 4)
        return Group(_headline(self._tree), _job_table(self._tree.jobs, room))


class JsonDisplay:
    """One line of JSON for each state of the build and each line of a log."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, tree: Tree) -> None:
        """Print the whole state."""
        print_line_json({"event": "build", "build": tree.build, "jobs": tree.jobs})

    def line(self, job: str, line: bytes) -> None:
        """Print the line, broken UTF-8 replaced."""
        print_line_json({"event": "log", "job": job, "line": line.decode("utf-8", "replace")})

    def note(self, text: str) -> None:
        """Print the remark."""
        print_line_json({"event": "note", "text": text})


def summary(tree: Tree) -> Text:
    """One line that says how a build ended or stands."""
    return _headline(tree)


def job_table(tree: Tree) -> Table:
    """All jobs of a build as rows."""
    return _job_table(tree.jobs, len(tree.jobs))


def _headline(tree: Tree) -> Text:
    build = tree.build
    word = word_of(build.phase, build.result)
    taken = duration(seconds_between(build.started_at, build.finished_at))
    done = build.jobs_total - build.jobs_left
    return Text.assemble(
        (f"{symbol_of(word)} ", style_of(word)),
        (f"build {build.id}", "bold"),
        f" {build.project}/{build.pipeline} #{build.number}  ",
        (word, style_of(word)),
        f"  {done}/{build.jobs_total} jobs  {taken}",
        f"  {build.detail}" if build.detail else "",
    )


def _job_table(jobs: list[Job], room: int) -> Table:
    """Rows for at most `room` jobs: if there are more, unfinished and failed ones go first, and the rest is counted."""
    table = Table.grid(padding=(0, 2))
    shown = jobs if len(jobs) <= room else sorted(jobs, key=_urgency)[: room - 1]
    for job in [job for job in jobs if job in shown] if len(jobs) <= 200 else shown:
        word = word_of(job.phase, job.result)
        taken = duration(seconds_between(job.started_at, job.finished_at))
        table.add_row(
            Text(f"  {symbol_of(word)}", style_of(word)), Text(job.name), Text(word, style_of(word)), taken, _doing(job)
        )
    if len(shown) < len(jobs):
        table.add_row("", Text(f"… and {len(jobs) - len(shown)} more", "dim"))
    return table


def _urgency(job: Job) -> int:
    word = word_of(job.phase, job.result)
    if word in _ORDER:
        return _ORDER.index(word) + (0 if word in ("running", "leased") else 5)
    return 9 if word in ("success", "skipped") else 3


def _doing(job: Job) -> Text:
    """The running step, or why it failed, or for what it waits."""
    if job.phase == "running" and job.attempts:
        running = [step.name for step in job.attempts[-1].steps if step.phase == "running"]
        return Text(", ".join(running), "dim")
    if job.phase == "waiting" and job.needs and not job.blockers:
        needs = ", ".join(job.needs[:3]) + (f" and {len(job.needs) - 3} more" if len(job.needs) > 3 else "")
        return Text(f"after {needs}", "dim")
    return Text(job.detail or job.cause, "dim")


def _line_of(job: Job) -> str:
    word = word_of(job.phase, job.result)
    taken = duration(seconds_between(job.started_at, job.finished_at))
    why = f" ({job.detail or job.cause})" if job.detail or job.cause else ""
    return f"{symbol_of(word)} {job.name}: {word}{' in ' + taken if job.phase == 'finished' and taken else ''}{why}"
