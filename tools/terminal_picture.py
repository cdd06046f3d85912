"""Draws docs/terminal.svg from what a terminal really showed: `tmux capture-pane -pe | tools/terminal_picture.py`."""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 110


def main() -> None:
    """Read the screen with its colours from standard input, hide the password, and write the picture."""
    screen = re.sub(r"(password )\S+", r"\1************", sys.stdin.read().rstrip())
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in screen.splitlines():
        console.print(Text.from_ansi(line), no_wrap=True, crop=True, overflow="ellipsis")
    drawn = console.export_svg(title="make run", unique_id="terminal")
    without_fonts = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (ROOT / "docs" / "terminal.svg").write_text(without_fonts.replace("Fira Code", "ui-monospace"), encoding="utf-8")


if __name__ == "__main__":
    main()
