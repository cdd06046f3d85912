"""Draws docs/terminal.svg: what `make run` looks like, as the command line itself would draw it."""

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from buildyard.cli.displays import job_table, summary
from buildyard.client.messages import Attempt, Build, Job, Step, Tree

ROOT = Path(__file__).resolve().parent.parent
BEGAN = "2026-01-01T12:00:00.000Z"

ENDED = {
    "lint": "12:00:12",
    "types": "12:00:31",
    "unit (3.11)": "12:00:48",
    "unit (3.12)": "",
    "unit (3.13)": "",
    "wheel": "12:00:09",
    "documents": "12:00:14",
    "install": "12:00:27",
}


def job(name: str) -> Job:
    """A job that has ended, or that runs its tests."""
    ended = ENDED[name]
    finished = f"2026-01-01T{ended}.000Z" if ended else None
    running = Step(uid="", number=2, name="tests", phase="running", started_at=BEGAN)
    attempt = Attempt(number=1, worker="yard", phase="running", steps=[] if ended else [running])
    return Job(
        uid=name,
        name=name,
        phase="finished" if ended else "running",
        result="success" if ended else None,
        started_at=BEGAN,
        finished_at=finished or "2026-01-01T12:00:52.000Z",
        attempts=[attempt],
    )


def main() -> None:
    """Write the picture."""
    left = sum(not ended for ended in ENDED.values())
    build = Build(
        id=1,
        uid="",
        project="buildyard",
        pipeline="buildyard",
        number=1,
        phase="running",
        jobs_total=len(ENDED),
        jobs_left=left,
        created_at=BEGAN,
        started_at=BEGAN,
        finished_at="2026-01-01T12:00:52.000Z",
    )
    tree = Tree(build=build, jobs=[job(name) for name in ENDED], seen="")
    screen = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    screen.print(Text("$ make run"))
    screen.print(Text("executor: sandbox, 4 at a time (the strongest that works here; …)"))
    screen.print(Text("administrator: user admin, password ************ (shown this once)"))
    screen.print(Text("listening on http://127.0.0.1:8010"))
    screen.print(Text.assemble(("unit (3.12) │ ", "dim"), ".................................... [ 62%]"))
    screen.print(Text.assemble(("unit (3.13) │ ", "dim"), "............................ [ 48%]"))
    screen.print(summary(tree))
    screen.print(job_table(tree))
    drawn = screen.export_svg(title="make run", unique_id="terminal")
    without_fonts = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (ROOT / "docs" / "terminal.svg").write_text(without_fonts.replace("Fira Code", "ui-monospace"), encoding="utf-8")


if __name__ == "__main__":
    main()
