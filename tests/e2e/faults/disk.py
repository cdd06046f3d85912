"""A small disk, and what fills it."""

import os
from contextlib import suppress
from pathlib import Path

MIB = 1024 * 1024


def fill(folder: Path, *, leave: int) -> Path:
    """Take all but so many bytes of a disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize) > leave:
            file.write(bytes(min(MIB, free - leave)))
    return ballast
