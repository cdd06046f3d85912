"""The reference page of the command line: every command's help as it is printed, and the exit codes."""

import os
import subprocess
import sys
from pathlib import Path

from buildyard.cli.exits import MEANING

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("serve",),
    ("worker",),
    ("top",),
    ("audit",),
    ("worker", "list"),
    ("worker", "pause"),
    ("worker", "resume"),
    ("worker", "drain"),
    ("worker", "remove"),
    ("run",),
    ("builds",),
    ("show",),
    ("logs",),
    ("artifacts",),
    ("cancel",),
    ("retry",),
    ("doctor",),
    ("token", "create"),
    ("token", "list"),
    ("token", "revoke"),
    ("user", "create"),
    ("user", "list"),
    ("user", "password"),
)

INTRODUCTION = """\
# Command line

<!-- generated from src/buildyard/cli by tools/generate_docs.py -->

`buildyard` talks HTTP with the server that `BUILDYARD_URL` names (default: this machine's). It shows, in this order:
the token of `BUILDYARD_TOKEN`; the administrator's password of `BUILDYARD_ADMIN_PASSWORD`; the operator's token that
`serve` keeps in the data folder, where that can be read. All settings: [settings.md](settings.md).

With `--json` every command prints JSON on standard output, and errors as `{"error", "faults"}` on standard error. `run`
and `logs -f` print one JSON document a line. Colours and the live tree appear on a terminal only.

While `run` follows a build, the first Ctrl-C cancels it and waits for that; the second leaves at once.

## Exit codes

| code | meaning |
|---|---|
"""


def page(_root: Path) -> str:
    """The page, as Markdown."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANING.items())
    return INTRODUCTION + codes + "".join(_section(command) for command in COMMANDS)


def _section(command: tuple[str, ...]) -> str:
    return f"\n## `buildyard {' '.join(command)}`\n\n```\n{_help(command)}\n```\n"


def _help(command: tuple[str, ...]) -> str:
    """Printed by a process of its own, for the width of a page and without colours."""
    plain = {"PATH": os.defpath, "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1", "LANG": "C.UTF-8"}
    argv = [sys.executable, "-m", "buildyard.cli", *command, "--help"]
    said = subprocess.run(argv, env=plain, capture_output=True, text=True, check=True).stdout
    return "\n".join(line.rstrip() for line in said.strip().splitlines())
