"""The long form: `make chaos`, or `make chaos CHAOS="--faults 500 --seed 7 --write"`."""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from e2e.chaos.story import Outcome, chaos, database
from podman import Podman, fresh_podman

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
BEGIN, END = "<!-- runs -->", "<!-- end of runs -->"


def main() -> None:
    """Run, and with `--write` record the outcome."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="chooses faults, builds and moments")
    parser.add_argument("--executor", default="sandbox", choices=("process", "sandbox"))
    parser.add_argument("--write", action="store_true", help=f"record the run in {PAGE.name}")
    options = parser.parse_args()
    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="buildyard-chaos-") as folder:
        outcome = _run(Path(folder), options.faults, options.seed, options.executor)
    say(row(outcome))
    if options.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(END)
        PAGE.write_text(f"{before}{row(outcome)}\n{END}{rest}", encoding="utf-8")


def _run(folder: Path, faults: int, seed: int, executor: str) -> Outcome:
    os.environ["XDG_RUNTIME_DIR"] = str(folder)  # where the database puts its socket
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g,mode=0700", "tmpfs", str(folder / "data")]
    has_disk = os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not has_disk:
        say("no small disk can be mounted here (it takes root): the disk is not filled")
    try:
        with database() as server, _engine() as podman:
            story = chaos(
                folder,
                server,
                executor=executor,
                faults=faults,
                seed=seed,
                has_disk=has_disk,
                podman=podman,
                tell=say,
            )
            return asyncio.run(story)
    finally:
        if has_disk:
            subprocess.run(["umount", "--lazy", str(folder / "data")], check=True)


@contextmanager
def _engine() -> Iterator[Podman | None]:
    """A container engine, if one can be started here."""
    if os.getuid() != 0 or not all(shutil.which(program) for program in ("podman", "runc", "conmon")):
        say("no container engine can be started here (it takes root, podman, runc and conmon): none dies")
        yield None
        return
    with fresh_podman() as podman:
        yield podman


def row(outcome: Outcome) -> str:
    """A line of the table of runs."""
    faults = ", ".join(f"{name} {count}" for name, count in sorted(outcome.faults.items()))
    ends = ", ".join(f"{count} {result}" for result, count in sorted(outcome.ends.items()))
    cells = (
        datetime.now(UTC).strftime("%Y-%m-%d"),
        str(outcome.seed),
        outcome.executor,
        f"{outcome.faults.total()}: {faults}",
        f"{outcome.ends.total()}: {ends}; {outcome.unanswered} submissions without an answer",
        f"{outcome.seconds:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def say(words: str) -> None:
    """Tell who runs this."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
