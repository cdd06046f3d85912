"""Puts real Buildbot into an environment of its own, for benchmarks: `python tools/install_buildbot.py`.

Prints the folder with its programs. Does nothing else if the pinned version is there already.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "4.3.0"
PACKAGES = ("buildbot", "buildbot-worker", "buildbot-www")
FOLDER = Path(__file__).parents[1] / ".cache" / f"buildbot-{VERSION}"


def is_installed(folder: Path) -> bool:
    """Whether the environment holds the pinned version and its programs start."""
    program = folder / "bin" / "buildbot"
    if not program.exists():
        return False
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return said.returncode == 0 and VERSION in said.stdout


def install(folder: Path = FOLDER) -> Path:
    """The folder of the programs of Buildbot, installed there if it was not."""
    if not is_installed(folder):
        venv.create(folder, clear=True, with_pip=True)
        pinned = [f"{name}=={VERSION}" for name in PACKAGES]
        python = folder / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned, "msgpack", "setuptools<80"], check=True)
        if not is_installed(folder):
            raise SystemExit(f"Buildbot {VERSION} does not start from {folder}")
    return folder / "bin"


def main() -> None:
    """Install and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    sys.stdout.write(f"{install(parser.parse_args().folder)}\n")


if __name__ == "__main__":
    main()
