"""What these tests share: a small disk, and what they take from the contract suites."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.conftest import s3_url
from needs import need

__all__ = ["s3_url"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a disk of its own of 64 MiB."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(folder)]
    is_mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    need(is_mounted, "the right to mount a small disk (root)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
